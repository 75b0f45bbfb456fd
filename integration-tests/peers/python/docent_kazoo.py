"""A plugin for pytest: kazoo's own suite starts this project's server where it would start Apache's.

Everything else is as kazoo has it: the files of the configuration, the ports, the way servers are stopped and started
again. The environment says:

DOCENT_BIN       which program is the server; without it kazoo starts Apache's
DOCENT_LOGS      a folder where each server leaves what it says
DOCENT_ONLY      the tests to be run, with blanks between; without it all
DOCENT_LEFT_OUT  the tests not to be run, with blanks between
DOCENT_REPORT    a file that gets a line for each test: how it ended, and its name

A test's name is module::class::function.
"""

import itertools
import os
import subprocess
import types

from kazoo.testing import common

BIN = os.environ.get("DOCENT_BIN")
LOGS = os.environ.get("DOCENT_LOGS")
REPORT = os.environ.get("DOCENT_REPORT")
ONLY = os.environ.get("DOCENT_ONLY", "").split()
LEFT_OUT = os.environ.get("DOCENT_LEFT_OUT", "").split()

# What kazoo gives Apache's server as system properties, and the server reads from its configuration.
PROPERTIES = {
    "-Dreadonlymode.enabled": "readonlymode.enabled",
    "-Djava.security.auth.login.config": "java.security.auth.login.config",
    "-Dzookeeper.DigestAuthenticationProvider.superDigest": "DigestAuthenticationProvider.superDigest",
}

# What kazoo always writes and only some of its tests use: TLS, which the server refuses to be started with.
REFUSED = ("secureClientPort=", "ssl.", "serverCnxnFactory=")

starts = itertools.count(1)


class Popen(subprocess.Popen):
    """A server, started with what kazoo would start Apache's with."""

    def __init__(self, args):
        config = args[-1]
        with open(config, encoding="utf-8") as file:
            lines = [line for line in file.read().splitlines() if not line.startswith(REFUSED)]
        for arg in args:
            name, _, value = arg.partition("=")
            if name in PROPERTIES:
                lines.append(f"{PROPERTIES[name]}={value}")
        with open(config, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
        log = open(os.path.join(LOGS, f"server-{next(starts)}.log"), "wb") if LOGS else subprocess.DEVNULL
        super().__init__([BIN, "serve", "--config", config], stdin=subprocess.DEVNULL, stdout=log, stderr=log)


if BIN:
    common.subprocess = types.SimpleNamespace(Popen=Popen)


def name_of(item):
    parts = [item.module.__name__.rpartition(".")[2], item.cls.__name__ if item.cls else "", item.name]
    return "::".join(part for part in parts if part)


names = {}


def pytest_collection_modifyitems(config, items):
    """Takes the wanted tests."""
    names.update((item.nodeid, name_of(item)) for item in items)
    wanted = [item for item in items if (not ONLY or name_of(item) in ONLY) and name_of(item) not in LEFT_OUT]
    left = [item for item in items if item not in wanted]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = wanted


def pytest_runtest_logreport(report):
    """Notes how a test ended; what goes wrong before or after it counts, too."""
    if REPORT and (report.when == "call" or report.outcome != "passed"):
        with open(REPORT, "a", encoding="utf-8") as file:
            file.write(f"{report.outcome} {names.get(report.nodeid, report.nodeid)}\n")
