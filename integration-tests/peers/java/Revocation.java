import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.locks.Revoker;

/**
 * Curator's two sides of revocation at BASE/lock, for each round: as the holder it makes its mutex revocable, prints
 * HOLDING, waits to be asked and lets go; as the asker it asks the holder, prints ASKED, and acquires. Whoever holds says
 * so by a node BASE/holding-N. Arguments: those of every contender; an ID that begins with `ask` asks.
 */
public final class Revocation {
    private static final long BOUND_S = 60;

    public static void main(String[] args) throws Exception {
        try (Peer peer = new Peer(args)) {
            InterProcessMutex mutex = new InterProcessMutex(peer.client, peer.base + "/lock");
            peer.waitForAll();
            for (int round = 1; round <= peer.rounds; round++) {
                if (peer.id.startsWith("ask")) {
                    ask(peer, mutex, round);
                } else {
                    hold(peer, mutex, round);
                }
            }
            Peer.line("DONE id=%s rounds=%d violations=0", peer.id, peer.rounds);
        }
    }

    private static void hold(Peer peer, InterProcessMutex mutex, int round) throws Exception {
        CountDownLatch asked = new CountDownLatch(1);
        mutex.makeRevocable(lock -> asked.countDown());
        await(mutex.acquire(BOUND_S, TimeUnit.SECONDS), peer.id + ": not acquired");
        // Before this moment its watch may not be set, and a request would not be noticed.
        peer.client.create().forPath(peer.base + "/holding-" + round, new byte[0]);
        Peer.line("HOLDING id=%s n=%d", peer.id, round);
        await(asked.await(BOUND_S, TimeUnit.SECONDS), peer.id + ": not asked");
        Peer.line("YIELDED id=%s n=%d", peer.id, round);
        mutex.release();
    }

    private static void ask(Peer peer, InterProcessMutex mutex, int round) throws Exception {
        String line = peer.base + "/lock";
        String said = peer.base + "/holding-" + round;
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(BOUND_S);
        while (peer.client.checkExists().forPath(said) == null) {
            await(System.nanoTime() < deadline, peer.id + ": nobody holds");
            Thread.sleep(10);
        }
        List<String> names = peer.client.getChildren().forPath(line);
        await(names.size() == 1, peer.id + ": not one in line: " + names);
        Revoker.attemptRevoke(peer.client, line + "/" + names.get(0));
        Peer.line("ASKED id=%s n=%d", peer.id, round);
        await(mutex.acquire(BOUND_S, TimeUnit.SECONDS), peer.id + ": not acquired");
        mutex.release();
        peer.client.create().forPath(peer.base + "/had-" + round, new byte[0]);
    }

    private static void await(boolean holds, String what) {
        if (!holds) {
            throw new IllegalStateException(what + " within " + BOUND_S + " s");
        }
    }
}
