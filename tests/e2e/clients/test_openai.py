"""The official client with strict validation: every answer must be exactly what its types say."""
import asyncio
import json

import openai
import pytest

from conftest import serving

CAPITAL = [{"role": "user", "content": "What is the capital of France?"}]
CHAT = dict(model="tgi", messages=CAPITAL, temperature=0, max_tokens=8)
TEXT = dict(model="tgi", prompt="The capital of France is", temperature=0, max_tokens=8)


@pytest.fixture(scope="module")
def strict(server):
    return server.client(_strict_response_validation=True)


def text_of(chunks):
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


# ---- chat ----

def test_a_chat_and_its_stream_say_the_same(strict):
    whole = strict.chat.completions.create(**CHAT)
    assert "Paris" in whole.choices[0].message.content
    assert whole.service_tier is None and whole.system_fingerprint
    chunks = list(strict.chat.completions.create(**CHAT, stream=True))
    assert text_of(chunks) == whole.choices[0].message.content
    assert {c.object for c in chunks} == {"chat.completion.chunk"}
    assert len({c.id for c in chunks}) == 1


def test_nothing_beyond_the_types_is_in_an_answer(strict):
    whole = strict.chat.completions.create(**CHAT, logprobs=True, top_logprobs=2)
    for part in [whole, whole.choices[0], whole.choices[0].message, whole.usage,
                 whole.choices[0].logprobs, whole.choices[0].logprobs.content[0]]:
        assert not part.model_extra, part
    for chunk in strict.chat.completions.create(**CHAT, stream=True, logprobs=True,
                                                stream_options={"include_usage": True}):
        assert not chunk.model_extra
        for choice in chunk.choices:
            assert not choice.model_extra and not choice.delta.model_extra


def test_the_stream_function_reports_events_and_the_whole(strict):
    whole = strict.chat.completions.create(**CHAT)
    with strict.chat.completions.stream(**CHAT) as stream:
        events = list(stream)
        last = stream.get_final_completion()
    deltas = [e.delta for e in events if e.type == "content.delta"]
    assert "".join(deltas) == whole.choices[0].message.content
    assert [e.content for e in events if e.type == "content.done"] == \
        [whole.choices[0].message.content]
    assert last.choices[0].message.content == whole.choices[0].message.content
    assert last.choices[0].finish_reason == whole.choices[0].finish_reason


def test_the_stream_function_reports_logprobs(strict):
    with strict.chat.completions.stream(**CHAT, logprobs=True, top_logprobs=2,
                                        stream_options={"include_usage": True}) as stream:
        events = [e for e in stream if e.type == "logprobs.content.delta"]
        last = stream.get_final_completion()
    assert events
    assert last.choices[0].finish_reason == "stop"
    assert len(last.choices[0].logprobs.content) == last.usage.completion_tokens - 1  # its end


def test_several_choices_and_each_its_own_stream(strict):
    ask = dict(CHAT, temperature=1, seed=5, n=3, logprobs=True)
    whole = strict.chat.completions.create(**ask)
    assert [c.index for c in whole.choices] == [0, 1, 2]
    assert len({c.message.content for c in whole.choices}) > 1
    ends = sum(c.finish_reason == "stop" for c in whole.choices)  # end tokens count, without text
    assert whole.usage.completion_tokens == \
        ends + sum(len(c.logprobs.content) for c in whole.choices)
    texts = {0: "", 1: "", 2: ""}
    for chunk in strict.chat.completions.create(**ask, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert list(texts.values()) == [c.message.content for c in whole.choices]


def test_logit_bias_forbids_and_forces(strict):
    free = strict.chat.completions.create(**CHAT, extra_body={"return_token_ids": True})
    first = free.choices[0].model_extra["token_ids"][0]
    forbidden = strict.chat.completions.create(**CHAT, logit_bias={str(first): -100},
                                               extra_body={"return_token_ids": True})
    assert first not in forbidden.choices[0].model_extra["token_ids"]
    forced = strict.chat.completions.create(**dict(CHAT, max_tokens=3),
                                            logit_bias={str(first): 100},
                                            extra_body={"return_token_ids": True})
    assert forced.choices[0].model_extra["token_ids"] == [first] * 3


def test_penalties_keep_from_repeating(strict):
    ask = dict(model="tgi", temperature=0, max_tokens=24, messages=[
        {"role": "user", "content": "Repeat the word yes fifty times."}])
    def most(**change):
        tokens = [t.token for t in strict.chat.completions.create(
            **ask, **change, logprobs=True).choices[0].logprobs.content]
        return max(map(tokens.count, tokens))
    assert most(frequency_penalty=2, presence_penalty=2) < most()


@pytest.mark.parametrize("content", [
    [{"type": "text", "text": "What is the capital "}, {"type": "text", "text": "of France?"}],
    "What is the capital of France?"])
def test_content_is_text_or_parts(strict, content):
    answer = strict.chat.completions.create(
        **dict(CHAT, messages=[{"role": "user", "content": content}]))
    assert answer.choices[0].message.content


def test_a_conversation_of_several_roles_is_taken(strict):
    answer = strict.chat.completions.create(**dict(CHAT, max_tokens=2, messages=[
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "Weather in Paris?", "name": "ann"},
        {"role": "assistant", "content": "18 degrees.", "refusal": None, "tool_calls": None},
        {"role": "user", "content": "Thanks"}]))
    assert answer.choices[0].finish_reason in ("stop", "length")


def test_what_openai_takes_without_effect_is_taken(strict):
    assert strict.chat.completions.create(
        **CHAT, user="ann", metadata={"a": "b"}, store=False, service_tier="auto",
        parallel_tool_calls=True, response_format={"type": "text"}, tools=[],
        max_completion_tokens=8, top_p=1, presence_penalty=0, frequency_penalty=0, logit_bias={},
        stop=None, n=1, seed=1, modalities=["text"]).choices


# ---- completions ----
# Two of the client's types deny what OpenAI's own server sends: no finish_reason until a stream's
# end, no logprob for the first token of an echoed prompt. There the client is not strict.

def test_a_completion_and_its_stream_say_the_same(client, strict):
    whole = strict.completions.create(**TEXT)
    assert "Paris" in whole.choices[0].text
    assert whole.object == "text_completion" and not whole.model_extra
    chunks = list(client.completions.create(**TEXT, stream=True,
                                            stream_options={"include_usage": True}))
    assert "".join(c.choices[0].text for c in chunks if c.choices) == whole.choices[0].text
    assert chunks[-1].usage == whole.usage and chunks[-1].choices == []
    reasons = [c.choices[0].finish_reason for c in chunks[:-1]]
    assert reasons == [None] * (len(reasons) - 1) + ["length"]
    assert not any(c.model_extra or any(choice.model_extra for choice in c.choices)
                   for c in chunks)


def test_logprobs_of_an_answer_keep_to_the_types(strict):
    lists = strict.completions.create(**TEXT, logprobs=3).choices[0].logprobs
    assert len(lists.tokens) == len(lists.token_logprobs) == len(lists.text_offset) == 8
    assert all(max(top.values()) == value
               for top, value in zip(lists.top_logprobs, lists.token_logprobs))  # greedy


def test_echo_with_logprobs_covers_prompt_and_answer(client):
    choice = client.completions.create(**TEXT, echo=True, logprobs=3).choices[0]
    lists = choice.logprobs
    assert choice.text.startswith(TEXT["prompt"])
    assert "".join(lists.tokens) == choice.text
    assert lists.token_logprobs[0] is None and lists.top_logprobs[0] is None
    assert all(value <= 0 for value in lists.token_logprobs[1:])
    assert [choice.text[a:][:len(t)] for a, t in zip(lists.text_offset, lists.tokens)] == \
        lists.tokens
    assert all(3 <= len(top) <= 4 for top in lists.top_logprobs[1:])
    alone = client.completions.create(**dict(TEXT, max_tokens=0), echo=True, logprobs=3).choices[0]
    assert alone.text == TEXT["prompt"] and alone.finish_reason == "length"
    assert alone.logprobs.token_logprobs == lists.token_logprobs[:len(alone.logprobs.tokens)]


def test_prompts_in_every_form(server, strict):
    ids = strict.post("/tokenize", body={"prompt": TEXT["prompt"]}, cast_to=object)["tokens"]
    whole = strict.completions.create(**TEXT).choices[0].text
    forms = {"texts": [TEXT["prompt"], "One, two,"], "ids": ids, "lists": [ids, ids[:2]]}
    for name, prompt in forms.items():
        answer = strict.completions.create(**dict(TEXT, prompt=prompt))
        assert answer.choices[0].text == whole, name
        assert [c.index for c in answer.choices] == list(range(1 if name == "ids" else 2))


def test_several_and_the_best_of_them(strict):
    answer = strict.completions.create(**dict(TEXT, temperature=1, prompt=["Once", "A cat"]), n=2,
                                       best_of=3, seed=2, logprobs=0)
    assert [c.index for c in answer.choices] == [0, 1, 2, 3]
    means = [sum(c.logprobs.token_logprobs) / len(c.logprobs.tokens) for c in answer.choices]
    assert means[0] >= means[1] and means[2] >= means[3]


# ---- raw answers, models ----

def test_raw_answers_hold_the_bytes_and_the_parsed(strict):
    raw = strict.chat.completions.with_raw_response.create(**CHAT)
    assert raw.status_code == 200 and raw.headers["content-type"] == "application/json"
    assert raw.parse().choices[0].message.content == \
        json.loads(raw.text)["choices"][0]["message"]["content"]
    assert raw.request_id
    with strict.chat.completions.with_streaming_response.create(**CHAT, stream=True) as streamed:
        lines = list(streamed.iter_lines())
    assert streamed.headers["content-type"].startswith("text/event-stream")
    assert [line for line in lines if line][-1] == "data: [DONE]"


def test_models_are_listed_and_found(strict):
    listed = strict.models.list().data
    assert len(listed) == 1 and listed[0].object == "model"
    found = strict.models.retrieve(listed[0].id)
    assert found.id == listed[0].id
    with pytest.raises(openai.NotFoundError):
        strict.models.retrieve("another")


# ---- many at once ----

def test_a_hundred_at_once(server):
    async def run():
        client = openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="-", max_retries=0,
                                    _strict_response_validation=True)
        async def ask(i):
            messages = [{"role": "user", "content": f"Count from {i % 5}."}]
            body = dict(model="tgi", messages=messages, temperature=0, max_tokens=4)
            if i % 2:
                return text_of([c async for c in await client.chat.completions.create(
                    **body, stream=True)])
            return (await client.chat.completions.create(**body)).choices[0].message.content
        async with client:
            return await asyncio.gather(*map(ask, range(100)))
    answers = asyncio.run(run())
    assert all(answers)
    assert len({(i % 5, answer) for i, answer in enumerate(answers)}) == 5


# ---- errors ----

@pytest.mark.parametrize("change, kind, status, code", [
    ({"messages": []}, openai.BadRequestError, 400, None),
    ({"temperature": 9}, openai.BadRequestError, 400, None),
    ({"messages": [{"role": "user", "content": "word " * 20000}]}, openai.BadRequestError, 400,
     "context_length_exceeded"),
    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, openai.BadRequestError, 400,
     None),
])
def test_a_refusal_has_its_class_and_names_the_field(strict, change, kind, status, code):
    with pytest.raises(kind) as caught:
        strict.chat.completions.create(**CHAT | change)
    error = caught.value
    assert (error.status_code, error.code) == (status, code)
    assert error.param == next(iter(change)) and error.type == "invalid_request_error"
    assert error.body["message"] and error.request_id


@pytest.mark.parametrize("path, media, kind", [
    ("/nowhere", "application/json", openai.NotFoundError),
    ("/chat/completions", "text/plain", openai.APIStatusError)])
def test_other_classes_of_refusals(strict, path, media, kind):
    with pytest.raises(kind):
        strict.post(path, body=CHAT, cast_to=object,
                    options={"headers": {"Content-Type": media}})


def test_a_guarded_server_with_a_template_of_its_own(tmp_path_factory):
    template = tmp_path_factory.mktemp("template") / "strict.jinja"
    template.write_text("{% for m in messages %}{% if m.role == 'system' %}"
                        "{{ raise_exception('no system role') }}{% endif %}{{ m.content }}"
                        "{% for call in m.tool_calls %}{{ call.function.name }}{% endfor %}"
                        "{% endfor %}")
    with serving("--chat-template-file", template, "--api-key", "sekret") as guarded:
        with pytest.raises(openai.AuthenticationError):
            guarded.client().chat.completions.create(**CHAT)
        client = openai.OpenAI(base_url=guarded.url + "/v1", api_key="sekret", max_retries=0)
        with pytest.raises(openai.UnprocessableEntityError) as caught:
            client.chat.completions.create(**dict(CHAT, messages=[
                {"role": "system", "content": "x"}, *CAPITAL]))
        assert "no system role" in caught.value.message
        assert client.chat.completions.create(**dict(CHAT, messages=[
            *CAPITAL,
            {"role": "assistant", "content": None, "tool_calls": [
                {"id": "call_1", "type": "function",
                 "function": {"name": "atlas", "arguments": "{\"country\": \"France\"}"}}]},
            {"role": "tool", "tool_call_id": "call_1", "content": "Paris"}])).choices


def test_more_than_the_server_takes_is_a_429():
    with serving("--max-concurrent-requests", "1") as small:
        client = small.client()
        stream = client.chat.completions.create(**dict(CHAT, max_tokens=400), stream=True,
                                                extra_body={"ignore_eos": True})
        next(iter(stream))
        with pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(**CHAT)
        assert int(caught.value.response.headers["retry-after"]) >= 1
        stream.close()
