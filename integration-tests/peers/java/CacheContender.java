import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.TreeMap;
import java.util.function.Supplier;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.recipes.cache.ChildData;
import org.apache.curator.framework.recipes.cache.CuratorCache;
import org.apache.curator.framework.recipes.cache.NodeCache;
import org.apache.curator.framework.recipes.cache.PathChildrenCache;
import org.apache.curator.framework.recipes.cache.TreeCache;
import org.apache.zookeeper.data.Stat;

/**
 * Keeps Curator's four caches of BASE/tree while it and the other contenders write there, each below a node of its own, and
 * checks at the end that all four hold what the server has. It prints what that is.
 */
public final class CacheContender {
    private static final int NODES = 7;
    private static final long BOUND_MS = 30_000;

    public static void main(String[] args) throws Exception {
        try (Peer peer = new Peer(args)) {
            String tree = peer.base + "/tree";
            // Apache's server 3.8 keeps only one kind of watch for each client and path, and this one is a persistent watch.
            try (CuratorFramework ofItsOwn = Peer.connect(args[0], 10_000);
                    CuratorCache all = CuratorCache.build(ofItsOwn, tree);
                    TreeCache older = new TreeCache(peer.client, tree);
                    PathChildrenCache children = new PathChildrenCache(peer.client, tree, true);
                    NodeCache node = new NodeCache(peer.client, tree)) {
                all.start();
                older.start();
                children.start();
                node.start();
                peer.waitForAll();
                write(peer, tree);
                peer.client.create().forPath(tree + "/end-" + peer.id);
                waitForTheEnds(peer, tree);
                Map<String, Long> wanted = new TreeMap<>();
                read(peer, tree, wanted);
                settles("CuratorCache", wanted, () -> {
                    Map<String, Long> seen = new TreeMap<>();
                    all.stream().forEach(data -> put(seen, data));
                    return seen;
                });
                settles("TreeCache", wanted, () -> {
                    Map<String, Long> seen = new TreeMap<>();
                    collect(older, tree, seen);
                    return seen;
                });
                Map<String, Long> ofChildren = new TreeMap<>(wanted);
                ofChildren.keySet().removeIf(path -> path.lastIndexOf('/') != tree.length());
                settles("PathChildrenCache", ofChildren, () -> {
                    Map<String, Long> seen = new TreeMap<>();
                    children.getCurrentData().forEach(data -> put(seen, data));
                    return seen;
                });
                settles("NodeCache", Map.of(tree, wanted.get(tree)), () -> {
                    Map<String, Long> seen = new TreeMap<>();
                    put(seen, node.getCurrentData());
                    return seen;
                });
                wanted.forEach((path, mzxid) -> Peer.line("NODE path=%s mzxid=%d", path, mzxid));
            }
            Peer.line("DONE id=%s rounds=%d", peer.id, peer.rounds);
        }
    }

    private static void write(Peer peer, String tree) throws Exception {
        for (int round = 0; round < peer.rounds; round++) {
            byte[] data = (peer.id + "-" + round).getBytes(StandardCharsets.UTF_8);
            String path = tree + "/" + peer.id + "/" + round % NODES;
            if (round % 3 == 2 && peer.client.checkExists().forPath(path) != null) {
                peer.client.delete().forPath(path);
            } else {
                peer.client.create().orSetData().creatingParentsIfNeeded().forPath(path, data);
            }
            if (round % NODES == 0) {
                peer.client.setData().forPath(tree, data);
            }
        }
    }

    private static void waitForTheEnds(Peer peer, String tree) throws Exception {
        long deadline = System.nanoTime() + BOUND_MS * 1_000_000;
        while (peer.client.getChildren().forPath(tree).stream().filter(name -> name.startsWith("end-")).count()
                < peer.contenders) {
            bounded(deadline, "not all have written");
        }
    }

    /** The server's tree: the mzxid of each node by its path. */
    private static void read(Peer peer, String path, Map<String, Long> found) throws Exception {
        Stat stat = new Stat();
        peer.client.getData().storingStatIn(stat).forPath(path);
        found.put(path, stat.getMzxid());
        for (String name : peer.client.getChildren().forPath(path)) {
            read(peer, path + "/" + name, found);
        }
    }

    private static void collect(TreeCache cache, String path, Map<String, Long> seen) {
        put(seen, cache.getCurrentData(path));
        Map<String, ChildData> children = cache.getCurrentChildren(path);
        if (children != null) {
            children.values().forEach(child -> collect(cache, child.getPath(), seen));
        }
    }

    private static void put(Map<String, Long> seen, ChildData data) {
        if (data != null) {
            seen.put(data.getPath(), data.getStat().getMzxid());
        }
    }

    private static void settles(String cache, Map<String, Long> wanted, Supplier<Map<String, Long>> seen)
            throws Exception {
        long deadline = System.nanoTime() + BOUND_MS * 1_000_000;
        while (!seen.get().equals(wanted)) {
            bounded(deadline, cache + " holds " + seen.get() + " instead of " + wanted);
        }
    }

    private static void bounded(long deadline, String what) throws Exception {
        if (System.nanoTime() > deadline) {
            throw new IllegalStateException(what);
        }
        Thread.sleep(20);
    }
}
