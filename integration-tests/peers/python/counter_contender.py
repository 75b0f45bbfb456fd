"""Adds one to each of two of kazoo's counters for the given number of rounds: BASE/text, and BASE/integer as Curator has it.

Arguments: CONNECT BASE ROUNDS ID [CONTENDERS]
"""
import sys

from kazoo.client import KazooClient
from kazoo.exceptions import BadVersionError
from kazoo.retry import RetryFailedError

from lock_contender import line, wait_for_all


def add(counter):
    """kazoo gives up after some faster writers; nothing was added then."""
    while True:
        try:
            counter += 1
            return
        except (BadVersionError, RetryFailedError):
            pass


def main():
    connect, base, rounds, name, *more = sys.argv[1:]
    client = KazooClient(hosts=connect, timeout=10.0)
    client.start(timeout=30)
    wait_for_all(client, base, name, int(more[0]) if more else 1)
    text = client.Counter(base + "/text")
    integer = client.Counter(base + "/integer", support_curator=True)
    for _ in range(int(rounds)):
        add(text)
        add(integer)
    line(f"DONE id={name} rounds={rounds}")
    client.stop()
    client.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
