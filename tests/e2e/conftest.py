"""The real binaries on loopback, a launcher per test module unless a test wants its own.

Every server gets a free port and is stopped at the end; nothing of it may be left running.
"""
import contextlib
import os
import pathlib
import re
import signal
import socket
import subprocess
import threading
import time

import openai
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("CHORUS_BIN", ROOT / "build/release/bin"))
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "chorus"
SMOLLM2 = CACHE / "SmolLM2-135M-Instruct.Q4_1.gguf"
START_SECONDS = 120

# What a shell starts in the background ignores SIGINT, and so do its children.
signal.signal(signal.SIGINT, signal.default_int_handler)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def children(pid):
    """All descendants of a process: {pid: command line}."""
    found = {}
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            parent = int(re.search(r"\) \S (\d+)", (entry / "stat").read_text())[1])
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            if parent == pid:
                found[int(entry.name)] = command
                found |= children(int(entry.name))
    return found


def alive(pid):
    """Running, and not a zombie that waits for its parent."""
    try:
        state = re.search(r"\) (\S)", pathlib.Path(f"/proc/{pid}/stat").read_text())[1]
    except OSError:
        return False
    return state != "Z"


class Server:
    """A chorus-launcher with what it spawned."""

    def __init__(self, *args, model=SMOLLM2, env=None, wait=True):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [BIN / "chorus-launcher", "--model-id", model, "--port", self.port,
                   "--hostname", "127.0.0.1", *args]
        self.process = subprocess.Popen(
            [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, env={**os.environ, **(env or {})}, start_new_session=True)
        self.lines, self.errors = [], []
        self.ready = threading.Event()
        self._readers = [
            threading.Thread(target=self._read, args=(self.process.stdout, self.lines)),
            threading.Thread(target=self._read, args=(self.process.stderr, self.errors))]
        for reader in self._readers:
            reader.start()
        if wait:
            self.wait_ready()

    def _read(self, pipe, lines):
        for line in pipe:
            lines.append(line.rstrip("\n"))
            if "://" in line and pipe is self.process.stdout:
                self.ready.set()

    def wait_ready(self):
        end = time.monotonic() + START_SECONDS
        while not self.ready.wait(0.05):
            assert self.process.poll() is None, "\n".join(self.errors)
            assert time.monotonic() < end, "not ready in time: " + "\n".join(self.errors)

    def pids(self, program):
        return sorted(pid for pid, command in children(self.process.pid).items()
                      if f"/{program}" in command.split(" ")[0])

    def client(self, **kwargs):
        return openai.OpenAI(base_url=self.url + "/v1", api_key="-", max_retries=0, **kwargs)

    def wait(self, timeout=30):
        code = self.process.wait(timeout)
        for reader in self._readers:
            reader.join(timeout)
        return code

    def stop(self, timeout=30):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.wait(timeout)


@contextlib.contextmanager
def serving(*args, **kwargs):
    server = Server(*args, **kwargs)
    started = children(server.process.pid)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.stop()
        if server.process.poll() is None:
            os.killpg(server.process.pid, signal.SIGKILL)
            server.wait()
        left = [pid for pid in started if alive(pid)]
        assert not left, f"left behind: {left}"


@pytest.fixture(scope="module")
def server():
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def client(server):
    return server.client()
