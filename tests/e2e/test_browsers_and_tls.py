"""HTTPS with the official client, and what browsers ask of the real binaries."""
import pathlib
import ssl
import subprocess
import time

import httpx
import openai
import pytest

from conftest import serving

USER = {"role": "user", "content": "Count to ten."}


def make_certificate(folder, name="localhost"):
    """A certificate of its own for 127.0.0.1 and localhost: (certificate, key)."""
    certificate, key = folder / "server.pem", folder / "server.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-keyout", key, "-out", certificate, "-days", "2", "-subj", f"/CN={name}",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        check=True, capture_output=True)
    return certificate, key


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def secure(files):
    with serving("--tls-cert", files[0], "--tls-key", files[1]) as server:
        server.url = server.url.replace("http:", "https:")
        yield server


def client_of(server, certificate):
    context = ssl.create_default_context(cafile=str(certificate))
    return openai.OpenAI(base_url=server.url + "/v1", api_key="-", max_retries=0,
                         http_client=httpx.Client(verify=context))


def test_the_official_client_streams_over_tls(secure, files):
    assert any("https://" in line for line in secure.lines)
    chunks = list(client_of(secure, files[0]).chat.completions.create(
        model="tgi", messages=[USER], max_tokens=30, stream=True,
        extra_body={"ignore_eos": True}))
    assert len(chunks) > 10
    assert chunks[-1].choices[0].finish_reason in ("length", "stop")


def test_a_client_that_leaves_over_tls_is_noticed(secure, files):
    stream = client_of(secure, files[0]).chat.completions.create(
        model="tgi", messages=[USER], max_tokens=4000, stream=True)
    next(iter(stream))
    stream.close()
    end = time.monotonic() + 5
    while not any(" 499 " in line for line in secure.errors):
        assert time.monotonic() < end, "\n".join(secure.errors[-5:])
        time.sleep(0.05)


@pytest.mark.parametrize("flag, works", [
    ("-tls1_3", True), ("-tls1_2", True), ("-tls1_1", False)])
def test_versions(secure, flag, works):
    shown = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{secure.port}", flag, "-alpn", "http/1.1",
         "-cipher", "DEFAULT:@SECLEVEL=0"], input=b"", capture_output=True).stdout.decode()
    assert ("ALPN protocol: http/1.1" in shown) == works


@pytest.mark.parametrize("cipher", ["AES128-SHA", "ECDHE-ECDSA-AES128-SHA", "AES256-GCM-SHA384"])
def test_weak_ciphers_are_not_spoken(secure, cipher):
    shown = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{secure.port}", "-tls1_2",
         "-cipher", cipher + ":@SECLEVEL=0"], input=b"", capture_output=True).stdout.decode()
    assert "Cipher is (NONE)" in shown


def test_plain_http_is_told_what_the_port_speaks(secure):
    answer = httpx.get(f"http://127.0.0.1:{secure.port}/health")
    assert (answer.status_code, answer.text) == (400, "This port speaks HTTPS alone.\n")


def test_a_renewed_certificate_is_shown_and_no_stream_is_cut(secure, files):
    old = pathlib.Path(files[0]).read_text()
    cut = pathlib.Path(files[0]).with_name("old.pem")
    cut.write_text(old)
    stream = client_of(secure, cut).chat.completions.create(
        model="tgi", messages=[USER], max_tokens=200, stream=True, seed=1,
        extra_body={"ignore_eos": True})
    first = next(iter(stream))
    make_certificate(pathlib.Path(files[0]).parent, "renewed")
    time.sleep(1.1)
    assert ssl.get_server_certificate(("127.0.0.1", secure.port)) == \
        pathlib.Path(files[0]).read_text()
    rest = list(stream)
    assert first.choices and rest[-1].choices[0].finish_reason in ("length", "stop")


@pytest.mark.parametrize("spoil, code, part", [
    (lambda cert, key: cert.unlink(), 66, "server.pem: No such file"),
    (lambda cert, key: key.write_text("nonsense"), 65, "server.key: there is no unencrypted PEM"),
    (lambda cert, key: cert.write_text(""), 65, "server.pem: there is no PEM certificate")])
def test_files_that_cannot_be_used_end_the_start(tmp_path, spoil, code, part):
    certificate, key = make_certificate(tmp_path)
    spoil(certificate, key)
    with serving("--tls-cert", certificate, "--tls-key", key, wait=False) as server:
        assert server.wait() == code
        assert any(part in line for line in server.errors)


# ---- browsers ----

PAGE = {"Origin": "https://chat.example"}
PREFLIGHT = PAGE | {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers":
        "authorization,content-type,x-request-id,x-stainless-lang,x-stainless-retry-count"}


@pytest.fixture(scope="module")
def guarded():
    with serving(env={"API_KEY": "sekret"}) as server:
        yield server


@pytest.mark.parametrize("path", [
    "/v1/chat/completions", "/v1/models", "/health", "/metrics", "/generate", "/nowhere"])
def test_a_page_may_ask_anything_and_send_its_key(guarded, path):
    answer = httpx.options(guarded.url + path, headers=PREFLIGHT)
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["access-control-allow-headers"] == \
        PREFLIGHT["Access-Control-Request-Headers"]
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize("send, status", [
    (lambda url: httpx.get(url + "/v1/models", headers=PAGE), 401),
    (lambda url: httpx.post(url + "/v1/chat/completions", content=b"x" * 3_000_000, headers=PAGE |
                            {"Authorization": "Bearer sekret"}), 413),
    (lambda url: httpx.get(url + "/v1/models", headers=PAGE | {"X": "y" * 40_000}), 431),
    (lambda url: httpx.get(url + "/nowhere", headers=PAGE | {"Authorization": "Bearer sekret"}),
     404)])
def test_a_page_can_read_every_error(guarded, send, status):
    answer = send(guarded.url)
    assert answer.status_code == status
    assert answer.headers["access-control-allow-origin"] == "*"


def test_listed_origins_alone():
    with serving("--cors-allow-origin", "https://chat.example",
                 "--cors-allow-origin", "http://localhost:5173") as server:
        ask = lambda origin: httpx.get(server.url + "/v1/models", headers={"Origin": origin})
        assert ask("https://chat.example").headers["access-control-allow-origin"] == \
            "https://chat.example"
        assert "access-control-allow-origin" not in ask("https://evil.example").headers
        refused = httpx.options(server.url + "/v1/models",
                                headers=PREFLIGHT | {"Origin": "https://evil.example"})
        assert refused.status_code == 403
        # DNS rebinding: on a loopback address a foreign name is refused.
        rebound = httpx.get(server.url + "/v1/models", headers={"Host": "evil.example"})
        assert rebound.status_code == 403
        assert httpx.get(server.url + "/v1/models", headers={"Host": "localhost"}).status_code == 200
