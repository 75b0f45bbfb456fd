import java.util.Collection;
import java.util.TreeSet;
import java.util.function.Predicate;
import org.apache.curator.x.discovery.ServiceDiscovery;
import org.apache.curator.x.discovery.ServiceDiscoveryBuilder;
import org.apache.curator.x.discovery.ServiceInstance;
import org.apache.curator.x.discovery.ServiceProvider;
import org.apache.curator.x.discovery.UriSpec;
import org.apache.zookeeper.KeeperException;

/**
 * Registers itself with Curator's ServiceDiscovery at BASE/services as an instance of the service `search`, and sees all
 * contenders, by a query and by a provider that is kept up to date: first with the payload ID-1, then, once BASE/updated is
 * there, with ID-2, and after its own unregistering not itself any more. It prints every instance as it sees it.
 */
public final class DiscoveryContender {
    private static final long BOUND_MS = 60_000;

    public static void main(String[] args) throws Exception {
        try (Peer peer = new Peer(args)) {
            ServiceInstance<String> mine = instance(peer, peer.id + "-1", 1_700_000_000_000L);
            try (ServiceDiscovery<String> discovery =
                            ServiceDiscoveryBuilder.builder(String.class)
                                    .client(peer.client)
                                    .basePath(peer.base + "/services")
                                    .thisInstance(mine)
                                    .build();
                    ServiceProvider<String> provider = discovery.serviceProviderBuilder().serviceName("search").build()) {
                discovery.start();
                provider.start();
                peer.waitForAll();
                sees(peer, discovery, provider, peer.contenders, one -> one.getPayload().endsWith("-1"));
                here(peer, "saw-1");
                await("updated", () -> peer.client.checkExists().forPath(peer.base + "/updated") != null);
                discovery.updateService(instance(peer, peer.id + "-2", mine.getRegistrationTimeUTC()));
                sees(peer, discovery, provider, peer.contenders, one -> one.getPayload().endsWith("-2"));
                for (ServiceInstance<String> one : discovery.queryForInstances("search")) {
                    Peer.line("INSTANCE id=%s payload=%s uri=%s", one.getId(), one.getPayload(), one.buildUriSpec());
                }
                here(peer, "saw-2");
                await("ended", () -> peer.client.checkExists().forPath(peer.base + "/ended") != null);
                discovery.unregisterService(mine);
                // Whoever has not gone yet is there; at last nobody is.
                sees(peer, discovery, provider, 0, one -> true);
            }
            Peer.line("DONE id=%s rounds=%d", peer.id, peer.rounds);
        }
    }

    private static ServiceInstance<String> instance(Peer peer, String payload, long registered) throws Exception {
        return ServiceInstance.<String>builder()
                .name("search")
                .id(peer.id)
                .address("10.0.0.2")
                .port(8080)
                .payload(payload)
                .registrationTimeUTC(registered)
                .uriSpec(new UriSpec("{scheme}://{address}:{port}/{id}"))
                .build();
    }

    private static void sees(
            Peer peer,
            ServiceDiscovery<String> discovery,
            ServiceProvider<String> provider,
            int wanted,
            Predicate<ServiceInstance<String>> so)
            throws Exception {
        await(wanted + " by a query", () -> so(discovery.queryForInstances("search"), wanted, so));
        await(wanted + " by a provider", () -> so(provider.getAllInstances(), wanted, so));
    }

    private static boolean so(
            Collection<ServiceInstance<String>> seen, int wanted, Predicate<ServiceInstance<String>> so) {
        TreeSet<String> ids = new TreeSet<>();
        seen.stream().filter(so).forEach(one -> ids.add(one.getId()));
        return ids.size() == wanted && seen.size() == wanted;
    }

    private static void here(Peer peer, String where) throws Exception {
        try {
            peer.client.create().creatingParentsIfNeeded().forPath(peer.base + "/" + where + "/" + peer.id, new byte[0]);
        } catch (KeeperException.NodeExistsException e) {
            // A create that was sent again after a lost reply.
        }
    }

    private interface Condition {
        boolean holds() throws Exception;
    }

    private static void await(String what, Condition condition) throws Exception {
        long deadline = System.nanoTime() + BOUND_MS * 1_000_000;
        while (!condition.holds()) {
            if (System.nanoTime() > deadline) {
                throw new IllegalStateException("not within " + BOUND_MS + " ms: " + what);
            }
            Thread.sleep(20);
        }
    }
}
