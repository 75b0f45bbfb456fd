"""Everything kazoo 2.11 can ask of a server: one PASS, FAIL or SKIP line per check. Arguments: CONNECT BASE.

This kazoo knows no persistent watches, containers or TTLs, so neither do the checks.
"""
import queue
import socket
import subprocess
import sys
import threading
import time
import traceback

from kazoo.client import KazooClient, KazooState
from kazoo.exceptions import (
    BadVersionError,
    InvalidACLError,
    NoAuthError,
    NoChildrenForEphemeralsError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    RolledBackError,
    RuntimeInconsistency,
)
from kazoo.protocol.states import EventType
from kazoo.security import OPEN_ACL_UNSAFE, make_acl, make_digest_acl

CHECKS = []
BOUND = 15.0


class Skipped(Exception):
    """The server is not configured for this."""


def check(body):
    CHECKS.append(body)
    return body


def equal(wanted, seen):
    if wanted != seen:
        raise AssertionError(f"wanted {wanted!r}, saw {seen!r}")


def refused(error, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except error:
        return
    raise AssertionError(f"wanted {error.__name__}, but it succeeded")


def eventually(what, condition):
    deadline = time.monotonic() + BOUND
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {BOUND} s: {what}")
        time.sleep(0.01)


class World:
    """The client under test, and new ones on demand."""

    def __init__(self, connect, base):
        self.connect, self.base, self.others = connect, base + "/kazoo", []
        self.zk = self.client()

    def client(self, **options):
        client = KazooClient(hosts=self.connect, timeout=10.0, **options)
        client.start(timeout=30)
        self.others.append(client)
        return client

    def fresh(self, name, data=b"v0"):
        path = f"{self.base}/{name}"
        self.zk.create(path, data, makepath=True)
        return path

    def close(self):
        for client in self.others:
            client.stop()
            client.close()


# --- Nodes ---------------------------------------------------------------------------------------------------------


@check
def create_get_set_delete(w):
    path = w.fresh("plain")
    data, stat = w.zk.get(path)
    equal((b"v0", 0, 2, 0), (data, stat.version, stat.dataLength, stat.numChildren))
    equal(stat.czxid, stat.mzxid)
    equal(1, w.zk.set(path, b"v1").version)
    equal(b"v1", w.zk.get(path)[0])
    w.zk.delete(path)
    equal(None, w.zk.exists(path))
    refused(NoNodeError, w.zk.get, path)
    refused(NoNodeError, w.zk.delete, path)


@check
def versions(w):
    path = w.fresh("versions")
    refused(BadVersionError, w.zk.set, path, b"x", version=3)
    w.zk.set(path, b"x", version=0)
    refused(BadVersionError, w.zk.delete, path, version=0)
    refused(NodeExistsError, w.zk.create, path)
    w.zk.delete(path, version=1)


@check
def children(w):
    path = w.fresh("children")
    for name in "abc":
        w.zk.create(f"{path}/{name}")
    names, stat = w.zk.get_children(path, include_data=True)
    equal((["a", "b", "c"], 3, 3), (sorted(names), stat.numChildren, stat.cversion))
    refused(NotEmptyError, w.zk.delete, path)
    w.zk.delete(path, recursive=True)


@check
def sequential(w):
    path = w.fresh("sequential")
    equal(path + "/n-0000000000", w.zk.create(path + "/n-", sequence=True))
    w.zk.create(path + "/other")
    equal(path + "/n-0000000002", w.zk.create(path + "/n-", sequence=True, ephemeral=True))


@check
def ephemerals(w):
    path = w.fresh("ephemerals")
    other = w.client()
    other.create(path + "/e", ephemeral=True)
    equal(other.client_id[0], w.zk.exists(path + "/e").ephemeralOwner)
    refused(NoChildrenForEphemeralsError, w.zk.create, path + "/e/child")
    other.stop()
    equal(None, w.zk.exists(path + "/e"))


@check
def create_with_stat(w):
    path, stat = w.zk.create(w.base + "/with-stat", b"abc", include_data=True, makepath=True)
    equal(w.zk.exists(path), stat)


@check
def large_data(w):
    path = w.fresh("large")
    w.zk.set(path, b"x" * 1_000_000)
    equal(b"x" * 1_000_000, w.zk.get(path)[0])


@check
def chroot(w):
    w.fresh("chroot")
    inside = KazooClient(hosts=w.connect + w.base + "/chroot", timeout=10.0)
    inside.start(timeout=30)
    inside.create("/x", b"in")
    equal(["x"], inside.get_children("/"))
    equal(b"in", w.zk.get(w.base + "/chroot/x")[0])
    inside.stop()
    inside.close()


@check
def sync(w):
    path = w.fresh("sync")
    equal(path, w.zk.sync(path))


@check
def pipelined(w):
    path = w.fresh("pipelined")
    made = [w.zk.create_async(f"{path}/n-", sequence=True) for _ in range(200)]
    equal([f"{path}/n-{n:010d}" for n in range(200)], [one.get(timeout=BOUND) for one in made])


# --- Watches -------------------------------------------------------------------------------------------------------


def watcher():
    events = queue.Queue()
    return events, lambda event: events.put((event.type, event.path))


@check
def watch_data(w):
    path = w.fresh("watch-data")
    events, watch = watcher()
    w.zk.get(path, watch=watch)
    w.zk.set(path, b"1")
    w.zk.set(path, b"2")
    equal((EventType.CHANGED, path), events.get(timeout=BOUND))
    w.zk.get(path, watch=watch)
    w.zk.delete(path)
    equal((EventType.DELETED, path), events.get(timeout=BOUND))
    equal(True, events.empty())


@check
def watch_exists(w):
    path = w.fresh("watch-exists") + "/later"
    events, watch = watcher()
    equal(None, w.zk.exists(path, watch=watch))
    w.zk.create(path)
    equal((EventType.CREATED, path), events.get(timeout=BOUND))


@check
def watch_children(w):
    path = w.fresh("watch-children")
    events, watch = watcher()
    w.zk.get_children(path, watch=watch)
    w.zk.create(path + "/a")
    equal((EventType.CHILD, path), events.get(timeout=BOUND))


@check
def data_and_children_watch_recipes(w):
    path = w.fresh("watch-recipes")
    data, names = queue.Queue(), queue.Queue()
    w.zk.DataWatch(path, lambda value, _stat: data.put(value))
    w.zk.ChildrenWatch(path, lambda seen: names.put(sorted(seen)))
    equal((b"v0", []), (data.get(timeout=BOUND), names.get(timeout=BOUND)))
    w.zk.set(path, b"v1")
    w.zk.create(path + "/a")
    equal((b"v1", ["a"]), (data.get(timeout=BOUND), names.get(timeout=BOUND)))


# --- Transactions and access ---------------------------------------------------------------------------------------


@check
def transaction_commit(w):
    path = w.fresh("transaction")
    transaction = w.zk.transaction()
    transaction.create(path + "/a", b"1")
    transaction.set_data(path, b"2", version=0)
    transaction.check(path, version=1)
    transaction.delete(path + "/a")
    results = transaction.commit()
    equal((path + "/a", 1, True, True), (results[0], results[1].version, results[2], results[3]))


@check
def transaction_rollback(w):
    path = w.fresh("transaction-rollback")
    transaction = w.zk.transaction()
    transaction.create(path + "/a")
    transaction.check(path, version=9)
    transaction.delete(path)
    kinds = [type(result) for result in transaction.commit()]
    equal([RolledBackError, BadVersionError, RuntimeInconsistency], kinds)
    equal(None, w.zk.exists(path + "/a"))


@check
def acl_digest(w):
    path = w.fresh("acl")
    owner = w.client(auth_data=[("digest", "alice:secret")])
    owner.set_acls(path, [make_digest_acl("alice", "secret", all=True)])
    for call in (lambda: w.zk.get(path), lambda: w.zk.set(path, b"x"), lambda: w.zk.create(path + "/x")):
        refused(NoAuthError, call)
    equal(b"v0", owner.get(path)[0])
    w.zk.add_auth("digest", "alice:secret")
    equal(b"v0", w.zk.get(path)[0])


@check
def acl_read_only(w):
    path = w.fresh("acl-read")
    equal(1, w.zk.set_acls(path, [make_acl("world", "anyone", read=True)], version=0).aversion)
    acls, stat = w.zk.get_acls(path)
    equal((1, 1, "world"), (stat.aversion, acls[0].perms, acls[0].id.scheme))
    refused(NoAuthError, w.zk.set, path, b"x")
    refused(InvalidACLError, w.zk.create, path + "-bad", acl=[make_acl("nonsense", "x", all=True)])
    refused(BadVersionError, w.zk.set_acls, w.fresh("acl-version"), OPEN_ACL_UNSAFE, version=5)


# --- Sessions ------------------------------------------------------------------------------------------------------


@check
def reconnect_keeps_session_and_watches(w):
    path = w.fresh("reconnect")
    client = w.client()
    states, (events, watch) = queue.Queue(), watcher()
    client.add_listener(states.put)
    client.create(path + "/e", ephemeral=True)
    before = client.client_id
    client._connection._socket.shutdown(socket.SHUT_RDWR)
    equal(KazooState.SUSPENDED, states.get(timeout=BOUND))
    equal(KazooState.CONNECTED, states.get(timeout=BOUND))
    equal(before, client.client_id)
    equal(before[0], w.zk.exists(path + "/e").ephemeralOwner)
    client.get(path, watch=watch)
    w.zk.set(path, b"v1")
    equal((EventType.CHANGED, path), events.get(timeout=BOUND))


# Ends without closing its session, as a crashed process does.
CRASHING = """
import os, sys
from kazoo.client import KazooClient
client = KazooClient(hosts=sys.argv[1], timeout=10.0)
client.start(timeout=30)
client.create(sys.argv[2], ephemeral=True)
print(client.client_id[0], client.client_id[1].hex(), flush=True)
os._exit(0)
"""


@check
def re_attach_after_a_crash(w):
    path = w.fresh("re-attach") + "/e"
    said = subprocess.run([sys.executable, "-c", CRASHING, w.connect, path], capture_output=True, check=True, text=True)
    session, password = said.stdout.split()
    heir = w.client(client_id=(int(session), bytes.fromhex(password)))
    equal(int(session), heir.client_id[0])
    heir.set(path, b"still mine")
    heir.stop()
    equal(None, w.zk.exists(path))


@check
def four_letter_words(w):
    equal(b"imok", w.zk.command(b"ruok").encode())
    if "Mode: standalone" not in w.zk.command(b"srvr"):
        raise Skipped("not a standalone server, or srvr is not allowed")
    equal(True, w.zk.server_version()[0] >= 3)


# --- Recipes -------------------------------------------------------------------------------------------------------


@check
def lock(w):
    one, two = w.zk.Lock(w.base + "/lock", "one"), w.client().Lock(w.base + "/lock", "two")
    equal(True, one.acquire(timeout=BOUND))
    equal(False, two.acquire(blocking=False))
    equal(["one"], one.contenders())
    one.release()
    equal(True, two.acquire(timeout=BOUND))
    two.release()


@check
def read_write_lock(w):
    other = w.client()
    one, two = w.zk.ReadLock(w.base + "/rw", "one"), other.ReadLock(w.base + "/rw", "two")
    write = other.WriteLock(w.base + "/rw", "three")
    equal((True, True), (one.acquire(timeout=BOUND), two.acquire(timeout=BOUND)))
    equal(False, write.acquire(blocking=False))
    one.release()
    two.release()
    equal(True, write.acquire(timeout=BOUND))
    write.release()


@check
def semaphore(w):
    one, two = (client.Semaphore(w.base + "/semaphore", max_leases=1) for client in (w.zk, w.client()))
    equal(True, one.acquire(timeout=BOUND))
    equal(False, two.acquire(blocking=False))
    one.release()
    equal(True, two.acquire(timeout=BOUND))
    two.release()


@check
def election(w):
    led, threads = queue.Queue(), []
    for name in ("a", "b"):
        contest = w.client().Election(w.base + "/election", name)
        threads.append(threading.Thread(target=contest.run, args=(led.put, name), daemon=True))
    for thread in threads:
        thread.start()
    equal({"a", "b"}, {led.get(timeout=BOUND), led.get(timeout=BOUND)})
    for thread in threads:
        thread.join(BOUND)


@check
def party(w):
    one, two = w.zk.Party(w.base + "/party", "one"), w.client().Party(w.base + "/party", "two")
    one.join()
    two.join()
    equal({"one", "two"}, set(one))
    two.leave()
    equal(["one"], list(one))
    one.leave()


@check
def counter(w):
    one, two = w.zk.Counter(w.base + "/counter"), w.client().Counter(w.base + "/counter")
    one += 40
    two += 2
    equal(42, one.value)


@check
def barrier(w):
    one, two = w.zk.Barrier(w.base + "/barrier"), w.client().Barrier(w.base + "/barrier")
    one.create()
    equal(False, two.wait(0.2))
    one.remove()
    equal(True, two.wait(BOUND))


@check
def double_barrier(w):
    passed, threads, both = queue.Queue(), [], threading.Barrier(2)

    def cross(client):
        gate = client.DoubleBarrier(w.base + "/double", 2)
        gate.enter()
        passed.put("in")
        # kazoo waits for ever to enter when another one has left before it counts.
        both.wait(BOUND)
        gate.leave()
        passed.put("out")

    for client in (w.zk, w.client()):
        threads.append(threading.Thread(target=cross, args=(client,), daemon=True))
        threads[-1].start()
    equal(["in", "in", "out", "out"], [passed.get(timeout=BOUND) for _ in range(4)])


@check
def queues(w):
    plain = w.zk.Queue(w.base + "/queue")
    plain.put(b"second", priority=200)
    plain.put(b"first", priority=1)
    equal((b"first", b"second", None), (plain.get(), plain.get(), plain.get()))
    locking = w.zk.LockingQueue(w.base + "/locking")
    locking.put(b"x")
    equal(b"x", locking.get(timeout=BOUND))
    equal(True, locking.consume())


@check
def tree_cache(w):
    from kazoo.recipe.cache import TreeCache

    path = w.fresh("tree")
    cache = TreeCache(w.zk, path)
    cache.start()
    w.zk.create(path + "/a", b"1")
    eventually("a is cached", lambda: cache.get_data(path + "/a") is not None)
    w.zk.set(path + "/a", b"2")
    eventually("the change is cached", lambda: cache.get_data(path + "/a").data == b"2")
    cache.close()


def main():
    connect, base = sys.argv[1:]
    world, passed, failed = World(connect, base), 0, 0
    for body in CHECKS:
        name = body.__name__.replace("_", "-")
        try:
            body(world)
            passed += 1
            print(f"PASS {name}", flush=True)
        except Skipped as why:
            print(f"SKIP {name}: {why}", flush=True)
        except Exception as error:  # A check may fail in any way, and the next one runs all the same.
            failed += 1
            print(f"FAIL {name}: {type(error).__name__} {error}", flush=True)
            traceback.print_exc()
    world.close()
    print(f"SUMMARY passed={passed} failed={failed}", flush=True)
    return 0 if failed == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
