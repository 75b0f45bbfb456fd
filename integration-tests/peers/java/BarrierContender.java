import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.recipes.barriers.DistributedBarrier;
import org.apache.curator.framework.recipes.barriers.DistributedDoubleBarrier;
import org.apache.zookeeper.KeeperException;

/**
 * Meets the others for the given number of rounds. First it waits at Curator's DistributedBarrier BASE/gate-ROUND, which
 * somebody else lifts after having made BASE/lifted-ROUND. Then it enters Curator's DistributedDoubleBarrier BASE/meet-ROUND:
 * each makes a node below BASE/came-ROUND before it enters and below BASE/goes-ROUND before it leaves, and afterwards all must
 * have made theirs.
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
        here("goes", round);
        demand(meet.leave(60, TimeUnit.SECONDS), "leave", round);
        demand(count("goes", round) == members, "early outside", round);
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
