import java.nio.charset.StandardCharsets;
import org.apache.curator.framework.CuratorFramework;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.data.Stat;

/**
 * The fenced register: a znode BASE/register with the text TOKEN:COUNT. A holder writes its own token and one more
 * than the count, on the version that it has read. Since every acquire makes a new node, tokens only rise; a register
 * that holds our token or a newer one before we have written says that two held at once, or that the order was broken.
 */
final class Register {
    private final CuratorFramework client;
    private final String path;
    private final String id;
    private int violations;

    Register(Peer peer) throws Exception {
        client = peer.client;
        path = peer.base + "/register";
        id = peer.id;
        try {
            client.create().creatingParentsIfNeeded().forPath(path, "0:0".getBytes(StandardCharsets.UTF_8));
        } catch (KeeperException.NodeExistsException e) {
            // Another contender made it.
        }
    }

    int violations() {
        return violations;
    }

    /** One fenced read-modify-write; the new count, or -1 when the fence refused it. */
    long write(long token) throws Exception {
        int refused = -1;
        while (true) {
            Stat stat = new Stat();
            String[] held = new String(client.getData().storingStatIn(stat).forPath(path), StandardCharsets.UTF_8).split(":");
            long heldToken = Long.parseLong(held[0]);
            long heldCount = Long.parseLong(held[1]);
            if (refused >= 0 && heldToken == token) {
                // Our write was applied, its reply was lost, and Curator sent it again: nobody else was here.
                Peer.line("REPEATED id=%s token=%d version=%d", id, token, refused);
                return heldCount;
            }
            if (refused >= 0) {
                Peer.line("CONFLICT id=%s token=%d version=%d register=%d", id, token, refused, heldToken);
            }
            if (heldToken >= token) {
                violations++;
                Peer.line("VIOLATION id=%s token=%d register=%d", id, token, heldToken);
                return -1;
            }
            try {
                String text = token + ":" + (heldCount + 1);
                client.setData().withVersion(stat.getVersion()).forPath(path, text.getBytes(StandardCharsets.UTF_8));
                return heldCount + 1;
            } catch (KeeperException.BadVersionException e) {
                refused = stat.getVersion();
            }
        }
    }
}
