"""Models by name: chorus-launcher against a hub on loopback that fails in every way we know.

Whatever happens, either the right bytes are in the cache or a message names file and cause.
"""
import collections
import hashlib
import json
import os
import pathlib
import signal
import struct
import subprocess
import sys
import time

import pytest

from conftest import BIN, SMOLLM2, serving
from hub_server import COMMIT, Hub, etag_of

LARGE = 96 << 20  # three parts


def safetensors(size):
    """A model file of about `size` bytes whose every 64 KiB differ."""
    count = size // 4
    header = json.dumps({"w": {"dtype": "F32", "shape": [count],
                               "data_offsets": [0, count * 4]}}).encode()
    block = hashlib.sha256(b"block").digest() * 2048
    body = b"".join(struct.pack("<Q", i) + block[8:] for i in range(count * 4 // len(block) + 1))
    return struct.pack("<Q", len(header)) + header + body[:count * 4]


TEXTS = {
    "config.json": json.dumps({"architectures": ["LlamaForCausalLM"], "vocab_size": 8}).encode(),
    "tokenizer.json": b'{"model": {}}',
    "generation_config.json": b"{}",
}
OTHERS = {"README.md": b"read me", "pytorch_model.bin": b"pickle",
          "onnx/model.onnx": b"x", "consolidated.safetensors": b"copy"}


@pytest.fixture(scope="module")
def large():
    return safetensors(LARGE)


def small_model():
    return {**TEXTS, **OTHERS, "model.safetensors": safetensors(200_000)}


class Launcher:
    def __init__(self, home, hub, *arguments, verb=("download-weights",), env=None):
        variables = {k: v for k, v in os.environ.items()
                     if not k.startswith(("HF_", "HUGGING", "TRANSFORMERS_"))}
        variables |= {"HF_HOME": str(home), "HF_ENDPOINT": hub if isinstance(hub, str) else hub.url}
        self.process = subprocess.Popen(
            [str(BIN / "chorus-launcher"), *verb, *map(str, arguments)], text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**variables, **(env or {})})

    def end(self, timeout=60):
        self.out, self.log = self.process.communicate(timeout=timeout)
        self.code = self.process.returncode
        return self


def fetch(home, hub, *arguments, **kwargs):
    return Launcher(home, hub, *(arguments or ("acme/tiny",)), **kwargs).end()


def folder(home):
    return pathlib.Path(home) / "hub/models--acme--tiny"


def snapshot(home):
    return folder(home) / "snapshots" / COMMIT


def assert_right(home, hub, names):
    for name in names:
        link = snapshot(home) / name
        assert link.is_symlink() and not os.path.isabs(os.readlink(link))
        assert link.read_bytes() == hub.files[name], name
        assert link.resolve() == (folder(home) / "blobs" / etag_of(name, hub.files[name])).resolve()
    assert not list((folder(home) / "blobs").glob("*incomplete*"))


NEEDED = [*TEXTS, "model.safetensors"]


def test_fetches_what_serving_needs_and_nothing_else(tmp_path):
    with Hub(small_model()) as hub:
        done = fetch(tmp_path, hub)
        assert done.code == 0, done.log
        assert done.out.strip() == str(snapshot(tmp_path))
        assert_right(tmp_path, hub, NEEDED)
        assert sorted(p.name for p in snapshot(tmp_path).iterdir()) == sorted(NEEDED)
        assert (folder(tmp_path) / "refs/main").read_text() == COMMIT
        before = len(hub.requests)
        again = fetch(tmp_path, hub)
        assert again.code == 0 and len(hub.requests) == before + 1  # is "main" still this commit?
        assert fetch(tmp_path, hub, "acme/tiny", "--revision", COMMIT).code == 0
        assert len(hub.requests) == before + 1  # a commit never changes


def test_large_files_come_in_parts_and_the_token_stays_with_the_hub(tmp_path, large):
    with Hub({**TEXTS, "model.safetensors": large}) as hub:
        hub.token = "hf_secret"
        done = fetch(tmp_path, hub, env={"HF_TOKEN": "hf_secret"})
        assert done.code == 0, done.log
        assert_right(tmp_path, hub, NEEDED)
        parts = hub.asked("GET", "model.safetensors", "content")
        assert len({r[3]["Range"] for r in parts}) == 3
        assert all("Authorization" not in r[3] for r in parts)
        assert "hf_secret" not in done.log and "signature" not in done.log


def test_a_cut_transfer_goes_on_where_it_stopped(tmp_path, large):
    with Hub({**TEXTS, "model.safetensors": large}) as hub:
        hub.cuts["model.safetensors"].extend([5 << 20, 7 << 20, 1 << 20])
        hub.cuts["config.json"].append(3)
        done = fetch(tmp_path, hub)
        assert done.code == 0, done.log
        assert "trying again" in done.log
        assert_right(tmp_path, hub, NEEDED)
        assert bytes_asked(hub.requests) > len(large)  # the rest of each part a second time


def test_a_server_without_ranges_is_read_from_one_end_to_the_other(tmp_path, large):
    with Hub({**TEXTS, "model.safetensors": large}) as hub:
        hub.ignores_ranges = True
        hub.cuts["model.safetensors"].extend([None, None, None, 4 << 20])
        done = fetch(tmp_path, hub)
        assert done.code == 0, done.log
        assert_right(tmp_path, hub, NEEDED)


def wait_until(happened, seconds=30):
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.005)


def bytes_asked(requests):
    """Of the large file, by the ranges asked for."""
    ranges = [r[3]["Range"].removeprefix("bytes=").split("-")
              for r in requests if r[0] == "content" and r[1] == "GET"]
    return sum(int(end) - int(begin) + 1 for begin, end in ranges)


@pytest.mark.parametrize("share", [0, 0.2, 0.7])
def test_kill_9_in_mid_download_then_resume(tmp_path, large, share):
    with Hub({**TEXTS, "model.safetensors": large}) as hub:
        hub.bytes_per_second = 16 << 20  # each connection
        first = Launcher(tmp_path, hub, "acme/tiny")
        wait_until(lambda: hub.asked("GET", "model.safetensors", "content"))
        wait_until(lambda: hub.sent >= share * len(large))
        first.process.kill()
        first.end()
        assert not (snapshot(tmp_path) / "model.safetensors").exists()
        offline = fetch(tmp_path, hub, env={"HF_HUB_OFFLINE": "1"})
        assert offline.code == 66, offline.log
        hub.bytes_per_second = None
        before = hub.sent
        done = fetch(tmp_path, hub)
        assert done.code == 0, done.log
        assert_right(tmp_path, hub, NEEDED)
        # Little of what had come is sent again: what lay in sockets, and 1 MiB a part. (What was
        # asked for would not do: the hub may read a request of the killed one as late as now.)
        again = hub.sent - before
        assert again < len(large) * (1 - share) + (24 << 20), hub.requests


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_promptly_and_the_next_attempt_goes_on(tmp_path, large, number):
    with Hub({**TEXTS, "model.safetensors": large}) as hub:
        hub.bytes_per_second = 8 << 20
        first = Launcher(tmp_path, hub, "acme/tiny")
        wait_until(lambda: hub.sent > 4 << 20)
        first.process.send_signal(number)
        first.end()
        assert hub.sent < len(large)  # it did not wait for the rest
        assert first.code == 128 + number and "kept" in first.log
        hub.bytes_per_second = None
        done = fetch(tmp_path, hub)
        assert done.code == 0 and "of them are there" in done.log, done.log
        assert_right(tmp_path, hub, NEEDED)


def test_gated_models_are_explained(tmp_path):
    with Hub(small_model()) as hub:
        hub.token = "hf_right"
        without = fetch(tmp_path, hub)
        assert without.code == 66
        for words in ("acme/tiny", "401", "HF_TOKEN", "licence", "Access is restricted."):
            assert words in without.log
        wrong = fetch(tmp_path, hub, env={"HF_TOKEN": "hf_wrong"})
        assert wrong.code == 66 and "may not read it" in wrong.log
        (tmp_path / "token").write_text("hf_right\n")
        assert fetch(tmp_path, hub).code == 0


def test_what_is_not_there_is_named(tmp_path):
    with Hub(small_model()) as hub:
        model = fetch(tmp_path, hub, "acme/other")
        assert model.code == 66 and "acme/other: no model of this name" in model.log
        revision = fetch(tmp_path, hub, "acme/tiny", "--revision", "v9")
        assert revision.code == 66 and "no revision 'v9'" in revision.log
        hub.listed = [*hub.files, "merges.txt"]
        file = fetch(tmp_path, hub)
        assert file.code == 66 and "merges.txt: no such file" in file.log
    path = fetch(tmp_path, "http://127.0.0.1:9", "/nowhere/model.gguf")
    assert path.code == 66 and "no such folder or file" in path.log


def test_busy_servers_are_asked_again_when_they_say(tmp_path):
    with Hub(small_model()) as hub:
        hub.statuses["listing"].append((429, {"Retry-After": "1"}))
        hub.statuses["model.safetensors"].extend([(503, {}), (429, {"Retry-After": "1"})])
        begin = time.monotonic()
        done = fetch(tmp_path, hub)
        assert done.code == 0, done.log
        assert time.monotonic() - begin > 2
        assert_right(tmp_path, hub, NEEDED)


def test_a_hub_that_does_not_answer_is_unavailable(tmp_path):
    done = fetch(tmp_path, "http://127.0.0.1:9")
    assert done.code == 69 and "acme/tiny: cannot be fetched from http://127.0.0.1:9" in done.log


def test_a_silent_server_is_given_up_and_asked_again(tmp_path):
    with Hub(small_model()) as hub:
        hub.silent_after["model.safetensors"].append(70_000)
        done = fetch(tmp_path, hub, env={"HF_HUB_DOWNLOAD_TIMEOUT": "1"})
        assert done.code == 0 and "trying again" in done.log, done.log
        assert_right(tmp_path, hub, NEEDED)


def test_a_wrong_checksum_is_fetched_once_more_and_then_refused(tmp_path):
    wrong = safetensors(200_000)[:-1] + b"!"
    with Hub(small_model()) as hub:
        hub.bodies["model.safetensors"] = collections.deque([wrong])
        once = fetch(tmp_path, hub)
        assert once.code == 0 and "wrong checksum" in once.log, once.log
        assert_right(tmp_path, hub, NEEDED)
    with Hub(small_model()) as hub:
        hub.bodies["model.safetensors"] = collections.deque([wrong] * 9)
        hub.bodies["config.json"] = collections.deque([b"{}" + b" " * (len(TEXTS["config.json"]) - 2)] * 9)
        twice = fetch(tmp_path / "second", hub)
        assert twice.code == 65 and "config.json: wrong checksum, twice" in twice.log
        hub.bodies.pop("config.json")
        twice = fetch(tmp_path / "second", hub)
        assert twice.code == 65 and "model.safetensors: wrong checksum, twice" in twice.log
        assert not (snapshot(tmp_path / "second") / "model.safetensors").exists()
        assert not list((folder(tmp_path / "second") / "blobs").glob("*incomplete*"))


@pytest.mark.parametrize("claimed", [1000, 10_000_000])
def test_a_wrong_size_is_refused(tmp_path, claimed):
    with Hub(small_model()) as hub:
        hub.sizes["model.safetensors"] = claimed
        done = fetch(tmp_path, hub)
        assert done.code == 65 and "model.safetensors: wrong size" in done.log, done.log
        assert not (snapshot(tmp_path) / "model.safetensors").exists()


@pytest.mark.parametrize("name", ["../../../../escaped", "/etc/escaped", "a/../../escaped", "a\\b"])
def test_names_that_lead_elsewhere_are_refused(tmp_path, name):
    with Hub(small_model()) as hub:
        hub.listed = [*hub.files, name]
        done = fetch(tmp_path, hub)
        assert done.code == 65 and "leads out of the model's folder" in done.log
        assert not list(tmp_path.rglob("escaped"))
        hub.listed, hub.etags["config.json"] = None, "../../escaped"
        done = fetch(tmp_path, hub)
        assert done.code == 65 and "names no checksum (etag) for config.json" in done.log
        assert not list(tmp_path.rglob("escaped"))


def test_an_index_may_not_name_files_elsewhere(tmp_path):
    index = json.dumps({"weight_map": {"w": "../../../secret.safetensors"}}).encode()
    with Hub({**TEXTS, "model.safetensors.index.json": index}) as hub:
        done = fetch(tmp_path, hub)
        assert done.code == 65 and "secret.safetensors" in done.log


def test_the_files_of_an_index(tmp_path):
    index = json.dumps({"weight_map": {"w": "a-1.safetensors", "v": "a-2.safetensors"}}).encode()
    files = {**TEXTS, "model.safetensors.index.json": index,
             "a-1.safetensors": safetensors(1000),
             "a-2.safetensors": safetensors(2000).replace(b'"w"', b'"v"'),
             "consolidated.safetensors": b"copy"}
    with Hub(files) as hub:
        done = fetch(tmp_path, hub)
        assert done.code == 0, done.log
        assert_right(tmp_path, hub, [n for n in files if n != "consolidated.safetensors"])
        (snapshot(tmp_path) / "a-2.safetensors").unlink()
        offline = fetch(tmp_path, hub, env={"HF_HUB_OFFLINE": "1"})
        assert offline.code == 66 and "a-2.safetensors is missing" in offline.log


def test_pickled_weights_are_refused(tmp_path):
    with Hub({**TEXTS, "pytorch_model.bin": b"pickle"}) as hub:
        done = fetch(tmp_path, hub)
        assert done.code == 65 and "only as pytorch_model.bin" in done.log


def test_too_little_disk_is_told_before_it_is_full(tmp_path, large):
    with Hub({**TEXTS, "model.safetensors": large}) as hub:
        hub.sizes["model.safetensors"] = 1 << 50
        done = fetch(tmp_path, hub)
        assert done.code == 69 and "needs 1125.90 TB more" in done.log and "are free" in done.log, done.log
        assert not hub.asked("GET", "model.safetensors", "content")


def test_two_launchers_at_once_share_the_work(tmp_path, large):
    with Hub({**TEXTS, "model.safetensors": large}) as hub:
        hub.bytes_per_second = 32 << 20
        both = [Launcher(tmp_path, hub, "acme/tiny") for _ in range(2)]
        for one in both:
            one.end()
        assert [one.code for one in both] == [0, 0], both[0].log + both[1].log
        assert sum("waiting for it" in one.log for one in both) == 1
        assert len(hub.asked("GET", "model.safetensors", "content")) == 3
        assert_right(tmp_path, hub, NEEDED)


def test_the_cached_copy_serves_where_the_hub_does_not(tmp_path):
    with Hub(small_model()) as hub:
        assert fetch(tmp_path, hub).code == 0
    unreachable = fetch(tmp_path, hub)
    assert unreachable.code == 0 and "serving the copy in the cache" in unreachable.log
    offline = fetch(tmp_path, hub, env={"HF_HUB_OFFLINE": "1"})
    assert offline.code == 0 and offline.out.strip() == str(snapshot(tmp_path))
    elsewhere = fetch(tmp_path / "empty", hub, env={"HF_HUB_OFFLINE": "1"})
    assert elsewhere.code == 66 and "HF_HUB_OFFLINE is set" in elsewhere.log


def test_a_redirect_never_leaves_https(tmp_path):
    certificate = tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=hub",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", certificate, "-out",
         tmp_path / "public.pem"], check=True, capture_output=True)
    certificate.write_text(certificate.read_text() + (tmp_path / "public.pem").read_text())
    with Hub(small_model(), certificate=certificate) as hub:
        unknown = fetch(tmp_path, hub)
        assert unknown.code == 69 and "certificate" in unknown.log
        done = fetch(tmp_path, hub, env={"REQUESTS_CA_BUNDLE": str(tmp_path / "public.pem")})
        assert done.code == 69 and "model.safetensors" in done.log, done.log
        assert not [r for r in hub.requests if r[0] == "content"]
        assert (snapshot(tmp_path) / "config.json").exists()  # that one came by https


def test_a_file_system_without_links(tmp_path):
    """As some network mounts are: link and symlink fail."""
    (tmp_path / "no_links.c").write_text(
        "#include <errno.h>\n"
        "int symlink(const char *a, const char *b) { errno = EPERM; return -1; }\n"
        "int link(const char *a, const char *b) { errno = EPERM; return -1; }\n")
    shim = tmp_path / "no_links.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", shim, tmp_path / "no_links.c"], check=True)
    for size in (200_000, 20 << 20):
        files = {**TEXTS, "model.safetensors": safetensors(size)}
        with Hub(files) as hub:
            home = tmp_path / str(size)
            done = fetch(home, hub, env={"LD_PRELOAD": str(shim)})
            assert done.code == 0, done.log
            for name in NEEDED:
                assert not (snapshot(home) / name).is_symlink()
                assert (snapshot(home) / name).read_bytes() == files[name]
            before = len(hub.requests)
            assert fetch(home, hub, env={"LD_PRELOAD": str(shim)}).code == 0
            assert len(hub.requests) == before + 1


def test_a_cache_that_cannot_be_written(tmp_path):
    with Hub(small_model()) as hub:
        (tmp_path / "file").write_text("")
        done = fetch(tmp_path / "file", hub)
        assert done.code == 69 and "cannot make the folder" in done.log
        filled = tmp_path / "filled"
        assert fetch(filled, hub).code == 0
        # Sandboxes mount it read-only: nothing needs to be written where everything is there.
        subprocess.run(["rm", "-r", filled / "hub/.locks"], check=True)
        done = fetch(filled, hub)
        assert done.code == 0 and not (filled / "hub/.locks").exists()


def test_progress_is_one_line_on_a_terminal(tmp_path, large):
    with Hub({**TEXTS, "model.safetensors": large}) as hub:
        hub.bytes_per_second = 16 << 20
        primary, secondary = os.openpty()
        variables = {**os.environ, "HF_HOME": str(tmp_path), "HF_ENDPOINT": hub.url}
        process = subprocess.Popen(
            [str(BIN / "chorus-launcher"), "download-weights", "acme/tiny"],
            stdout=subprocess.DEVNULL, stderr=secondary, env=variables)
        os.close(secondary)
        text = b""
        while True:
            try:
                part = os.read(primary, 4096)
            except OSError:  # the other end is closed
                break
            text += part
        os.close(primary)
        assert process.wait(30) == 0
        bars = [bar for bar in text.decode().split("\r") if "MB/s" in bar]
        assert len(bars) > 5 and "acme/tiny" in bars[-1] and " left" in bars[1]
        assert text.count(b"\n") == text.count(b"fetching")  # only the log has lines


def test_one_gguf_by_its_quantisation(tmp_path):
    gguf = SMOLLM2.read_bytes()
    files = {"tiny-Q4_1.gguf": gguf, "tiny-Q8_0.gguf": b"another", "README.md": b""}
    with Hub(files) as hub:
        unclear = fetch(tmp_path, hub)
        assert unclear.code == 2
        assert "acme/tiny:Q4_1, acme/tiny:Q8_0" in unclear.log
        done = fetch(tmp_path, hub, "acme/tiny:q4_1")
        assert done.code == 0, done.log
        assert done.out.strip() == str(snapshot(tmp_path) / "tiny-Q4_1.gguf")
        assert [p.name for p in snapshot(tmp_path).iterdir()] == ["tiny-Q4_1.gguf"]
        environment = {"HF_HOME": str(tmp_path), "HF_ENDPOINT": hub.url}
        with serving(model="acme/tiny:Q4_1", env=environment) as server:
            assert server.client().models.list().data[0].id == "acme/tiny:Q4_1"
            info = server.client().get("/../info", cast_to=object)
            assert info["model_id"] == "acme/tiny:Q4_1" and info["model_sha"] == COMMIT


def test_what_python_has_fetched_is_found_and_the_other_way_round(tmp_path):
    code = ("import huggingface_hub, sys; "
            "print(huggingface_hub.snapshot_download('acme/tiny', local_files_only=%s))")

    def python(home, hub, local):
        return subprocess.run(
            [sys.executable, "-c", code % local], text=True,
            capture_output=True, env={**os.environ, "HF_HOME": str(home), "HF_ENDPOINT": hub.url,
                                      "HF_HUB_DISABLE_XET": "1"})

    with Hub(small_model()) as hub:
        theirs = python(tmp_path / "theirs", hub, False)
        assert theirs.returncode == 0, theirs.stderr
        before = len(hub.requests)
        offline = fetch(tmp_path / "theirs", hub, env={"HF_HUB_OFFLINE": "1"})
        assert offline.code == 0 and offline.out == theirs.stdout, offline.log
        online = fetch(tmp_path / "theirs", hub)
        assert online.code == 0 and not [r for r in hub.requests[before:] if "resolve" in r[2]]

        assert fetch(tmp_path / "ours", hub).code == 0
        found = python(tmp_path / "ours", hub, True)
        assert found.returncode == 0, found.stderr
        assert found.stdout.strip() == str(snapshot(tmp_path / "ours"))
        before = len(hub.requests)
        assert python(tmp_path / "ours", hub, False).returncode == 0
        assert not [r for r in hub.requests[before:] if r[1] == "GET" and r[2].endswith("model.safetensors")]
