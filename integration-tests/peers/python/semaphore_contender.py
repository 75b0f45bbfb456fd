"""Takes a permit of kazoo's semaphore at BASE/semaphore, which has two, for the given number of rounds.

Arguments: CONNECT BASE ROUNDS ID [CONTENDERS]. What it does while it holds one, and the printed lines, are those of
SemaphoreContender.java.
"""
import sys

from kazoo.client import KazooClient

from lock_contender import create_if_absent, line, wait_for_all

PERMITS = 2
ACQUIRE_BOUND_SECONDS = 60


def enter(client, base, name, number):
    mine = f"{base}/inside/{name}-{number}"
    create_if_absent(client, mine)
    inside = len(client.retry(client.get_children, base + "/inside"))
    client.retry(client.delete, mine)
    return inside


def main():
    connect, base, rounds, name, *more = sys.argv[1:]
    client = KazooClient(hosts=connect, timeout=10.0)
    client.start(timeout=30)
    wait_for_all(client, base, name, int(more[0]) if more else 1)
    violations = 0
    for number in range(1, int(rounds) + 1):
        semaphore = client.Semaphore(base + "/semaphore", name, max_leases=PERMITS)
        if not semaphore.acquire(timeout=ACQUIRE_BOUND_SECONDS):
            raise TimeoutError(f"{name}: no permit within {ACQUIRE_BOUND_SECONDS} s")
        try:
            inside = enter(client, base, name, number)
            if inside > PERMITS:
                violations += 1
                line(f"VIOLATION id={name} n={number} inside={inside}")
            line(f"INSIDE id={name} n={number} inside={inside}")
        finally:
            semaphore.release()
    line(f"DONE id={name} rounds={rounds} violations={violations}")
    client.stop()
    client.close()
    return 0 if violations == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
