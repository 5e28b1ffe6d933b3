"""Bad input over HTTP: the table of statuses, with the field named, and the server unharmed."""
import httpx
import openai
import pytest

USER = {"role": "user", "content": "Hi"}


def post(server, body, **kwargs):
    return httpx.post(server.url + "/v1/chat/completions", json=body, timeout=60, **kwargs)


@pytest.mark.parametrize("change, param", [
    ({"messages": []}, "messages"),
    ({"messages": None}, "messages"),
    ({"messages": "Hi"}, "messages"),
    ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
    ({"temperature": "hot"}, "temperature"),
    ({"temperature": 2.5}, "temperature"),
    ({"temperature": -1}, "temperature"),
    ({"top_p": 0}, "top_p"),
    ({"top_p": 1.01}, "top_p"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": 10**30}, "max_tokens"),
    ({"max_tokens": 1.5}, "max_tokens"),
    ({"seed": "x"}, "seed"),
    ({"stop": [""]}, "stop"),
    ({"stop": 3}, "stop"),
    ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
    ({"logprobs": "yes"}, "logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"top_logprobs": 3}, "top_logprobs"),
    ({"stream": "yes"}, "stream"),
    ({"n": 0}, "n"),
    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"logit_bias": {"5": 101}}, "logit_bias.5"),
    ({"logit_bias": {"4000000": 1}}, "logit_bias"),
    ({"presence_penalty": 3}, "presence_penalty"),
    ({"min_tokens": 3}, "min_tokens"),
    ({"guided_json": {}}, "guided_json"),
])
def test_a_bad_field_is_named(server, change, param):
    answer = post(server, {"model": "tgi", "messages": [USER], "max_tokens": 2} | change)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"].startswith(param), answer.text


@pytest.mark.parametrize("body", [
    b"", b"{", b'{"messages": [', b"[]", b"7", b'"x"', b'{"messages": [{"role": "user", "content": "\xff"}]}',
    b"[" * 100000,
])
def test_what_is_not_a_request_is_a_400(server, body):
    answer = httpx.post(server.url + "/v1/chat/completions", content=body,
                        headers={"content-type": "application/json"}, timeout=60)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]


def test_a_prompt_longer_than_the_context_is_a_400(server):
    answer = post(server, {"messages": [{"role": "user", "content": "word " * 20000}]})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "context_length_exceeded"
    assert "8192" in answer.json()["error"]["message"]


def test_a_hundred_megabytes_are_a_413(server):
    def body():
        for _ in range(100):
            yield b" " * 1_000_000
    try:
        status = httpx.post(server.url + "/v1/chat/completions", content=body(), timeout=60,
                            headers={"content-type": "application/json"}).status_code
    except (httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):
        status = 413  # refused and closed while it was being sent
    assert status == 413


@pytest.mark.parametrize("method, path, status", [
    ("GET", "/nowhere", 404), ("GET", "/v1/chat/completions", 405), ("DELETE", "/health", 405)])
def test_unknown_routes_and_methods(server, method, path, status):
    assert httpx.request(method, server.url + path).status_code == status


def test_another_media_type_is_a_415(server):
    answer = httpx.post(server.url + "/v1/chat/completions", content="a=1",
                        headers={"content-type": "application/x-www-form-urlencoded"})
    assert answer.status_code == 415


def test_the_client_raises_its_own_errors(server):
    with pytest.raises(openai.BadRequestError) as caught:
        server.client().chat.completions.create(model="tgi", messages=[])
    assert caught.value.param == "messages"


def test_the_server_still_answers(server):
    assert post(server, {"messages": [USER], "max_tokens": 2}).status_code == 200
