"""Hugging Face's two clients of TGI: huggingface_hub's InferenceClient, and text-generation."""
import asyncio

import huggingface_hub
import huggingface_hub.errors as hub_errors
import pytest
import text_generation
import text_generation.errors as tgi_errors

from conftest import serving

pytestmark = pytest.mark.filterwarnings("ignore")  # the clients' own
PROMPT = "The capital of France is"
CAPITAL = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def hub(server):
    return huggingface_hub.InferenceClient(base_url=server.url, token="-", timeout=60)


@pytest.fixture(scope="module")
def tgi(server):
    return text_generation.Client(server.url, timeout=60)


@pytest.fixture(scope="module")
def small():
    with serving("--max-concurrent-requests", "1") as running:
        yield running


# ---- huggingface_hub ----

def test_hub_chats_whole_and_streamed(hub):
    ask = dict(messages=CAPITAL, max_tokens=8, temperature=0)
    whole = hub.chat_completion(**ask, logprobs=True, top_logprobs=2)
    assert "Paris" in whole.choices[0].message.content
    assert whole.usage.completion_tokens == 8
    assert len(whole.choices[0].logprobs.content[0].top_logprobs) == 2
    chunks = list(hub.chat_completion(**ask, stream=True, stream_options={"include_usage": True}))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage.completion_tokens == 8


@pytest.mark.parametrize("suffix", ["", "/v1", "/v1/"])
def test_hub_takes_any_form_of_the_address(server, suffix):
    client = huggingface_hub.InferenceClient(base_url=server.url + suffix, api_key="-")
    assert client.chat.completions.create(messages=CAPITAL, max_tokens=1).choices


def test_hub_generates_whole_and_streamed(hub):
    whole = hub.text_generation(PROMPT, max_new_tokens=8)
    assert "Paris" in whole
    assert "".join(hub.text_generation(PROMPT, max_new_tokens=8, stream=True)) == whole
    assert hub.text_generation(PROMPT, max_new_tokens=8, return_full_text=True) == PROMPT + whole


def test_hub_gets_details(hub):
    answer = hub.text_generation(PROMPT, max_new_tokens=8, details=True, top_n_tokens=2,
                                 decoder_input_details=True, repetition_penalty=1.1, truncate=4)
    details = answer.details
    assert (details.finish_reason, details.generated_tokens, len(details.tokens)) == \
        ("length", 8, 8)
    assert "".join(t.text for t in details.tokens) == answer.generated_text
    assert details.prefill[0].logprob is None and len(details.prefill) == 4
    assert all(t.logprob <= 0 for t in details.prefill[1:])
    assert [len(top) for top in details.top_tokens] == [2] * 8


def test_hub_streams_details(hub):
    events = list(hub.text_generation(PROMPT, max_new_tokens=8, stream=True, details=True,
                                      top_n_tokens=1))
    assert "".join(e.token.text for e in events) == events[-1].generated_text
    assert events[-1].details.finish_reason == "length"
    assert events[-1].details.generated_tokens == len(events) == 8
    assert all(e.details is None and e.generated_text is None for e in events[:-1])


def test_hub_picks_the_best_of_several(hub):
    answer = hub.text_generation(PROMPT, max_new_tokens=4, best_of=2, do_sample=True,
                                 temperature=1.0, details=True)
    assert len(answer.details.best_of_sequences) == 1
    assert isinstance(answer.details.seed, int)


def test_hub_stops_at_strings(hub):
    whole = hub.text_generation(PROMPT, max_new_tokens=16)
    answer = hub.text_generation(PROMPT, max_new_tokens=16, stop=["Paris"], details=True)
    assert answer.details.finish_reason == "stop_sequence"
    assert answer.generated_text == whole[:whole.index("Paris")]


@pytest.mark.parametrize("change", [
    {"max_new_tokens": 0}, {"temperature": -1.0}, {"top_p": 1.5}, {"truncate": 0},
    {"best_of": 100}, {"watermark": True}])
def test_hub_raises_validation_errors(hub, change):
    with pytest.raises(hub_errors.ValidationError) as caught:
        hub.text_generation(PROMPT, **change)
    assert next(iter(change)) in str(caught.value)


def test_hub_raises_when_overloaded(small):
    client = huggingface_hub.InferenceClient(base_url=small.url, token="-")
    stream = client.text_generation(PROMPT, max_new_tokens=400, stream=True)
    next(iter(stream))
    with pytest.raises(hub_errors.OverloadedError):
        client.text_generation(PROMPT)
    stream.close()


def test_hub_asks_from_asyncio(server):
    async def run():
        client = huggingface_hub.AsyncInferenceClient(base_url=server.url, token="-")
        async with client:
            whole = await asyncio.gather(*(client.text_generation(PROMPT, max_new_tokens=4)
                                           for _ in range(8)))
            pieces = [p async for p in await client.text_generation(PROMPT, max_new_tokens=4,
                                                                    stream=True)]
            chat = await client.chat_completion(CAPITAL, max_tokens=2)
        return whole, pieces, chat
    whole, pieces, chat = asyncio.run(run())
    assert set(whole) == {"".join(pieces)} and chat.choices


# ---- text-generation ----

def test_tgi_generates_whole_and_streamed(tgi):
    ask = dict(max_new_tokens=8, top_n_tokens=2)
    whole = tgi.generate(PROMPT, **ask, decoder_input_details=True)
    assert "Paris" in whole.generated_text
    assert whole.details.finish_reason == text_generation.types.FinishReason.Length
    assert whole.details.seed is None and len(whole.details.prefill) > 1
    events = list(tgi.generate_stream(PROMPT, **ask))
    assert [e.token for e in events] == whole.details.tokens
    assert [e.top_tokens for e in events] == whole.details.top_tokens
    assert events[-1].generated_text == whole.generated_text
    assert events[-1].details.generated_tokens == 8


def test_tgi_samples_as_asked(tgi):
    ask = dict(max_new_tokens=8, do_sample=True, temperature=0.9, top_k=40, top_p=0.9,
               typical_p=0.9, repetition_penalty=1.1, frequency_penalty=0.1, seed=3,
               stop_sequences=["\n\n\n"], return_full_text=True, truncate=100)
    first = tgi.generate(PROMPT, **ask)
    assert first == tgi.generate(PROMPT, **ask)
    assert first.details.seed == 3 and first.generated_text.startswith(PROMPT)
    assert len(tgi.generate(PROMPT, max_new_tokens=4, best_of=2, do_sample=True)
               .details.best_of_sequences) == 1


def test_tgi_chats(tgi):
    answer = tgi.chat(messages=CAPITAL, max_tokens=8, temperature=0.0, seed=1)
    assert "Paris" in answer.choices[0].message.content
    assert answer.usage["completion_tokens"] == 8


def test_tgi_raises_validation_errors(tgi):
    with pytest.raises(tgi_errors.ValidationError):
        tgi.generate("word " * 20000)
    with pytest.raises(tgi_errors.ValidationError):
        list(tgi.generate_stream("word " * 20000))
    with pytest.raises(tgi_errors.ValidationError):
        tgi.generate(PROMPT, watermark=True)


def test_tgi_raises_when_overloaded(small):
    client = text_generation.Client(small.url)
    stream = client.generate_stream(PROMPT, max_new_tokens=400)
    next(stream)
    with pytest.raises(tgi_errors.OverloadedError):
        client.generate(PROMPT)
    stream.close()


def test_tgi_asks_from_asyncio(server):
    async def run():
        client = text_generation.AsyncClient(server.url)
        whole = await client.generate(PROMPT, max_new_tokens=4)
        events = [e async for e in client.generate_stream(PROMPT, max_new_tokens=4)]
        chat = await client.chat(messages=CAPITAL, max_tokens=2)
        with pytest.raises(tgi_errors.ValidationError):
            await client.generate(PROMPT, watermark=True)
        return whole, events, chat
    whole, events, chat = asyncio.run(run())
    assert events[-1].generated_text == whole.generated_text and chat.choices
