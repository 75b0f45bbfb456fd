import static java.nio.charset.StandardCharsets.UTF_8;

import java.util.Comparator;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.recipes.leader.LeaderSelector;
import org.apache.curator.framework.recipes.leader.LeaderSelectorListenerAdapter;
import org.apache.zookeeper.data.Stat;

/** Is elected by Curator's LeaderSelector at BASE/lock, as often as asked, and writes the register each time it leads. */
public final class SelectorContender extends LeaderSelectorListenerAdapter {
    private final Peer peer;
    private final Register register;
    private final CountDownLatch left;
    private int round;

    private SelectorContender(Peer peer) throws Exception {
        this.peer = peer;
        register = new Register(peer);
        left = new CountDownLatch(peer.rounds);
    }

    public static void main(String[] args) throws Exception {
        int violations;
        try (Peer peer = new Peer(args)) {
            SelectorContender contender = new SelectorContender(peer);
            peer.waitForAll();
            peer.saySession();
            try (LeaderSelector selector = new LeaderSelector(peer.client, peer.base + "/lock", contender)) {
                selector.setId(peer.id);
                selector.autoRequeue();
                selector.start();
                if (!contender.left.await(150, TimeUnit.SECONDS)) {
                    throw new IllegalStateException(peer.id + ": " + contender.left.getCount() + " rounds not led");
                }
            }
            peer.saySession();
            violations = contender.register.violations();
            Peer.line("DONE id=%s rounds=%d violations=%d", peer.id, peer.rounds, violations);
        }
        System.exit(violations == 0 ? 0 : 1);
    }

    @Override
    public void takeLeadership(CuratorFramework client) throws Exception {
        if (left.getCount() == 0) {
            return;
        }
        round++;
        // The selector does not tell its node: whoever leads is first in line, and the data is the id.
        List<String> line = client.getChildren().forPath(peer.base + "/lock").stream()
                .sorted(Comparator.comparing((String name) -> name.substring(name.length() - 10)))
                .collect(Collectors.toList());
        String path = peer.base + "/lock/" + line.get(0);
        Stat stat = new Stat();
        String first = new String(client.getData().storingStatIn(stat).forPath(path), UTF_8);
        if (!first.equals(peer.id)) {
            Peer.line("VIOLATION id=%s n=%d leads, and %s of %s is first", peer.id, round, path, first);
        }
        long count = register.write(stat.getCzxid());
        Peer.line("ROUND id=%s n=%d node=%s token=%d count=%d", peer.id, round, path, stat.getCzxid(), count);
        left.countDown();
    }
}
