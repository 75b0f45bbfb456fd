import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.retry.ExponentialBackoffRetry;
import org.apache.zookeeper.KeeperException;

/**
 * What every contender shares: its arguments, its client, and the gate at which contenders wait for each other.
 *
 * <p>Arguments: CONNECT BASE ROUNDS ID [CONTENDERS [SESSION_MS]]. All nodes lie below BASE: the recipe's own path, the
 * register, and the gate. The register must not lie below the lock's path, since Curator takes every child of that
 * for a contender. ROUNDS 0 stands for as many as there are until BASE/enough is there. A session is long: none shall
 * end because a machine was slow.
 */
final class Peer implements AutoCloseable {
    private static final long GATE_BOUND_MS = 60_000;

    final String base;
    final int rounds;
    final String id;
    final CuratorFramework client;
    final int contenders;

    Peer(String[] args) throws Exception {
        if (args.length < 4 || args.length > 6) {
            throw new IllegalArgumentException("usage: CONNECT BASE ROUNDS ID [CONTENDERS [SESSION_MS]]");
        }
        base = args[1];
        rounds = Integer.parseInt(args[2]);
        id = args[3];
        contenders = args.length > 4 ? Integer.parseInt(args[4]) : 1;
        int sessionMs = args.length > 5 ? Integer.parseInt(args[5]) : 30_000;
        client = connect(args[0], sessionMs);
    }

    static CuratorFramework connect(String connectString, int sessionMs) throws Exception {
        CuratorFramework client =
                CuratorFrameworkFactory.newClient(connectString, sessionMs, 15_000, new ExponentialBackoffRetry(50, 20, 2_000));
        client.start();
        if (!client.blockUntilConnected(30, TimeUnit.SECONDS)) {
            throw new IllegalStateException("no connection to " + connectString + " within 30 s");
        }
        return client;
    }

    /** Prints the session's number: the same at the beginning and at the end, unless the session was lost between. */
    void saySession() throws Exception {
        line("SESSION id=%s session=0x%x", id, client.getZookeeperClient().getZooKeeper().getSessionId());
    }

    /** A Java process needs a second to start; without the gate the first contender would be done before the second. */
    void waitForAll() throws Exception {
        create(base + "/ready/" + id);
        long deadline = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(GATE_BOUND_MS);
        while (client.getChildren().forPath(base + "/ready").size() < contenders) {
            if (System.nanoTime() > deadline) {
                throw new IllegalStateException("fewer than " + contenders + " contenders came within " + GATE_BOUND_MS + " ms");
            }
            Thread.sleep(20);
        }
    }

    /** Whether there is to be a round with this number, from 1. */
    boolean goesOn(int round) throws Exception {
        return rounds > 0 ? round <= rounds : client.checkExists().forPath(base + "/enough") == null;
    }

    private void create(String path) throws Exception {
        try {
            client.create().creatingParentsIfNeeded().forPath(path, new byte[0]);
        } catch (KeeperException.NodeExistsException e) {
            // A create that was sent again after a lost reply.
        }
    }

    /** Prints one line for the harness: a word, then key=value pairs. */
    static void line(String format, Object... args) {
        System.out.println(String.format(format, args));
        System.out.flush();
    }

    @Override
    public void close() {
        client.close();
    }
}
