"""A plugin for pytest: kazoo's own suite starts this project's server where it would start Apache's.

Everything else is as kazoo has it: the files of the configuration, the ports, the way servers are stopped and started
again. The environment says:

DOCENT_BIN     which program is the server; without it kazoo starts Apache's
DOCENT_LOGS    a folder where each server leaves what it says
DOCENT_ONLY    the tests to be run, with blanks between; without it all
DOCENT_REPORT  a file that gets a line for each test: how it ended, and its name

A test's name is module::class::function.
"""

import base64
import itertools
import os
import subprocess
import textwrap
import types

import jks
import OpenSSL
from kazoo.testing import common

BIN = os.environ.get("DOCENT_BIN")
LOGS = os.environ.get("DOCENT_LOGS")
REPORT = os.environ.get("DOCENT_REPORT")
ONLY = os.environ.get("DOCENT_ONLY", "").split()

# What kazoo gives Apache's server as system properties, and the server reads from its configuration.
PROPERTIES = {
    "-Dreadonlymode.enabled": "readonlymode.enabled",
    "-Djava.security.auth.login.config": "java.security.auth.login.config",
    "-Dzookeeper.DigestAuthenticationProvider.superDigest": "DigestAuthenticationProvider.superDigest",
}

# Java's stores, which kazoo writes and the server does not read: each is given to it in PEM.
STORES = ("ssl.keyStore.location=", "ssl.trustStore.location=")

# Without a counterpart.
LEFT_AWAY = ("ssl.keyStore.password=", "ssl.trustStore.password=", "serverCnxnFactory=")

STORE_PASSWORD = "apassword"

starts = itertools.count(1)


def in_pem(line):
    """A line that names a store of Java's, with the same store in PEM instead."""
    key, _, path = line.partition("=")
    store = jks.KeyStore.load(path, STORE_PASSWORD)
    ders = [("PRIVATE KEY", key.pkey_pkcs8) for key in store.private_keys.values()]
    ders += [("CERTIFICATE", cert) for key in store.private_keys.values() for _, cert in key.cert_chain]
    ders += [("CERTIFICATE", cert.cert) for cert in store.certs.values()]
    pem = path.removesuffix(".jks") + ".pem"
    with open(pem, "w", encoding="ascii") as file:
        for name, der in ders:
            text = "\n".join(textwrap.wrap(base64.b64encode(der).decode("ascii"), 64))
            file.write(f"-----BEGIN {name}-----\n{text}\n-----END {name}-----\n")
    return f"{key}={pem}"


def sign(cert, *args, sign=OpenSSL.crypto.X509.sign):
    """kazoo's certificates for servers and clients are of version 1, which is no longer accepted of clients."""
    cert.set_version(2)
    sign(cert, *args)


class Popen(subprocess.Popen):
    """A server, started with what kazoo would start Apache's with."""

    def __init__(self, args):
        config = args[-1]
        with open(config, encoding="utf-8") as file:
            lines = [line for line in file.read().splitlines() if not line.startswith(LEFT_AWAY)]
        lines = [in_pem(line) if line.startswith(STORES) else line for line in lines]
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
    OpenSSL.crypto.X509.sign = sign


def name_of(item):
    parts = [item.module.__name__.rpartition(".")[2], item.cls.__name__ if item.cls else "", item.name]
    return "::".join(part for part in parts if part)


names = {}


def pytest_collection_modifyitems(config, items):
    """Takes the wanted tests."""
    names.update((item.nodeid, name_of(item)) for item in items)
    wanted = [item for item in items if not ONLY or name_of(item) in ONLY]
    left = [item for item in items if item not in wanted]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = wanted


def pytest_runtest_logreport(report):
    """Notes how a test ended; what goes wrong before or after it counts, too."""
    if REPORT and (report.when == "call" or report.outcome != "passed"):
        with open(REPORT, "a", encoding="utf-8") as file:
            file.write(f"{report.outcome} {names.get(report.nodeid, report.nodeid)}\n")
