"""API keys with the real binaries: who may ask, where a key can be seen, and changing them."""
import pathlib
import time

import httpx
import openai
import pytest

from conftest import children, serving

USER = {"role": "user", "content": "Hi"}
SECRETS = ["sekret-variable-1", "sekret-file-2", "sekret-wrong-3", "sekret-later-4"]


@pytest.fixture(scope="module")
def key_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("keys") / "keys"
    file.write_text("# people\nann:sekret-file-2\n")
    return file


@pytest.fixture(scope="module")
def guarded(key_file):
    with serving("--api-key-file", key_file, env={"API_KEY": "sekret-variable-1"}) as server:
        yield server


def ask(server, key, **kwargs):
    return openai.OpenAI(base_url=server.url + "/v1", api_key=key, max_retries=0, **kwargs) \
        .chat.completions.create(model="tgi", messages=[USER], max_tokens=2)


def logged(server, text):
    end = time.monotonic() + 5
    while time.monotonic() < end:
        if any(text in line for line in server.errors):
            return True
        time.sleep(0.05)
    return False


def test_the_right_keys_are_served_and_named_in_the_log(guarded):
    assert ask(guarded, "sekret-variable-1").choices
    assert logged(guarded, "key api-key-1")
    assert ask(guarded, "sekret-file-2").choices
    assert logged(guarded, "key ann")


@pytest.mark.parametrize("header", ["api-key", "x-api-key"])
def test_other_clients_headers_are_served(guarded, header):
    answer = httpx.get(guarded.url + "/v1/models", headers={header: "sekret-file-2"})
    assert answer.status_code == 200


def test_a_wrong_key_is_the_clients_authentication_error(guarded):
    with pytest.raises(openai.AuthenticationError) as caught:
        ask(guarded, "sekret-wrong-3")
    assert caught.value.code == "invalid_api_key"


@pytest.mark.parametrize("method, path", [
    ("GET", "/v1/models"), ("GET", "/info"), ("POST", "/v1/chat/completions"), ("GET", "/docs"),
    ("POST", "/generate"), ("OPTIONS", "/info"), ("PUT", "/v1/models"), ("GET", "/nowhere")])
def test_without_a_key_nothing_is_told(guarded, method, path):
    answer = httpx.request(method, guarded.url + path)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("path", ["/", "/health", "/ping", "/metrics"])
def test_probes_and_scrapes_bring_no_key(guarded, path):
    assert httpx.get(guarded.url + path).status_code == 200


def test_a_large_body_without_a_key_is_refused_before_it_is_read(guarded):
    answer = httpx.post(guarded.url + "/v1/chat/completions", content=b"x" * 1_900_000)
    assert answer.status_code == 401


def test_the_file_is_read_again_and_a_broken_one_changes_nothing(guarded, key_file):
    key_file.write_text("ann:sekret-later-4\n")
    time.sleep(1.1)
    with pytest.raises(openai.AuthenticationError):
        ask(guarded, "sekret-file-2")
    assert ask(guarded, "sekret-later-4").choices
    key_file.write_text("ann:sekret-later-4\nnot a key\n")
    time.sleep(1.1)
    assert ask(guarded, "sekret-later-4").choices
    assert logged(guarded, f"{key_file}: line 2")


def test_no_key_is_seen_in_logs_or_process_lists(guarded):
    seen = "\n".join(guarded.errors + guarded.lines)
    for pid in [guarded.process.pid, *children(guarded.process.pid)]:
        for name in ("cmdline", "environ"):
            seen += pathlib.Path(f"/proc/{pid}/{name}").read_bytes().decode(errors="replace")
    seen += httpx.get(guarded.url + "/metrics").text
    for secret in SECRETS:
        assert secret not in seen


@pytest.mark.parametrize("text, code, part", [
    (None, 66, "No such file"), ("", 65, "no key in it"), ("a b\n", 65, "line 1")])
def test_a_key_file_that_cannot_be_used_ends_the_start(tmp_path, text, code, part):
    file = tmp_path / "keys"
    if text is not None:
        file.write_text(text)
    with serving("--api-key-file", file, wait=False) as server:
        assert server.wait() == code
        assert any(str(file) in line and part in line for line in server.errors)
