"""Acquires kazoo's lock at BASE/lock for the given number of rounds; writes the fenced register in each.

Arguments: CONNECT BASE ROUNDS ID [CONTENDERS [SESSION_SECONDS [LAYOUT]]]

LAYOUT `curator` (the default) names the nodes so that Curator and kazoo exclude each other on one path: stock kazoo and
Curator do not see each other's nodes as contenders of their own kind. LAYOUT `kazoo` is the lock as it ships.
ROUNDS 0 stands for as many as there are until BASE/enough is there.
The register, the gate and the printed lines are those of Register.java and Peer.java.
"""
import sys
import time

from kazoo.client import KazooClient
from kazoo.exceptions import BadVersionError, NodeExistsError
from kazoo.recipe.lock import Lock

GATE_BOUND_SECONDS = 60
ACQUIRE_BOUND_SECONDS = 60


class CuratorNamedLock(Lock):
    """Curator sorts by the text after the last `lock-`, and waits for every child that sorts lower."""

    _NODE_NAME = "-lock-"
    _EXCLUDE_NAMES = ["-lock-"]


class Register:
    """BASE/register holds TOKEN:COUNT; see Register.java for why an equal or newer token is a violation."""

    def __init__(self, client, base, name):
        self.client, self.path, self.name, self.violations = client, base + "/register", name, 0
        create_if_absent(client, self.path, b"0:0")

    def write(self, token):
        """One fenced read-modify-write: the new count, or -1 when the fence refused it."""
        refused = None
        while True:
            data, stat = self.client.retry(self.client.get, self.path)
            held_token, held_count = (int(part) for part in data.split(b":"))
            if refused is not None and held_token == token:
                # Our write was applied, its reply was lost, and it was sent again: nobody else was here.
                line(f"REPEATED id={self.name} token={token} version={refused}")
                return held_count
            if refused is not None:
                line(f"CONFLICT id={self.name} token={token} version={refused} register={held_token}")
            if held_token >= token:
                self.violations += 1
                line(f"VIOLATION id={self.name} token={token} register={held_token}")
                return -1
            text = f"{token}:{held_count + 1}".encode()
            try:
                self.client.retry(self.client.set, self.path, text, version=stat.version)
                return held_count + 1
            except BadVersionError:
                refused = stat.version


def line(text):
    print(text, flush=True)


def create_if_absent(client, path, data=b""):
    try:
        client.retry(client.create, path, data, makepath=True)
    except NodeExistsError:
        pass


def say_session(client, name):
    """The same number at the beginning and at the end, unless the session was lost between."""
    client.retry(client.exists, "/")
    line(f"SESSION id={name} session=0x{client.client_id[0]:x}")


def wait_for_all(client, base, name, contenders):
    create_if_absent(client, f"{base}/ready/{name}")
    deadline = time.monotonic() + GATE_BOUND_SECONDS
    while len(client.retry(client.get_children, base + "/ready")) < contenders:
        if time.monotonic() > deadline:
            raise TimeoutError(f"fewer than {contenders} contenders within {GATE_BOUND_SECONDS} s")
        time.sleep(0.02)


def goes_on(client, base, number, rounds):
    """Whether there is to be a round with this number, from 1."""
    return number <= rounds if rounds > 0 else client.retry(client.exists, base + "/enough") is None


def one_round(client, base, name, number, kind, register):
    lock = kind(client, base + "/lock", name)
    if not lock.acquire(timeout=ACQUIRE_BOUND_SECONDS):
        raise TimeoutError(f"{name}: not acquired within {ACQUIRE_BOUND_SECONDS} s")
    try:
        path = f"{base}/lock/{lock.node}"
        stat = client.retry(client.exists, path)
        if stat is None:
            line(f"LOST id={name} n={number} node={path}")
            return
        count = register.write(stat.czxid)
        line(f"ROUND id={name} n={number} node={path} token={stat.czxid} count={count}")
    finally:
        lock.release()


def main():
    connect, base, rounds, name, *more = sys.argv[1:]
    contenders = int(more[0]) if more else 1
    session = float(more[1]) if len(more) > 1 else 30.0
    kind = {"curator": CuratorNamedLock, "kazoo": Lock}[more[2] if len(more) > 2 else "curator"]
    client = KazooClient(hosts=connect, timeout=session)
    client.start(timeout=30)
    register = Register(client, base, name)
    wait_for_all(client, base, name, contenders)
    say_session(client, name)
    number = 1
    while goes_on(client, base, number, int(rounds)):
        one_round(client, base, name, number, kind, register)
        number += 1
    say_session(client, name)
    line(f"DONE id={name} rounds={rounds} violations={register.violations}")
    client.stop()
    client.close()
    return 0 if register.violations == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
