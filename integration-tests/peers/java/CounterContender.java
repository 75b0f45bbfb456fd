import org.apache.curator.framework.recipes.atomic.AtomicValue;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicInteger;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicLong;
import org.apache.curator.framework.recipes.shared.SharedCount;
import org.apache.curator.framework.recipes.shared.VersionedValue;
import org.apache.curator.retry.RetryNTimes;

/**
 * Adds one to each of three of Curator's counters for the given number of rounds: DistributedAtomicLong at BASE/long,
 * DistributedAtomicInteger at BASE/integer, SharedCount at BASE/count.
 */
public final class CounterContender {
    public static void main(String[] args) throws Exception {
        try (Peer peer = new Peer(args)) {
            RetryNTimes retry = new RetryNTimes(10_000, 5);
            DistributedAtomicLong longs = new DistributedAtomicLong(peer.client, peer.base + "/long", retry);
            DistributedAtomicInteger integers =
                    new DistributedAtomicInteger(peer.client, peer.base + "/integer", retry);
            try (SharedCount count = new SharedCount(peer.client, peer.base + "/count", 0)) {
                count.start();
                peer.waitForAll();
                for (int round = 0; round < peer.rounds; round++) {
                    succeeded(longs.increment());
                    succeeded(integers.increment());
                    VersionedValue<Integer> before = count.getVersionedValue();
                    while (!count.trySetCount(before, before.getValue() + 1)) {
                        before = count.getVersionedValue();
                    }
                }
            }
            Peer.line("DONE id=%s rounds=%d", peer.id, peer.rounds);
        }
    }

    private static void succeeded(AtomicValue<?> value) {
        if (!value.succeeded()) {
            throw new IllegalStateException("not added within its retries");
        }
    }
}
