#!/usr/bin/env python3
"""Measures what a server costs before anyone asks it anything; prints a Markdown table.

usage: measure_server.py LAPIDARY_BINARY MODEL [--connections N]

Start is the time from the start of the process to the first answer of /health, the median of five
starts with the file in the page cache. Memory per idle connection is what the server's resident
memory grows by with N connections that have shaken hands and asked nothing, over N: plain, and over
TLS with a certificate that `openssl` makes for the occasion. Needs only the standard library; Linux.
Exit status 1 when a figure is above its bound.
"""
import argparse
import contextlib
import http.client
import json
import os
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time

START_BOUND_S = 0.3
CONNECTION_BOUND_KIB = 64
WARM_CONNECTIONS = 32  # opened and closed before counting: what a first handshake loads is no connection's


@contextlib.contextmanager
def server(binary, model, *options):
    """A server on a free port: (process, port, seconds until it said where it listens)."""
    start = time.monotonic()
    process = subprocess.Popen([binary, "serve", model, "--port", "0", "--json", "--quiet", *options],
                               stdout=subprocess.PIPE, text=True)
    try:
        said = process.stdout.readline()
        if not said:
            raise SystemExit(f"lapidary serve ended with status {process.wait()}")
        yield process, int(json.loads(said)["url"].rsplit(":", 1)[1].rstrip("/")), start
    finally:
        process.terminate()
        process.wait()


def seconds_to_health(binary, model):
    with server(binary, model) as (_, port, start):
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("GET", "/health")
        assert connection.getresponse().status == 200
        seconds = time.monotonic() - start
        connection.close()
        return seconds


def resident_bytes(process):
    with open(f"/proc/{process.pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def connect(port, context, count):
    opened = []
    for _ in range(count):
        plain = socket.create_connection(("127.0.0.1", port))
        opened.append(context.wrap_socket(plain) if context else plain)
    time.sleep(0.5)  # until the server has taken the last one
    return opened


def kib_per_connection(binary, model, count, context, *options):
    with server(binary, model, *options) as (process, port, _):
        for connection in connect(port, context, WARM_CONNECTIONS):
            connection.close()
        time.sleep(0.5)
        before = resident_bytes(process)
        opened = connect(port, context, count)
        grown = resident_bytes(process) - before
        for connection in opened:
            connection.close()
        return grown / 1024 / count


def make_certificate(folder):
    certificate, key = os.path.join(folder, "certificate.pem"), os.path.join(folder, "key.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1",
                    "-subj", "/CN=localhost", "-out", certificate, "-keyout", key],
                   check=True, stderr=subprocess.DEVNULL)
    return certificate, key


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("model")
    parser.add_argument("--connections", type=int, default=400)
    args = parser.parse_args()

    start = statistics.median(seconds_to_health(args.binary, args.model) for _ in range(5))
    plain = kib_per_connection(args.binary, args.model, args.connections, None)
    with tempfile.TemporaryDirectory() as folder:
        certificate, key = make_certificate(folder)
        context = ssl.create_default_context(cafile=certificate)
        context.check_hostname = False
        tls = kib_per_connection(args.binary, args.model, args.connections, context,
                                 "--tls-cert", certificate, "--tls-key", key)

    rows = [("start to the first answer of /health, s", start, START_BOUND_S),
            ("memory per idle connection, KiB", plain, CONNECTION_BOUND_KIB),
            ("memory per idle connection over TLS, KiB", tls, CONNECTION_BOUND_KIB)]
    print("| | measured | bound |\n|---|---|---|")
    for name, value, bound in rows:
        print(f"| {name} | {value:.2f} | {bound} |")
    return 1 if any(value > bound for _, value, bound in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
