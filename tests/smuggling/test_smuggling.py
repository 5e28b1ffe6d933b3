"""The smuggling corpus against the real router, bare and behind nginx and haproxy.

Each case goes on a connection of its own with a canary behind it; then a stranger asks for a path
that nobody else asks for. The bar: the router has answered as many requests as were forwarded to
it, no path that the proxy did not forward, and the stranger got the answer to their own question.
(The router answers all of these paths with 404, and its log names them.)
"""
import collections
import contextlib
import json
import pathlib
import re
import socket
import subprocess
import sys
import threading
import time

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))
from conftest import free_port, serving  # noqa: E402

CORPUS = json.loads((HERE.parent / "router/http/smuggling.json").read_text())
CANARY = b"GET /canary HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
ANSWERED = re.compile(r"router: (\S+) (\S+) (\d{3}) in ")
REFUSED = re.compile(r"router: refused a request: (\d{3}) ")
PATIENCE = 3.0


def talk(port, data, patience):
    """All that comes back until the other side closes or `patience` seconds are over."""
    received = b""
    with socket.create_connection(("127.0.0.1", port)) as s:
        s.settimeout(patience)
        with contextlib.suppress(OSError):
            s.sendall(data)
            while part := s.recv(65536):
                received += part
    return received


def statuses(received):
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)
            if status != b"100"]


class Proxy:
    """A proxy process; `forwarded()` counts (method, path) of what it passed on."""

    def __init__(self, command, log, pattern, ports):
        self.log, self.pattern, self.ports = log, pattern, ports
        self.lines = []
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        text=True, errors="replace")
        self.reader = threading.Thread(target=self._read)
        self.reader.start()
        end = time.monotonic() + 10
        for port in ports:
            while True:
                assert self.process.poll() is None, "".join(self.lines)
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                assert time.monotonic() < end
                time.sleep(0.05)

    def _read(self):
        self.lines.extend(self.process.stdout)

    def forwarded(self):
        text = self.log.read_text(errors="replace") if self.log else "".join(self.lines)
        return collections.Counter(
            (match[1], match[2]) for match in re.finditer(self.pattern, text, re.M))

    def stop(self):
        self.process.terminate()
        self.process.wait(10)
        self.reader.join()


def filled(name, folder, **values):
    text = (HERE / name).read_text()
    for key, value in values.items():
        text = text.replace(f"@{key}@", str(value))
    path = folder / name
    path.write_text(text)
    return path


def start_nginx(folder, backend):
    ports = [free_port(), free_port()]
    conf = filled("nginx.conf", folder, DIR=folder, PORT=ports[0], PORT2=ports[1], BACKEND=backend)
    # An upstream status, or several where it was asked again; "-" where it was not asked.
    return Proxy(["nginx", "-p", folder, "-c", conf, "-e", "stderr"], folder / "nginx.log",
                 r"^(\S+) (.*?) \d+ \d+$", ports)


def start_haproxy(folder, backend):
    ports = [free_port()]
    conf = filled("haproxy.cfg", folder, PORT=ports[0], BACKEND=backend)
    return Proxy(["haproxy", "-db", "-f", conf], None,
                 r"^forwarded (\S+) (.*?) -?\d+ chorus$", ports)


@pytest.fixture(scope="module")
def server():
    with serving("--allowed-host", "*") as running:
        yield running


def answered(server, since):
    """What the router has answered: Counter of (method, path), and how many it refused unread."""
    lines = server.errors[since:]
    paths = collections.Counter(
        (match[1], match[2]) for line in lines if (match := ANSWERED.search(line)))
    return paths, sum(1 for line in lines if REFUSED.search(line))


def wait_for(server, path):
    end = time.monotonic() + PATIENCE
    while not any(f" {path} " in line for line in server.errors):
        assert time.monotonic() < end, f"the router never saw {path}"
        time.sleep(0.01)


@pytest.mark.parametrize("case", CORPUS, ids=lambda case: case["name"])
def test_bare(server, case):
    received = talk(server.port, case["bytes"].encode("latin-1") + CANARY, PATIENCE)
    assert b"/smuggled" not in received
    got = statuses(received)
    if case["status"] == 200:  # taken; nobody has these paths
        assert got == [404, 404] and b"GET /canary" in received
    else:
        assert got == [case["status"]]


@pytest.mark.parametrize("start, port_index", [
    (start_nginx, 0), (start_nginx, 1), (start_haproxy, 0)],
    ids=["nginx", "nginx, unbuffered", "haproxy"])
def test_behind_a_proxy(server, tmp_path, start, port_index):
    proxy = start(tmp_path, server.port)
    try:
        port = proxy.ports[port_index]
        since = len(server.errors)
        taken = 0
        for number, case in enumerate(CORPUS):
            received = talk(port, case["bytes"].encode("latin-1") + CANARY, 0.25)
            taken += b"GET /canary" in received
            path = f"/stranger-{port}-{number}"
            own = talk(port, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode(),
                       PATIENCE)
            assert statuses(own) == [404] and path.encode() in own, (case["name"], own)
            wait_for(server, path)
        time.sleep(1.5)  # the proxies' times for heads and bodies end, and their logs are written
        forwarded = proxy.forwarded()
        paths, refused = answered(server, since)
        assert sum(paths.values()) + refused == sum(forwarded.values()), \
            (paths - forwarded, forwarded - paths, refused)
        # A proxy that takes bare LF, say, reads "/smuggled" as a request: then it forwards it too.
        assert not paths - forwarded, "answered, but never forwarded"
        assert sum(forwarded.values()) > len(CORPUS) + 20 and taken > 20  # it was a test
        print(f"{sum(forwarded.values())} forwarded, {sum(paths.values())} answered, "
              f"{refused} refused, {taken} canaries taken")
    finally:
        proxy.stop()
