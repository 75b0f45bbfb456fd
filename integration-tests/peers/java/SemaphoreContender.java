import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreV2;
import org.apache.curator.framework.recipes.locks.Lease;
import org.apache.zookeeper.KeeperException;

/**
 * Takes a permit of Curator's InterProcessSemaphoreV2 at BASE/semaphore, which has two, for the given number of rounds.
 * While it holds one it makes a node below BASE/inside and counts who is there: more than two is a violation. A node is
 * made after the permit is taken and deleted before it is given back, so the count never exceeds the holders.
 */
public final class SemaphoreContender {
    private static final int PERMITS = 2;

    public static void main(String[] args) throws Exception {
        int violations = 0;
        try (Peer peer = new Peer(args)) {
            InterProcessSemaphoreV2 semaphore =
                    new InterProcessSemaphoreV2(peer.client, peer.base + "/semaphore", PERMITS);
            peer.waitForAll();
            for (int round = 1; round <= peer.rounds; round++) {
                Lease lease = semaphore.acquire(60, TimeUnit.SECONDS);
                if (lease == null) {
                    throw new IllegalStateException(peer.id + ": no permit within 60 s");
                }
                try {
                    int inside = enter(peer, round);
                    if (inside > PERMITS) {
                        violations++;
                        Peer.line("VIOLATION id=%s n=%d inside=%d", peer.id, round, inside);
                    }
                    Peer.line("INSIDE id=%s n=%d inside=%d", peer.id, round, inside);
                } finally {
                    semaphore.returnLease(lease);
                }
            }
            Peer.line("DONE id=%s rounds=%d violations=%d", peer.id, peer.rounds, violations);
        }
        System.exit(violations == 0 ? 0 : 1);
    }

    private static int enter(Peer peer, int round) throws Exception {
        String mine = peer.base + "/inside/" + peer.id + "-" + round;
        try {
            peer.client.create().creatingParentsIfNeeded().forPath(mine, new byte[0]);
        } catch (KeeperException.NodeExistsException e) {
            // A create that was sent again after a lost reply.
        }
        int inside = peer.client.getChildren().forPath(peer.base + "/inside").size();
        peer.client.delete().forPath(mine);
        return inside;
    }
}
