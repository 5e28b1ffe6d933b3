"""Starting, draining, dying: nothing left behind, nobody hangs, exit codes by the table."""
import os
import pathlib
import random
import signal
import socket
import subprocess
import threading
import time

import httpx
import pytest

from conftest import BIN, SMOLLM2, Server, alive, children, serving

# Greedy, the default model is still counting after 1,500 tokens.
LONG = dict(model="tgi", messages=[{"role": "user", "content": "Write the numbers from 1 to 1000, "
                                                     "separated by commas."}],
            temperature=0, max_tokens=4000)


def launcher(*args, env=None):
    return subprocess.run([str(BIN / "chorus-launcher"), *map(str, args)], capture_output=True,
                          text=True, timeout=60, env={**os.environ, **(env or {})})


def start_stream(server, outcome):
    """Reads a long answer in the background; the outcome is the number of chunks or an error."""
    def read():
        count = 0
        try:
            for _ in server.client().chat.completions.create(**LONG, stream=True):
                count += 1
            outcome.append(count)
        except Exception as error:
            outcome.append(error)
    thread = threading.Thread(target=read)
    thread.start()
    return thread


def wait_running(server, count, seconds=30):
    """Until that many sequences are being generated."""
    end = time.monotonic() + seconds
    running = -1
    while running < count:
        assert time.monotonic() < end, f"{running} of {count} run"
        lines = httpx.get(server.url + "/metrics").text.splitlines()
        running = sum(float(line.split()[-1]) for line in lines
                      if line.startswith("tgi_batch_current_size"))
        time.sleep(0.01)


def check_gone(pids, seconds=10):
    end = time.monotonic() + seconds
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < end, f"left behind: {[p for p in pids if alive(p)]}"
        time.sleep(0.02)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_drains_and_ends_with_0(stop):
    with serving() as server:
        answers = []
        def ask():
            answers.append(server.client().chat.completions.create(
                **{**LONG, "max_tokens": 600}).usage.completion_tokens)
        thread = threading.Thread(target=ask)
        thread.start()
        wait_running(server, 1)
        server.process.send_signal(stop)
        assert server.wait() == 0
        thread.join()
        assert answers == [600]


def test_draining_is_bounded():
    with serving("--graceful-termination-timeout", 1) as server:
        outcome = []
        thread = start_stream(server, outcome)
        wait_running(server, 1)
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.wait() == 0
        assert time.monotonic() - began < 8
        thread.join()


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("victim", ["chorus-shard", "chorus-router", "launcher"])
def test_kill_9_leaves_nothing_behind(victim, shards):
    rounds = int(os.environ.get("CHORUS_KILLS", "2"))
    for _ in range(rounds):
        with serving("--num-shard", shards, "--graceful-termination-timeout", 5) as server:
            pids = list(children(server.process.pid))
            assert len(pids) == shards + 1
            outcome = []
            thread = start_stream(server, outcome)
            time.sleep(random.uniform(0, 0.6))
            target = server.process.pid if victim == "launcher" else random.choice(
                server.pids(victim))
            os.kill(target, signal.SIGKILL)
            code = server.wait(20)
            assert code == (-signal.SIGKILL if victim == "launcher" else 70)
            check_gone(pids)
            thread.join(20)
            assert not thread.is_alive(), "a client hangs"
            if victim != "launcher":
                assert any("signal 9" in line for line in server.errors), server.errors


def test_two_shards_say_what_one_says():
    ask = dict(model="tgi", messages=[{"role": "user", "content": "What is the capital of France?"}],
               temperature=0, max_tokens=20)
    texts = []
    for shards in (1, 2):
        with serving("--num-shard", shards) as server:
            texts.append(server.client().chat.completions.create(**ask).choices[0].message.content)
    assert texts[0] == texts[1]


def test_health_says_503_until_ready():
    server = Server(wait=False)
    try:
        seen, bodies = [], []
        end = time.monotonic() + 60
        while time.monotonic() < end and 200 not in seen:
            try:
                answer = httpx.get(server.url + "/health", timeout=5)
                seen.append(answer.status_code)
                bodies.append(answer.text)
            except httpx.ConnectError:
                pass
        assert set(seen) <= {200, 503} and 200 in seen
    finally:
        assert server.stop() == 0


def test_beyond_the_limit_429_with_retry_after():
    with serving("--max-concurrent-requests", 2, "--graceful-termination-timeout", 1) as server:
        outcomes = [[] for _ in range(2)]
        threads = [start_stream(server, outcome) for outcome in outcomes]
        wait_running(server, 2)
        answer = httpx.post(server.url + "/v1/chat/completions", json={**LONG, "max_tokens": 1},
                            timeout=30)
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) >= 1
        server.stop()
        for thread in threads:
            thread.join(30)


def test_many_clients_a_third_hang_up():
    clients = int(os.environ.get("CHORUS_CLIENTS", "24"))
    with serving() as server:
        results = [None] * clients

        def ask(i):
            client = server.client(timeout=120)
            stream = client.chat.completions.create(
                model="tgi", messages=[{"role": "user", "content": f"Tell a story about {i}."}],
                stream=True, temperature=0.7, seed=i, max_tokens=48,
                stream_options={"include_usage": True})
            for n, chunk in enumerate(stream):
                if i % 3 == 0 and n == 5:
                    stream.close()
                    results[i] = "hung up"
                    return
                if chunk.usage:
                    results[i] = chunk.usage.completion_tokens

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(180)
        assert all(isinstance(r, int) or r == "hung up" for r in results), results
        end = time.monotonic() + 10
        used = None
        while used != 0 and time.monotonic() < end:
            lines = httpx.get(server.url + "/metrics").text.splitlines()
            used = sum(float(l.split()[-1]) for l in lines if l.startswith("chorus_kv_blocks_used"))
            time.sleep(0.05)
        assert used == 0


def test_a_missing_model_is_66(tmp_path):
    result = launcher("--model-id", tmp_path / "nothing.gguf", "--port", 0)
    assert result.returncode == 66
    assert "nothing.gguf" in result.stderr


@pytest.mark.parametrize("cut", [0, 3, 100, 5000, 3_000_000, 50_000_000])
def test_a_cut_model_is_65(tmp_path, cut):
    path = tmp_path / "cut.gguf"
    path.write_bytes(SMOLLM2.read_bytes()[:cut])
    result = launcher("--model-id", path, "--port", 0)
    assert result.returncode == 65, result.stderr
    assert "cut.gguf" in result.stderr


def test_a_port_in_use_is_69():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = launcher("--model-id", SMOLLM2, "--hostname", "127.0.0.1", "--port", port)
    assert result.returncode == 69
    assert str(port) in result.stderr


def test_a_kv_cache_too_small_for_one_request_is_69():
    result = launcher("--model-id", SMOLLM2, "--hostname", "127.0.0.1", "--port", 0,
                      "--kv-cache-tokens", 4096)
    assert result.returncode == 69
    assert "--max-total-tokens" in result.stderr


@pytest.mark.parametrize("args, named", [
    (["--port", "70000"], "port"),
    (["--port", "x"], "port"),
    (["--nonsense"], "nonsense"),
    (["--num-shard", "0"], "num-shard"),
    (["--quantize", "awq"], "quantize"),
    (["--kv-cache-dtype", "fp8_e5m2"], "kv-cache-dtype"),
    ([], "model-id"),
])
def test_a_bad_flag_is_2_and_named(args, named):
    with_model = ["--model-id", SMOLLM2] if args else []
    result = launcher(*with_model, *args, env={"MODEL_ID": ""})
    assert result.returncode == 2
    assert named in result.stderr


def test_a_pods_hostname_is_no_bind_address():
    with serving(env={"HOSTNAME": "chorus-7d9f-abcde"}) as server:
        assert httpx.get(server.url + "/health").status_code == 200


def test_nothing_is_left_in_shared_memory():
    before = set(pathlib.Path("/dev/shm").iterdir())
    with serving("--num-shard", 2) as server:
        assert httpx.get(server.url + "/health").status_code == 200
    assert set(pathlib.Path("/dev/shm").iterdir()) <= before
