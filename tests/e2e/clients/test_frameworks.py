"""What applications are built on: litellm and langchain."""
import asyncio

import litellm
import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI, OpenAI

pytestmark = pytest.mark.filterwarnings("ignore")  # the clients' own
CAPITAL = [{"role": "user", "content": "What is the capital of France?"}]
PROMPT = "The capital of France is"


@pytest.fixture(scope="module")
def lite(server):
    return dict(api_base=server.url + "/v1", api_key="-", temperature=0, max_tokens=8, timeout=60,
                num_retries=0)


@pytest.fixture(scope="module")
def chain(server):
    return ChatOpenAI(base_url=server.url + "/v1", api_key="-", model="tgi", temperature=0,
                      max_tokens=8, max_retries=0)


# ---- litellm ----

@pytest.mark.parametrize("model", ["openai/tgi", "hosted_vllm/tgi", "huggingface/tgi"])
def test_litellm_chats_whole_and_streamed(server, lite, model):
    ask = dict(lite, model=model, messages=CAPITAL)
    if model.startswith("huggingface"):
        ask["api_base"] = server.url  # it adds /v1 itself, as with TGI
    whole = litellm.completion(**ask)
    assert "Paris" in whole.choices[0].message.content
    assert whole.usage.completion_tokens == 8
    chunks = list(litellm.completion(**ask, stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == \
        whole.choices[0].message.content


def test_litellm_completes(lite):
    ask = dict(lite, model="text-completion-openai/tgi", prompt=PROMPT)
    whole = litellm.text_completion(**ask)
    assert "Paris" in whole.choices[0].text
    assert "".join(c.choices[0].text or "" for c in litellm.text_completion(**ask, stream=True)
                   if c.choices) == whole.choices[0].text


def test_litellm_asks_from_asyncio(lite):
    async def run():
        return await asyncio.gather(*(litellm.acompletion(
            **lite, model="openai/tgi", messages=CAPITAL) for _ in range(4)))
    assert len({answer.choices[0].message.content for answer in asyncio.run(run())}) == 1


@pytest.mark.parametrize("change, kind", [
    ({"temperature": 9}, litellm.BadRequestError),
    ({"messages": [{"role": "user", "content": "word " * 20000}]},
     litellm.ContextWindowExceededError)])
def test_litellm_knows_the_errors(lite, change, kind):
    with pytest.raises(kind):
        litellm.completion(**lite | {"model": "openai/tgi", "messages": CAPITAL} | change)


# ---- langchain ----

def test_langchain_invokes_and_streams(chain):
    messages = [SystemMessage("Be short."), HumanMessage("What is the capital of France?")]
    whole = chain.invoke(messages)
    assert whole.content
    assert whole.usage_metadata["output_tokens"] <= 8
    assert whole.usage_metadata["input_tokens"] > 10
    chunks = list(chain.stream(messages, stream_usage=True))
    assert "".join(c.content for c in chunks) == whole.content
    assert chunks[0].usage_metadata is None
    assert sum((c.usage_metadata or {}).get("output_tokens", 0) for c in chunks) == \
        whole.usage_metadata["output_tokens"]


def test_langchain_goes_on_with_a_conversation(chain):
    answer = chain.invoke([HumanMessage("My name is Ann."), AIMessage("Hello Ann."),
                           HumanMessage("What is my name?")])
    assert answer.response_metadata["finish_reason"] in ("stop", "length")


def test_langchain_asks_in_batches_and_from_asyncio(chain):
    batch = chain.batch([f"Count to {i}." for i in range(2, 6)])
    assert len(batch) == 4

    async def run():
        whole = await chain.ainvoke("Count to 2.")
        pieces = [c.content async for c in chain.astream("Count to 2.")]
        return whole.content, "".join(pieces)
    whole, streamed = asyncio.run(run())
    assert whole == streamed == batch[0].content


def test_langchain_reads_logprobs_and_stops(chain):
    answer = chain.bind(logprobs=True, top_logprobs=2).invoke("What is the capital of France?")
    assert len(answer.response_metadata["logprobs"]["content"]) > 3
    assert "Paris" not in chain.invoke("What is the capital of France?", stop=["Paris"]).content


def test_langchain_completes(server):
    model = OpenAI(base_url=server.url + "/v1", api_key="-", model="tgi", temperature=0,
                   max_tokens=8, max_retries=0)
    whole = model.invoke(PROMPT)
    assert "Paris" in whole
    assert "".join(model.stream(PROMPT)) == whole
    result = model.generate([PROMPT, "One, two,"])
    assert result.generations[0][0].text == whole and len(result.generations) == 2
    assert result.llm_output["token_usage"]["completion_tokens"] == 16
