import static java.nio.charset.StandardCharsets.UTF_8;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.api.transaction.CuratorTransactionResult;
import org.apache.curator.retry.RetryOneTime;
import org.apache.zookeeper.AddWatchMode;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.Op;
import org.apache.zookeeper.OpResult;
import org.apache.zookeeper.WatchedEvent;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.ZooDefs;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.data.ACL;
import org.apache.zookeeper.data.Id;
import org.apache.zookeeper.data.Stat;

/** What Apache's Java client and Curator's framework ask of a server. Arguments: CONNECT BASE. */
public final class Framework {
    private final String connectString;
    private final String base;
    private final CuratorFramework client;

    private Framework(String connectString, String base) throws Exception {
        this.connectString = connectString;
        this.base = base;
        client = Peer.connect(connectString, 10_000);
    }

    public static void main(String[] args) throws Exception {
        Framework framework = new Framework(args[0], args[1]);
        Checks checks = new Checks();
        framework.nodes(checks);
        framework.watches(checks);
        framework.transactions(checks);
        framework.access(checks);
        framework.sessions(checks);
        framework.client.close();
        checks.finish();
    }

    private ZooKeeper raw() throws Exception {
        return client.getZookeeperClient().getZooKeeper();
    }

    private String fresh(String name) throws Exception {
        String path = base + "/framework/" + name;
        client.create().creatingParentsIfNeeded().forPath(path, "v0".getBytes(UTF_8));
        return path;
    }

    private void nodes(Checks checks) {
        checks.check("create-get-set-delete", this::createGetSetDelete);
        checks.check("versions", this::versions);
        checks.check("children", this::children);
        checks.check("sequential", this::sequential);
        checks.check("sequential-protected", this::sequentialProtected);
        checks.check("container", this::container);
        checks.check("ttl", this::ttl);
        checks.check("large-data", this::largeData);
        checks.check("null-data", this::nullData);
        checks.check("bad-paths", this::badPaths);
        checks.check("create-with-stat", this::createWithStat);
        checks.check("namespace", this::namespace);
        checks.check("sync", () -> raw().sync(fresh("sync"), (code, path, context) -> { }, null));
    }

    private void createGetSetDelete() throws Exception {
        String path = fresh("plain");
        Checks.equal("v0", new String(client.getData().forPath(path), UTF_8));
        Stat stat = client.setData().forPath(path, "v1".getBytes(UTF_8));
        Checks.equal(1, stat.getVersion());
        Checks.equal(2, stat.getDataLength());
        Checks.equal("v1", new String(client.getData().forPath(path), UTF_8));
        client.delete().forPath(path);
        Checks.equal(null, client.checkExists().forPath(path));
        Checks.refused(KeeperException.NoNodeException.class, () -> client.getData().forPath(path));
    }

    private void versions() throws Exception {
        String path = fresh("versions");
        Checks.refused(KeeperException.BadVersionException.class, () -> client.setData().withVersion(7).forPath(path));
        client.setData().withVersion(0).forPath(path);
        Checks.refused(KeeperException.BadVersionException.class, () -> client.delete().withVersion(0).forPath(path));
        Checks.refused(KeeperException.NodeExistsException.class, () -> client.create().forPath(path));
        client.delete().withVersion(1).forPath(path);
    }

    private void children() throws Exception {
        String path = fresh("children");
        for (String name : Arrays.asList("a", "b", "c")) {
            client.create().forPath(path + "/" + name);
        }
        Stat stat = new Stat();
        List<String> names = client.getChildren().storingStatIn(stat).forPath(path);
        Collections.sort(names);
        Checks.equal(Arrays.asList("a", "b", "c"), names);
        Checks.equal(3, stat.getNumChildren());
        Checks.equal(3, stat.getCversion());
        Checks.equal(3, raw().getAllChildrenNumber(path));
        Checks.refused(KeeperException.NotEmptyException.class, () -> client.delete().forPath(path));
        client.delete().deletingChildrenIfNeeded().forPath(path);
    }

    private void sequential() throws Exception {
        String path = fresh("sequential");
        Checks.equal(path + "/n-0000000000", client.create().withMode(CreateMode.PERSISTENT_SEQUENTIAL).forPath(path + "/n-"));
        client.create().forPath(path + "/other");
        Checks.equal(path + "/n-0000000002", client.create().withMode(CreateMode.EPHEMERAL_SEQUENTIAL).forPath(path + "/n-"));
    }

    private void sequentialProtected() throws Exception {
        String path = fresh("protected");
        String made = client.create().withProtection().withMode(CreateMode.EPHEMERAL_SEQUENTIAL).forPath(path + "/lock-");
        Checks.isTrue(made.matches(".*/_c_[0-9a-f-]{36}-lock-0000000000"), made);
    }

    private void container() throws Exception {
        String path = base + "/framework/container";
        client.create().withMode(CreateMode.CONTAINER).forPath(path);
        client.create().forPath(path + "/child");
        Checks.equal(0L, client.checkExists().forPath(path).getEphemeralOwner());
        client.delete().forPath(path + "/child");
        client.create().creatingParentContainersIfNeeded().forPath(base + "/framework/containers/a/b");
    }

    private void ttl() throws Exception {
        String path = base + "/framework/ttl";
        try {
            client.create().withTtl(3_600_000).withMode(CreateMode.PERSISTENT_WITH_TTL).forPath(path);
        } catch (KeeperException.UnimplementedException e) {
            throw new Checks.Skipped("the server has no extended types");
        }
        Checks.equal(0L, client.checkExists().forPath(path).getEphemeralOwner());
        String made = client.create().withTtl(3_600_000).withMode(CreateMode.PERSISTENT_SEQUENTIAL_WITH_TTL).forPath(path + "/n-");
        Checks.equal(path + "/n-0000000000", made);
    }

    private void largeData() throws Exception {
        String path = fresh("large");
        byte[] data = new byte[1_000_000];
        Arrays.fill(data, (byte) 'x');
        client.setData().forPath(path, data);
        Checks.isTrue(Arrays.equals(data, client.getData().forPath(path)), "the data came back changed");
    }

    private void nullData() throws Exception {
        String path = fresh("null");
        raw().setData(path, null, -1);
        Checks.equal(null, raw().getData(path, false, null));
        raw().setData(path, new byte[0], -1);
        Checks.equal(0, raw().getData(path, false, null).length);
    }

    private void badPaths() throws Exception {
        Checks.refused(KeeperException.NoNodeException.class, () -> client.create().forPath(base + "/framework/no/parent"));
        String ephemeral = client.create().withMode(CreateMode.EPHEMERAL).forPath(base + "/framework/leaf");
        Checks.refused(KeeperException.NoChildrenForEphemeralsException.class, () -> client.create().forPath(ephemeral + "/x"));
        Checks.refused(KeeperException.class, () -> raw().delete("/", -1));
        client.delete().forPath(ephemeral);
    }

    private void createWithStat() throws Exception {
        Stat stat = new Stat();
        String path = client.create().storingStatIn(stat).forPath(base + "/framework/with-stat", "abc".getBytes(UTF_8));
        Checks.equal(client.checkExists().forPath(path), stat);
        Checks.equal(stat.getCzxid(), stat.getMzxid());
        Checks.equal(stat.getCzxid(), stat.getPzxid());
    }

    private void namespace() throws Exception {
        CuratorFramework inside = client.usingNamespace(base.substring(1) + "/framework/space");
        inside.create().creatingParentsIfNeeded().forPath("/x", "in".getBytes(UTF_8));
        Checks.equal("in", new String(client.getData().forPath(base + "/framework/space/x"), UTF_8));
    }

    /** Collects watch events, without those that only tell of the connection. */
    private static final class Events implements Watcher {
        private final BlockingQueue<String> seen = new LinkedBlockingQueue<>();

        @Override
        public void process(WatchedEvent event) {
            if (event.getType() != Event.EventType.None) {
                seen.add(event.getType() + " " + event.getPath());
            }
        }

        String next() throws InterruptedException {
            return seen.poll(10, TimeUnit.SECONDS);
        }
    }

    private void watches(Checks checks) {
        checks.check("watch-data", this::watchData);
        checks.check("watch-exists", this::watchExists);
        checks.check("watch-children", this::watchChildren);
        checks.check("watch-persistent", () -> watchPersistent(AddWatchMode.PERSISTENT));
        checks.check("watch-recursive", () -> watchPersistent(AddWatchMode.PERSISTENT_RECURSIVE));
        checks.check("watch-remove", this::watchRemove);
    }

    private void watchData() throws Exception {
        String path = fresh("watch-data");
        Events events = new Events();
        raw().getData(path, events, null);
        raw().setData(path, new byte[0], -1);
        raw().setData(path, new byte[0], -1);
        Checks.equal("NodeDataChanged " + path, events.next());
        raw().getData(path, events, null);
        raw().delete(path, -1);
        Checks.equal("NodeDeleted " + path, events.next());
        Checks.equal(0, events.seen.size());
    }

    private void watchExists() throws Exception {
        String path = fresh("watch-exists") + "/later";
        Events events = new Events();
        Checks.equal(null, raw().exists(path, events));
        client.create().forPath(path);
        Checks.equal("NodeCreated " + path, events.next());
    }

    private void watchChildren() throws Exception {
        String path = fresh("watch-children");
        Events events = new Events();
        raw().getChildren(path, events);
        client.create().forPath(path + "/a");
        Checks.equal("NodeChildrenChanged " + path, events.next());
    }

    private void watchPersistent(AddWatchMode mode) throws Exception {
        String path = fresh("watch-" + mode.name().toLowerCase());
        Events events = new Events();
        raw().addWatch(path, events, mode);
        raw().setData(path, new byte[0], -1);
        raw().setData(path, new byte[0], -1);
        client.create().forPath(path + "/child");
        raw().setData(path + "/child", new byte[0], -1);
        client.delete().forPath(path + "/child");
        List<String> wanted = new ArrayList<>(Arrays.asList("NodeDataChanged " + path, "NodeDataChanged " + path));
        if (mode == AddWatchMode.PERSISTENT) {
            wanted.addAll(Arrays.asList("NodeChildrenChanged " + path, "NodeChildrenChanged " + path));
        } else {
            for (String kind : Arrays.asList("NodeCreated", "NodeDataChanged", "NodeDeleted")) {
                wanted.add(kind + " " + path + "/child");
            }
        }
        for (String event : wanted) {
            Checks.equal(event, events.next());
        }
    }

    private void watchRemove() throws Exception {
        String path = fresh("watch-remove");
        Events events = new Events();
        raw().getData(path, events, null);
        raw().removeWatches(path, events, Watcher.WatcherType.Data, false);
        Checks.equal("DataWatchRemoved " + path, events.next());
        raw().setData(path, new byte[0], -1);
        Checks.refused(
                KeeperException.NoWatcherException.class,
                () -> raw().removeWatches(path, events, Watcher.WatcherType.Data, false));
        Checks.equal(0, events.seen.size());
    }

    private void transactions(Checks checks) {
        checks.check("multi-commit", this::multiCommit);
        checks.check("multi-rollback", this::multiRollback);
        checks.check("multi-read", this::multiRead);
    }

    private void multiCommit() throws Exception {
        String path = fresh("multi");
        List<CuratorTransactionResult> results =
                client.transaction()
                        .forOperations(
                                client.transactionOp().create().forPath(path + "/a", "1".getBytes(UTF_8)),
                                client.transactionOp().setData().withVersion(0).forPath(path, "2".getBytes(UTF_8)),
                                client.transactionOp().check().withVersion(1).forPath(path),
                                client.transactionOp().delete().forPath(path + "/a"));
        Checks.equal(4, results.size());
        Checks.equal(path + "/a", results.get(0).getResultPath());
        Checks.equal(1, results.get(1).getResultStat().getVersion());
        Checks.equal(null, client.checkExists().forPath(path + "/a"));
    }

    private void multiRollback() throws Exception {
        String path = fresh("multi-rollback");
        try {
            raw().multi(
                            Arrays.asList(
                                    Op.create(path + "/a", new byte[0], ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT),
                                    Op.check(path, 9),
                                    Op.delete(path, -1)));
            throw new AssertionError("the multi succeeded");
        } catch (KeeperException.BadVersionException e) {
            List<Integer> codes =
                    e.getResults().stream().map(r -> ((OpResult.ErrorResult) r).getErr()).collect(Collectors.toList());
            Checks.equal(Arrays.asList(0, -103, -2), codes);
        }
        Checks.equal(null, client.checkExists().forPath(path + "/a"));
    }

    private void multiRead() throws Exception {
        String path = fresh("multi-read");
        client.create().forPath(path + "/a");
        List<OpResult> results = raw().multi(Arrays.asList(Op.getData(path), Op.getChildren(path), Op.getData(path + "/none")));
        Checks.equal("v0", new String(((OpResult.GetDataResult) results.get(0)).getData(), UTF_8));
        Checks.equal(Arrays.asList("a"), ((OpResult.GetChildrenResult) results.get(1)).getChildren());
        Checks.equal(-101, ((OpResult.ErrorResult) results.get(2)).getErr());
    }

    private void access(Checks checks) {
        checks.check("acl-digest", this::aclDigest);
        checks.check("acl-read", this::aclRead);
        checks.check("who-am-i", () -> Checks.isTrue(raw().whoAmI().stream().anyMatch(c -> c.getAuthScheme().equals("ip")), "no ip"));
    }

    private void aclDigest() throws Exception {
        String path = fresh("acl");
        try (CuratorFramework owner = newClient("alice:secret")) {
            owner.setACL().withACL(ZooDefs.Ids.CREATOR_ALL_ACL).forPath(path);
            Checks.refused(KeeperException.NoAuthException.class, () -> client.getData().forPath(path));
            Checks.refused(KeeperException.NoAuthException.class, () -> client.setData().forPath(path));
            Checks.refused(KeeperException.NoAuthException.class, () -> client.create().forPath(path + "/x"));
            Checks.equal("v0", new String(owner.getData().forPath(path), UTF_8));
            List<ACL> acls = owner.getACL().forPath(path);
            Checks.equal(1, acls.size());
            Checks.equal("digest", acls.get(0).getId().getScheme());
            Checks.isTrue(acls.get(0).getId().getId().startsWith("alice:"), acls.toString());
        }
    }

    private void aclRead() throws Exception {
        String path = fresh("acl-read");
        Stat stat = client.setACL().withVersion(0).withACL(Collections.singletonList(new ACL(ZooDefs.Perms.READ, new Id("world", "anyone")))).forPath(path);
        Checks.equal(1, stat.getAversion());
        client.getData().forPath(path);
        Checks.refused(KeeperException.NoAuthException.class, () -> client.setData().forPath(path));
        Checks.refused(KeeperException.InvalidACLException.class, () -> raw().create(path + "-none", null, Collections.emptyList(), CreateMode.PERSISTENT));
    }

    private CuratorFramework newClient(String auth) {
        CuratorFramework other =
                CuratorFrameworkFactory.builder()
                        .connectString(connectString)
                        .retryPolicy(new RetryOneTime(100))
                        .authorization("digest", auth.getBytes(UTF_8))
                        .build();
        other.start();
        return other;
    }

    private void sessions(Checks checks) {
        checks.check("session-close-removes-ephemerals", this::sessionClose);
        checks.check("session-re-attach", this::sessionReattach);
        checks.check("session-wrong-password", this::sessionWrongPassword);
    }

    /** A raw client that can go away without saying goodbye. */
    private static final class Session extends ZooKeeper {
        Session(String connectString) throws Exception {
            super(connectString, 10_000, event -> { });
        }

        Session(String connectString, long id, byte[] password) throws Exception {
            super(connectString, 10_000, event -> { }, id, password);
        }

        Session settled() throws Exception {
            Checks.eventually("connected or refused", () -> getState().isConnected() || !getState().isAlive());
            return this;
        }

        /** Ends the connection, not the session; without this both clients would take the session from each other. */
        void abandon() throws Exception {
            cnxn.disconnect();
        }
    }

    private void sessionClose() throws Exception {
        String path = fresh("session-close") + "/e";
        Session zk = new Session(connectString).settled();
        zk.create(path, null, ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
        Checks.equal(zk.getSessionId(), client.checkExists().forPath(path).getEphemeralOwner());
        Checks.equal(Collections.singletonList(path), zk.getEphemerals());
        zk.close();
        Checks.equal(null, client.checkExists().forPath(path));
    }

    private void sessionReattach() throws Exception {
        String path = fresh("session-re-attach") + "/e";
        Session first = new Session(connectString).settled();
        first.create(path, null, ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
        first.abandon();
        Session second = new Session(connectString, first.getSessionId(), first.getSessionPasswd()).settled();
        Checks.equal(first.getSessionId(), second.getSessionId());
        second.setData(path, "still mine".getBytes(UTF_8), -1);
        second.close();
        Checks.equal(null, client.checkExists().forPath(path));
    }

    /** The impostor is refused; the owner may lose its connection by that (Apache closes it first), but not its session. */
    private void sessionWrongPassword() throws Exception {
        String path = fresh("session-wrong-password") + "/e";
        Session owner = new Session(connectString).settled();
        owner.create(path, null, ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
        Session impostor = new Session(connectString, owner.getSessionId(), new byte[16]).settled();
        Checks.isTrue(!impostor.getState().isAlive(), "the impostor was let in");
        Checks.eventually("the owner is back", () -> stillOwns(owner, path));
        owner.close();
    }

    private static boolean stillOwns(ZooKeeper owner, String path) throws Exception {
        try {
            return owner.exists(path, false).getEphemeralOwner() == owner.getSessionId();
        } catch (KeeperException.ConnectionLossException e) {
            return false;
        }
    }
}
