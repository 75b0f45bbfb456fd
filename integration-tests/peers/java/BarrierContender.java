import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.recipes.barriers.DistributedBarrier;
import org.apache.curator.framework.recipes.barriers.DistributedDoubleBarrier;
import org.apache.zookeeper.KeeperException;

/**
 * Meets the others for the given number of rounds. First it waits at Curator's DistributedBarrier BASE/gate-ROUND, which
 * somebody else lifts after having made BASE/lifted-ROUND. Then it enters Curator's DistributedDoubleBarrier BASE/meet-ROUND:
 * each makes a node below BASE/came-ROUND before it enters and below BASE/goes-ROUND before it leaves, and afterwards all must
 * have made theirs. Between the two it makes a node below BASE/inside-ROUND and waits for those of the others: Curator's enter
 * counts the members once more after it was told that all have come, and waits for ever when one has left by then.
 */
public final class BarrierContender {
    private final Peer peer;
    private final int members;
    private int violations;

    private BarrierContender(Peer peer, int members) {
        this.peer = peer;
        this.members = members;
    }

    public static void main(String[] args) throws Exception {
        try (Peer peer = new Peer(args)) {
            BarrierContender contender = new BarrierContender(peer, Integer.parseInt(args[4]));
            peer.waitForAll();
            for (int round = 0; round < peer.rounds; round++) {
                contender.round(round);
            }
            Peer.line("DONE id=%s rounds=%d violations=%d", peer.id, peer.rounds, contender.violations);
            System.exit(contender.violations == 0 ? 0 : 1);
        }
    }

    private void round(int round) throws Exception {
        DistributedBarrier gate = new DistributedBarrier(peer.client, peer.base + "/gate-" + round);
        demand(gate.waitOnBarrier(60, TimeUnit.SECONDS), "gate", round);
        demand(peer.client.checkExists().forPath(peer.base + "/lifted-" + round) != null, "early at the gate", round);
        DistributedDoubleBarrier meet =
                new DistributedDoubleBarrier(peer.client, peer.base + "/meet-" + round, members);
        demand(here("came", round) <= members, "too many", round);
        demand(meet.enter(60, TimeUnit.SECONDS), "enter", round);
        demand(count("came", round) == members, "early inside", round);
        here("inside", round);
        waitForAllInside(round);
        waitForNotices();
        here("goes", round);
        demand(meet.leave(60, TimeUnit.SECONDS), "leave", round);
        demand(count("goes", round) == members, "early outside", round);
    }

    private void waitForAllInside(int round) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
        while (count("inside", round) < members) {
            if (System.nanoTime() > deadline) {
                throw new IllegalStateException(peer.id + ": not all inside within 60 s");
            }
            Thread.sleep(5);
        }
    }

    /**
     * Waits until the barrier has noticed what it was told so far. A notice of the entry that comes late wakes it while it
     * leaves, and then Curator takes it for a sign that all have gone if only one other is still inside.
     */
    private void waitForNotices() throws Exception {
        CountDownLatch noticed = new CountDownLatch(1);
        // An answer comes behind the events before it, and one thread carries out the notices in their order.
        peer.client.checkExists().inBackground((client, event) -> client.runSafe(noticed::countDown)).forPath(peer.base);
        if (!noticed.await(60, TimeUnit.SECONDS)) {
            throw new IllegalStateException(peer.id + ": no answer within 60 s");
        }
    }

    private int here(String where, int round) throws Exception {
        String mine = peer.base + "/" + where + "-" + round + "/" + peer.id;
        try {
            peer.client.create().creatingParentsIfNeeded().forPath(mine, new byte[0]);
        } catch (KeeperException.NodeExistsException e) {
            // A create that was sent again after a lost reply.
        }
        return count(where, round);
    }

    private int count(String where, int round) throws Exception {
        return peer.client.getChildren().forPath(peer.base + "/" + where + "-" + round).size();
    }

    private void demand(boolean holds, String what, int round) {
        if (!holds) {
            violations++;
            Peer.line("VIOLATION id=%s n=%d %s", peer.id, round, what);
        }
    }
}
