import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.zookeeper.data.Stat;

/** Becomes leader by Curator's LeaderLatch at BASE/latch, writes the register, closes the latch; as often as asked. */
public final class LatchContender {
    public static void main(String[] args) throws Exception {
        int violations;
        try (Peer peer = new Peer(args)) {
            Register register = new Register(peer);
            peer.waitForAll();
            peer.saySession();
            for (int round = 1; peer.goesOn(round); round++) {
                round(peer, register, round);
            }
            peer.saySession();
            violations = register.violations();
            Peer.line("DONE id=%s rounds=%d violations=%d", peer.id, peer.rounds, violations);
        }
        System.exit(violations == 0 ? 0 : 1);
    }

    private static void round(Peer peer, Register register, int round) throws Exception {
        try (LeaderLatch latch = new LeaderLatch(peer.client, peer.base + "/latch", peer.id)) {
            latch.start();
            if (!latch.await(60, TimeUnit.SECONDS)) {
                throw new IllegalStateException(peer.id + ": not leader within 60 s");
            }
            String path = latch.getOurPath();
            Stat stat = path == null ? null : peer.client.checkExists().forPath(path);
            if (stat == null) {
                Peer.line("LOST id=%s n=%d node=%s", peer.id, round, path);
                return;
            }
            long count = register.write(stat.getCzxid());
            Peer.line("ROUND id=%s n=%d node=%s token=%d count=%d", peer.id, round, path, stat.getCzxid(), count);
        }
    }
}
