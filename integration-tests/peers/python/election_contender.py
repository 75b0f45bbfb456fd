"""Is elected by kazoo's Election at BASE/lock for the given number of rounds; writes the fenced register in each.

Arguments: CONNECT BASE ROUNDS ID [CONTENDERS]. The printed lines are those of lock_contender.py.
"""
import sys

from kazoo.client import KazooClient

from lock_contender import Register, line, say_session, wait_for_all


def lead(client, base, name, number, election, register):
    path = f"{base}/lock/{election.lock.node}"
    stat = client.retry(client.exists, path)
    if stat is None:
        line(f"LOST id={name} n={number} node={path}")
        return
    count = register.write(stat.czxid)
    line(f"ROUND id={name} n={number} node={path} token={stat.czxid} count={count}")


def main():
    connect, base, rounds, name, *more = sys.argv[1:]
    client = KazooClient(hosts=connect, timeout=30.0)
    client.start(timeout=30)
    register = Register(client, base, name)
    wait_for_all(client, base, name, int(more[0]) if more else 1)
    say_session(client, name)
    for number in range(1, int(rounds) + 1):
        election = client.Election(base + "/lock", name)
        election.run(lead, client, base, name, number, election, register)
    say_session(client, name)
    line(f"DONE id={name} rounds={rounds} violations={register.violations}")
    client.stop()
    client.close()
    return 0 if register.violations == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
