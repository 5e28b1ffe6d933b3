"""A chat with the default model through the official client."""
import concurrent.futures
import json
import math
import re
import subprocess

import httpx
import openai
import pytest

MESSAGES = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "What is deep learning?"},
]
CAPITAL = [{"role": "user", "content": "What is the capital of France?"}]


def metric(server, name):
    text = httpx.get(server.url + "/metrics").text
    values = re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.M)
    assert values, f"{name} is not in /metrics"
    return sum(map(float, values))


def test_a_greedy_answer_is_right_and_repeats(client):
    answers = {client.chat.completions.create(model="tgi", messages=CAPITAL, temperature=0,
                                              max_tokens=30).choices[0].message.content
               for _ in range(3)}
    assert len(answers) == 1
    assert "Paris" in answers.pop()


def test_shapes_are_openais(client):
    answer = client.chat.completions.create(model="tgi", messages=MESSAGES, max_tokens=5)
    assert answer.object == "chat.completion"
    assert re.fullmatch(r"chatcmpl-\S{8,}", answer.id)
    assert answer.choices[0].index == 0
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 5
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 5


def test_a_stream_says_what_the_whole_answer_says(client):
    ask = dict(model="tgi", messages=MESSAGES, temperature=0, max_tokens=40)
    whole = client.chat.completions.create(**ask)
    chunks = list(client.chat.completions.create(**ask, stream=True,
                                                 stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].choices == [] and chunks[-1].usage == whole.usage
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert all(c.usage is None for c in chunks[:-1])


def test_without_max_tokens_an_answer_ends_by_itself(client):
    answer = client.chat.completions.create(
        model="tgi", messages=[{"role": "user", "content": "What is 2+2?"}], temperature=0)
    assert answer.choices[0].finish_reason == "stop"
    assert "<|" not in answer.choices[0].message.content


def test_a_seed_repeats_and_another_differs(client):
    def ask(seed):
        return client.chat.completions.create(
            model="tgi", messages=MESSAGES, temperature=1.0, top_p=0.95, seed=seed, max_tokens=30
        ).choices[0].message.content
    assert ask(1) == ask(1)
    assert len({ask(seed) for seed in range(5)}) > 1


def test_a_stop_string_is_never_shown(client):
    ask = dict(model="tgi", messages=MESSAGES, temperature=0, max_tokens=60)
    whole = client.chat.completions.create(**ask).choices[0].message.content
    stop = whole[25:31]
    cut = client.chat.completions.create(**ask, stop=stop)
    assert cut.choices[0].finish_reason == "stop"
    assert cut.choices[0].message.content == whole[:whole.index(stop)]
    streamed = "".join(c.choices[0].delta.content or ""
                       for c in client.chat.completions.create(**ask, stop=[stop], stream=True))
    assert streamed == whole[:whole.index(stop)]


def test_logprobs_cover_the_text(client):
    answer = client.chat.completions.create(model="tgi", messages=CAPITAL, temperature=0,
                                            max_tokens=12, logprobs=True, top_logprobs=5)
    choice = answer.choices[0]
    assert b"".join(bytes(t.bytes) for t in choice.logprobs.content).decode() == \
        choice.message.content
    for token in choice.logprobs.content:
        assert len(token.top_logprobs) == 5
        assert token.logprob == max(t.logprob for t in token.top_logprobs)  # greedy
        assert sum(math.exp(t.logprob) for t in token.top_logprobs) <= 1 + 1e-4


def test_unicode_streams_whole(client):
    messages = [{"role": "user", "content": "Write the word for cat in Japanese, Russian and "
                                            "Chinese, then five emoji of animals."}]
    chunks = client.chat.completions.create(model="tgi", messages=messages, stream=True,
                                            max_tokens=120, seed=3)
    text = "".join(c.choices[0].delta.content or "" for c in chunks)
    assert "\ufffd" not in text[:-1]


def test_sixteen_at_once_answer_as_each_alone(client):
    def ask(i):
        answer = client.chat.completions.create(
            model="tgi", messages=[{"role": "user", "content": f"Tell me about the number {i}."}],
            temperature=0.8 if i % 2 else 0, seed=i, max_tokens=24, logprobs=True)
        return [(t.token, t.logprob) for t in answer.choices[0].logprobs.content]
    alone = [ask(i) for i in range(16)]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        together = list(pool.map(ask, range(16)))
    assert together == alone


def test_any_model_name_is_taken_and_the_served_one_answered(server, client):
    served = client.models.list().data[0].id
    assert client.chat.completions.create(model="whatever", messages=CAPITAL,
                                          max_tokens=1).model == served


def test_kv_blocks_return_to_zero(server, client):
    client.chat.completions.create(model="tgi", messages=CAPITAL, max_tokens=3)
    assert metric(server, "chorus_kv_blocks_used") == 0


def test_the_seed_examples_of_the_messages_api(server):
    """curl, streaming client, synchronous client, as the API's founding document has them."""
    body = {"model": "tgi", "messages": MESSAGES, "stream": True, "max_tokens": 20}
    out = subprocess.run(
        ["curl", "-sS", f"127.0.0.1:{server.port}/v1/chat/completions", "-X", "POST",
         "-d", json.dumps(body), "-H", "Content-Type: application/json"],
        capture_output=True, text=True, check=True).stdout
    events = [line[6:] for line in out.splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    assert len(json.loads(events[0])["choices"]) == 1

    client = openai.OpenAI(base_url=server.url + "/v1", api_key="-")
    stream = client.chat.completions.create(model="tgi", messages=MESSAGES, stream=True,
                                            extra_body={"max_tokens": 40})
    assert sum(1 for _ in stream) > 2
    answer = client.chat.completions.create(model="tgi", messages=MESSAGES, stream=False)
    assert answer.choices[0].message.content  # sampled, and as long as the model likes


@pytest.mark.parametrize("path", ["/health", "/ping", "/info", "/v1/models", "/metrics"])
def test_routes_answer(server, path):
    assert httpx.get(server.url + path).status_code == 200
