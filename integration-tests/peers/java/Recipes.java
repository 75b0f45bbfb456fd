import static java.nio.charset.StandardCharsets.UTF_8;

import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicLong;
import org.apache.curator.framework.recipes.barriers.DistributedBarrier;
import org.apache.curator.framework.recipes.cache.CuratorCache;
import org.apache.curator.framework.recipes.cache.CuratorCacheListener;
import org.apache.curator.framework.recipes.leader.LeaderSelector;
import org.apache.curator.framework.recipes.leader.LeaderSelectorListenerAdapter;
import org.apache.curator.framework.recipes.locks.InterProcessReadWriteLock;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreV2;
import org.apache.curator.framework.recipes.locks.Lease;
import org.apache.curator.framework.recipes.nodes.GroupMember;
import org.apache.curator.framework.recipes.nodes.PersistentNode;
import org.apache.curator.framework.recipes.shared.SharedCount;
import org.apache.curator.retry.RetryOneTime;
import org.apache.zookeeper.CreateMode;

/** Curator's recipes, two clients each where it takes two. Arguments: CONNECT BASE. */
public final class Recipes {
    private final String base;
    private final CuratorFramework one;
    private final CuratorFramework two;

    private Recipes(String connectString, String base) throws Exception {
        this.base = base + "/recipes";
        one = Peer.connect(connectString, 10_000);
        two = Peer.connect(connectString, 10_000);
    }

    public static void main(String[] args) throws Exception {
        Recipes recipes = new Recipes(args[0], args[1]);
        Checks checks = new Checks();
        checks.check("cache-tree", recipes::cacheTree);
        checks.check("cache-node", recipes::cacheNode);
        checks.check("group-member", recipes::groupMember);
        checks.check("persistent-node", recipes::persistentNode);
        checks.check("shared-count", recipes::sharedCount);
        checks.check("atomic-long", recipes::atomicLong);
        checks.check("barrier", recipes::barrier);
        checks.check("read-write-lock", recipes::readWriteLock);
        checks.check("semaphore", recipes::semaphore);
        checks.check("leader-selector", recipes::leaderSelector);
        recipes.one.close();
        recipes.two.close();
        checks.finish();
    }

    private void cacheTree() throws Exception {
        String path = base + "/tree";
        one.create().creatingParentsIfNeeded().forPath(path, "root".getBytes(UTF_8));
        BlockingQueue<String> events = new LinkedBlockingQueue<>();
        try (CuratorCache cache = CuratorCache.build(one, path)) {
            cache.listenable()
                    .addListener(
                            CuratorCacheListener.builder()
                                    .forCreates(node -> events.add("created " + node.getPath()))
                                    .forChanges((old, node) -> events.add("changed " + new String(node.getData(), UTF_8)))
                                    .forDeletes(node -> events.add("deleted " + node.getPath()))
                                    .build());
            cache.start();
            Checks.equal("created " + path, events.poll(10, TimeUnit.SECONDS));
            two.create().forPath(path + "/a", "1".getBytes(UTF_8));
            Checks.equal("created " + path + "/a", events.poll(10, TimeUnit.SECONDS));
            two.setData().forPath(path + "/a", "2".getBytes(UTF_8));
            Checks.equal("changed 2", events.poll(10, TimeUnit.SECONDS));
            two.delete().forPath(path + "/a");
            Checks.equal("deleted " + path + "/a", events.poll(10, TimeUnit.SECONDS));
        }
    }

    private void cacheNode() throws Exception {
        String path = base + "/node";
        try (CuratorCache cache = CuratorCache.build(one, path, CuratorCache.Options.SINGLE_NODE_CACHE)) {
            cache.start();
            two.create().creatingParentsIfNeeded().forPath(path, "1".getBytes(UTF_8));
            Checks.eventually("the first value", () -> holds(cache, path, "1"));
            two.setData().forPath(path, "2".getBytes(UTF_8));
            Checks.eventually("the second value", () -> holds(cache, path, "2"));
        }
    }

    private static boolean holds(CuratorCache cache, String path, String value) {
        return cache.get(path).map(node -> new String(node.getData(), UTF_8).equals(value)).orElse(false);
    }

    private void groupMember() throws Exception {
        String path = base + "/group";
        try (GroupMember a = new GroupMember(one, path, "a", "1".getBytes(UTF_8));
                GroupMember b = new GroupMember(two, path, "b", "2".getBytes(UTF_8))) {
            a.start();
            b.start();
            Checks.eventually("both see both", () -> a.getCurrentMembers().size() == 2 && b.getCurrentMembers().size() == 2);
            a.setThisData("3".getBytes(UTF_8));
            Checks.eventually("b sees the new data", () -> "3".equals(new String(b.getCurrentMembers().get("a"), UTF_8)));
            two.delete().forPath(path + "/b");
            Checks.eventually("b has joined again", () -> one.checkExists().forPath(path + "/b") != null);
        }
        Checks.eventually("both have left", () -> one.getChildren().forPath(path).isEmpty());
    }

    private void persistentNode() throws Exception {
        String path = base + "/persistent";
        try (PersistentNode node = new PersistentNode(one, CreateMode.EPHEMERAL, false, path, "x".getBytes(UTF_8))) {
            node.start();
            Checks.isTrue(node.waitForInitialCreate(10, TimeUnit.SECONDS), "never created");
            two.delete().forPath(path);
            Checks.eventually("made again", () -> two.checkExists().forPath(path) != null);
        }
    }

    private void sharedCount() throws Exception {
        try (SharedCount a = new SharedCount(one, base + "/count", 5);
                SharedCount b = new SharedCount(two, base + "/count", 5)) {
            a.start();
            b.start();
            Checks.isTrue(a.trySetCount(a.getVersionedValue(), 6), "the set was refused");
            Checks.eventually("b sees 6", () -> b.getCount() == 6);
        }
    }

    private void atomicLong() throws Exception {
        DistributedAtomicLong a = new DistributedAtomicLong(one, base + "/atomic", new RetryOneTime(10));
        DistributedAtomicLong b = new DistributedAtomicLong(two, base + "/atomic", new RetryOneTime(10));
        Checks.isTrue(a.add(40L).succeeded() && b.add(2L).succeeded(), "an add failed");
        Checks.equal(42L, a.get().postValue());
    }

    private void barrier() throws Exception {
        DistributedBarrier barrier = new DistributedBarrier(one, base + "/barrier");
        barrier.setBarrier();
        Checks.isTrue(!new DistributedBarrier(two, base + "/barrier").waitOnBarrier(200, TimeUnit.MILLISECONDS), "passed a closed barrier");
        barrier.removeBarrier();
        Checks.isTrue(new DistributedBarrier(two, base + "/barrier").waitOnBarrier(10, TimeUnit.SECONDS), "stuck at an open barrier");
    }

    private void readWriteLock() throws Exception {
        InterProcessReadWriteLock a = new InterProcessReadWriteLock(one, base + "/rw");
        InterProcessReadWriteLock b = new InterProcessReadWriteLock(two, base + "/rw");
        a.readLock().acquire();
        Checks.isTrue(b.readLock().acquire(10, TimeUnit.SECONDS), "two readers exclude each other");
        b.readLock().release();
        Checks.isTrue(!b.writeLock().acquire(200, TimeUnit.MILLISECONDS), "a writer beside a reader");
        a.readLock().release();
        Checks.isTrue(b.writeLock().acquire(10, TimeUnit.SECONDS), "no writer though all readers have gone");
        b.writeLock().release();
    }

    private void semaphore() throws Exception {
        InterProcessSemaphoreV2 a = new InterProcessSemaphoreV2(one, base + "/semaphore", 2);
        InterProcessSemaphoreV2 b = new InterProcessSemaphoreV2(two, base + "/semaphore", 2);
        Lease first = a.acquire();
        Lease second = b.acquire();
        Checks.equal(null, b.acquire(200, TimeUnit.MILLISECONDS));
        a.returnLease(first);
        Lease third = b.acquire(10, TimeUnit.SECONDS);
        Checks.isTrue(third != null, "a returned lease is not given out");
        b.returnAll(List.of(second, third));
    }

    private void leaderSelector() throws Exception {
        BlockingQueue<String> led = new LinkedBlockingQueue<>();
        try (LeaderSelector a = new LeaderSelector(one, base + "/selector", leads(led, "a"));
                LeaderSelector b = new LeaderSelector(two, base + "/selector", leads(led, "b"))) {
            a.start();
            b.start();
            HashSet<String> seen = new HashSet<>(Arrays.asList(led.poll(10, TimeUnit.SECONDS), led.poll(10, TimeUnit.SECONDS)));
            Checks.equal(new HashSet<>(Arrays.asList("a", "b")), seen);
            // Closing a selector that still releases its lock interrupts it, which Curator logs as an error.
            Checks.eventually("both have let go", () -> one.getChildren().forPath(base + "/selector").isEmpty());
        }
    }

    private static LeaderSelectorListenerAdapter leads(BlockingQueue<String> led, String name) {
        return new LeaderSelectorListenerAdapter() {
            @Override
            public void takeLeadership(CuratorFramework client) {
                led.add(name);
            }
        };
    }
}
