"""Waits at kazoo's Barrier BASE/gate-ROUND for the given number of rounds; see BarrierContender.java for who lifts it.

Arguments: CONNECT BASE ROUNDS ID [CONTENDERS]
"""
import sys

from kazoo.client import KazooClient

from lock_contender import line, wait_for_all

WAIT_BOUND_SECONDS = 60


def main():
    connect, base, rounds, name, *more = sys.argv[1:]
    client = KazooClient(hosts=connect, timeout=10.0)
    client.start(timeout=30)
    wait_for_all(client, base, name, int(more[0]) if more else 1)
    violations = 0
    for number in range(int(rounds)):
        if not client.Barrier(f"{base}/gate-{number}").wait(WAIT_BOUND_SECONDS):
            raise TimeoutError(f"{name}: gate {number} is not lifted within {WAIT_BOUND_SECONDS} s")
        if client.retry(client.exists, f"{base}/lifted-{number}") is None:
            violations += 1
            line(f"VIOLATION id={name} n={number} early at the gate")
    line(f"DONE id={name} rounds={rounds} violations={violations}")
    client.stop()
    client.close()
    return 0 if violations == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
