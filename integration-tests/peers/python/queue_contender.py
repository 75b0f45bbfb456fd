"""Puts the given number of items into kazoo's Queue at BASE/fifo and its LockingQueue at BASE/work, and takes what comes
until BASE/enough is there; what is made and printed is as in QueueContender.java.

Arguments: CONNECT BASE ROUNDS ID [CONTENDERS]
"""
import sys

from kazoo.client import KazooClient
from kazoo.exceptions import NodeExistsError

from lock_contender import line, wait_for_all

violations = 0


def taken(client, base, name, queue, item):
    global violations
    try:
        client.create(f"{base}/taken/{queue}:{item.decode()}", name.encode(), makepath=True)
    except NodeExistsError:
        if queue != "work":
            violations += 1
            line(f"VIOLATION id={name} {item.decode()} is taken twice from {queue}")


def main():
    connect, base, rounds, name, *more = sys.argv[1:]
    client = KazooClient(hosts=connect, timeout=10.0)
    client.start(timeout=30)
    wait_for_all(client, base, name, int(more[0]) if more else 1)
    fifo, work = client.Queue(base + "/fifo"), client.LockingQueue(base + "/work")
    for number in range(int(rounds)):
        item = f"{name}-{number}".encode()
        fifo.put(item, priority=number % 3 + 99)
        work.put(item, priority=number % 3 + 99)
    while client.exists(base + "/enough") is None:
        item = fifo.get()
        if item is not None:
            taken(client, base, name, "fifo", item)
        item = work.get(timeout=0.1)
        if item is not None:
            taken(client, base, name, "work", item)
            work.consume()
    line(f"DONE id={name} rounds={rounds} violations={violations}")
    client.stop()
    client.close()
    return 0 if violations == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
