import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.zookeeper.data.Stat;

/** Acquires Curator's InterProcessMutex at BASE/lock for the given number of rounds; writes the register in each. */
public final class MutexContender {
    /** Curator shows the path of the held node to subclasses only. */
    private static final class OwnMutex extends InterProcessMutex {
        OwnMutex(CuratorFramework client, String path) {
            super(client, path);
        }

        String heldPath() {
            return getLockPath();
        }
    }

    public static void main(String[] args) throws Exception {
        int violations;
        try (Peer peer = new Peer(args)) {
            Register register = new Register(peer);
            OwnMutex mutex = new OwnMutex(peer.client, peer.base + "/lock");
            peer.waitForAll();
            peer.saySession();
            for (int round = 1; peer.goesOn(round); round++) {
                round(peer, mutex, register, round);
            }
            peer.saySession();
            violations = register.violations();
            Peer.line("DONE id=%s rounds=%d violations=%d", peer.id, peer.rounds, violations);
        }
        System.exit(violations == 0 ? 0 : 1);
    }

    private static void round(Peer peer, OwnMutex mutex, Register register, int round) throws Exception {
        if (!mutex.acquire(60, TimeUnit.SECONDS)) {
            throw new IllegalStateException(peer.id + ": not acquired within 60 s");
        }
        try {
            String path = mutex.heldPath();
            Stat stat = peer.client.checkExists().forPath(path);
            if (stat == null) {
                Peer.line("LOST id=%s n=%d node=%s", peer.id, round, path);
                return;
            }
            long count = register.write(stat.getCzxid());
            Peer.line("ROUND id=%s n=%d node=%s token=%d count=%d", peer.id, round, path, stat.getCzxid(), count);
        } finally {
            mutex.release();
        }
    }
}
