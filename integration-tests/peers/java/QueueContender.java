import static java.nio.charset.StandardCharsets.UTF_8;

import java.util.concurrent.atomic.AtomicInteger;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.recipes.queue.DistributedDelayQueue;
import org.apache.curator.framework.recipes.queue.DistributedPriorityQueue;
import org.apache.curator.framework.recipes.queue.DistributedQueue;
import org.apache.curator.framework.recipes.queue.QueueBuilder;
import org.apache.curator.framework.recipes.queue.QueueConsumer;
import org.apache.curator.framework.recipes.queue.QueueSerializer;
import org.apache.curator.framework.recipes.queue.SimpleDistributedQueue;
import org.apache.curator.framework.state.ConnectionState;
import org.apache.zookeeper.KeeperException;

/**
 * Puts the given number of items into each of Curator's queues and takes what comes until BASE/enough is there: the plain one
 * at BASE/fifo, with a lock path at BASE/work (locks at BASE/work-locks), by priority at BASE/priority, with a delay at
 * BASE/delay, and the simple one at BASE/simple. For each item that it takes it makes a node BASE/taken/QUEUE:ITEM, and prints
 * a violation if it is there already, except for BASE/work, where an item may come again. Items are ID-NUMBER.
 */
public final class QueueContender {
    private static final AtomicInteger violations = new AtomicInteger();

    public static void main(String[] args) throws Exception {
        try (Peer peer = new Peer(args)) {
            peer.waitForAll();
            DistributedQueue<String> fifo = builder(peer, "fifo").buildQueue();
            DistributedQueue<String> work = builder(peer, "work").lockPath(peer.base + "/work-locks").buildQueue();
            DistributedPriorityQueue<String> priority = builder(peer, "priority").buildPriorityQueue(0);
            DistributedDelayQueue<String> delay = builder(peer, "delay").buildDelayQueue();
            SimpleDistributedQueue simple = new SimpleDistributedQueue(peer.client, peer.base + "/simple");
            fifo.start();
            work.start();
            priority.start();
            delay.start();
            for (int number = 0; number < peer.rounds; number++) {
                String item = peer.id + "-" + number;
                fifo.put(item);
                work.put(item);
                priority.put(item, number % 5 - 2);
                delay.put(item, System.currentTimeMillis() + number % 3 * 50);
                simple.offer(item.getBytes(UTF_8));
            }
            while (peer.client.checkExists().forPath(peer.base + "/enough") == null) {
                byte[] item = simple.poll(100, java.util.concurrent.TimeUnit.MILLISECONDS);
                if (item != null) {
                    taken(peer, "simple", new String(item, UTF_8));
                }
            }
            fifo.close();
            work.close();
            priority.close();
            delay.close();
            Peer.line("DONE id=%s rounds=%d violations=%d", peer.id, peer.rounds, violations.get());
        }
        System.exit(violations.get() == 0 ? 0 : 1);
    }

    private static QueueBuilder<String> builder(Peer peer, String queue) {
        QueueConsumer<String> consumer = new QueueConsumer<>() {
            @Override
            public void consumeMessage(String item) throws Exception {
                taken(peer, queue, item);
            }

            @Override
            public void stateChanged(CuratorFramework client, ConnectionState state) {}
        };
        QueueSerializer<String> serializer = new QueueSerializer<>() {
            @Override
            public byte[] serialize(String item) {
                return item.getBytes(UTF_8);
            }

            @Override
            public String deserialize(byte[] bytes) {
                return new String(bytes, UTF_8);
            }
        };
        return QueueBuilder.builder(peer.client, consumer, serializer, peer.base + "/" + queue);
    }

    private static void taken(Peer peer, String queue, String item) throws Exception {
        try {
            peer.client.create().creatingParentsIfNeeded().forPath(peer.base + "/taken/" + queue + ":" + item, peer.id.getBytes(UTF_8));
        } catch (KeeperException.NodeExistsException e) {
            if (!queue.equals("work")) {
                violations.incrementAndGet();
                Peer.line("VIOLATION id=%s %s is taken twice from %s", peer.id, item, queue);
            }
        }
    }
}
