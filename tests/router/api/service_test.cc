// Routes, states, and chat completions in all their shapes, without a socket.
#include "router/api/service.h"

#include <catch2/catch.hpp>

#include "tests/router/api/service_setup.h"

namespace chorus {
namespace {

using api_test::FakeEngine;
using api_test::Setup;
using api_test::WordTokenizer;
using nlohmann::json;

constexpr int32_t kHello = WordTokenizer::kHello, kWorld = WordTokenizer::kWorld,
                  kEnd = WordTokenizer::kEnd, kQuote = WordTokenizer::kQuote;

// ---- routes and states ----

TEST_CASE("unknown paths are 404, other methods 405 with Allow") {
  Setup setup;
  CHECK(setup.ask("GET", "/nothing").response.status == 404);
  CHECK(setup.ask("GET", "/v1/chat/completions/").response.status == 404);
  const auto get = setup.ask("GET", "/v1/chat/completions");
  CHECK(get.response.status == 405);
  CHECK(get.header("Allow") == "POST, OPTIONS");
  CHECK(get.json()["error"]["code"] == "method_not_allowed");
  const auto options = setup.ask("OPTIONS", "/health");
  CHECK(options.response.status == 204);
  CHECK(options.header("Allow") == "GET, HEAD, OPTIONS");
  CHECK(setup.ask("OPTIONS", "*").response.status == 204);
  CHECK(setup.ask("DELETE", "/health").response.status == 405);
}

TEST_CASE("health follows the server from loading to draining") {
  Setup setup;
  const std::string path = GENERATE("/health", "/ping", "/");
  setup.service.readiness().loading(0.4, "loading weights");
  auto health = setup.ask("GET", path);
  CHECK(health.response.status == 503);
  CHECK(health.response.body == R"({"status":"loading","progress":0.4,"what":"loading weights"})");
  setup.serve();
  CHECK(setup.ask("HEAD", path).response.status == 200);
  setup.service.readiness().failed("a shard ended");
  CHECK(setup.ask("GET", path).json()["what"] == "a shard ended");
  setup.service.readiness().draining();
  health = setup.ask("GET", path);
  CHECK(health.response.status == 503);
  CHECK(health.json()["status"] == "draining");
}

TEST_CASE("a chat request before the model is there, or while draining, is 503 with the reason") {
  Setup setup;
  setup.service.readiness().loading(0.25, "loading weights");
  auto chat = setup.chat();
  CHECK(chat.response.status == 503);
  CHECK(chat.header("Retry-After") == "1");
  CHECK_THAT(chat.response.body, Catch::Contains("loading weights (25 %)"));
  setup.serve();
  CHECK(setup.chat().response.status == 200);
  setup.service.readiness().draining();
  CHECK_THAT(setup.chat().response.body, Catch::Contains("draining"));
}

TEST_CASE(
    "a loss of the shards that is told first is not covered by readiness, nor draining by it") {
  Setup setup;
  setup.service.readiness().failed("a shard ended");
  setup.serve();
  CHECK(setup.ask("GET", "/health").json()["status"] == "failed");
  setup.service.readiness().draining();
  setup.service.readiness().failed("a shard ended");
  CHECK(setup.ask("GET", "/health").json()["status"] == "draining");
}

TEST_CASE("models and info name what is served") {
  Setup setup;
  CHECK(setup.ask("GET", "/info").json()["max_total_tokens"].is_null());
  setup.serve();
  const json models = setup.ask("GET", "/v1/models").json();
  CHECK(models["object"] == "list");
  CHECK(models["data"][0]["id"] == "tiny");
  CHECK(models["data"][0]["object"] == "model");
  const json info = setup.ask("GET", "/info").json();
  CHECK(info["model_id"] == "tiny");
  CHECK(info["version"] == "1.2");
  CHECK(info["max_total_tokens"] == 512);
  CHECK(info["max_input_tokens"] == 511);
}

TEST_CASE("metrics count each request once, by outcome") {
  Setup setup;
  setup.chat();
  setup.serve();
  setup.chat();
  setup.chat(R"("n": 0)");
  setup.chat(R"("stream": true)");
  const auto metrics = setup.ask("GET", "/metrics");
  CHECK_THAT(metrics.response.content_type, Catch::StartsWith("text/plain"));
  const std::string& text = metrics.response.body;
  CHECK_THAT(text, Catch::Contains("tgi_request_count 4"));
  CHECK_THAT(text, Catch::Contains("tgi_request_success 2"));
  CHECK_THAT(text, Catch::Contains("tgi_request_failure{err=\"unavailable\"} 1"));
  CHECK_THAT(text, Catch::Contains("tgi_request_failure{err=\"validation\"} 1"));
  CHECK_THAT(text, Catch::Contains("tgi_request_generated_tokens_sum 6"));
  CHECK_THAT(text, Catch::Contains("tgi_request_queue_duration_count 2"));
  CHECK_THAT(text, Catch::Contains("tgi_batch_inference_count{method=\"prefill\"} 2"));
  CHECK_THAT(text, Catch::Contains("chorus_kv_blocks_used 3"));
  CHECK_THAT(text, Catch::Contains("chorus_steps_total 7"));
  CHECK_THAT(setup.ask("GET", "/metrics").response.body, Catch::Contains("chorus_steps_total 7"));
}

// ---- whole answers ----

TEST_CASE("an answer has OpenAI's shape, key by key") {
  Setup setup({.tokens = {kHello, kQuote, kWorld, kEnd}});
  setup.serve();
  const auto chat = setup.chat(R"("model": "gpt-whatever")");
  CHECK(chat.response.status == 200);
  json body = chat.json();
  const auto id = body["id"].get<std::string>();
  CHECK_THAT(id, Catch::StartsWith("chatcmpl-"));
  CHECK(id.size() == 41);
  CHECK(id.find_first_not_of("0123456789abcdef", 9) == std::string::npos);
  CHECK(body["created"].get<int64_t>() > 1'700'000'000);
  body.erase("id");
  body.erase("created");
  const json expected = json::parse(R"({
    "object": "chat.completion", "model": "tiny", "system_fingerprint": "chorus-1.2",
    "choices": [{"index": 0,
                 "message": {"role": "assistant", "content": "Hello\"\n\\ world", "refusal": null},
                 "logprobs": null, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 19, "completion_tokens": 4, "total_tokens": 23}})");
  CHECK(body == expected);
  CHECK(chat.json()["id"] != setup.chat().json()["id"]);
}

TEST_CASE("max_tokens ends an answer by length, and its absence fills the context") {
  Setup setup({.tokens = {}, .endless = true, .context = 40});
  setup.serve();
  const json cut = setup.chat(R"("max_tokens": 3)").json();
  CHECK(cut["choices"][0]["finish_reason"] == "length");
  CHECK(cut["usage"]["completion_tokens"] == 3);
  const json full = setup.chat().json();
  CHECK(full["usage"]["total_tokens"] == 40);
  CHECK(setup.chat(R"("max_tokens": 1000)").json()["usage"]["total_tokens"] == 40);
}

TEST_CASE("a stop string is cut from the answer") {
  Setup setup;
  setup.serve();
  const json body = setup.chat(R"("stop": "o w")").json();
  CHECK(body["choices"][0]["message"]["content"] == "Hell");
  CHECK(body["choices"][0]["finish_reason"] == "stop");
  CHECK(body["usage"]["completion_tokens"] == 2);
}

TEST_CASE("logprobs come with bytes and alternatives, without the end token") {
  Setup setup({.tokens = {WordTokenizer::kSmileHead, WordTokenizer::kSmileTail, kEnd}});
  setup.serve();
  const json body = setup.chat(R"("logprobs": true, "top_logprobs": 2)").json();
  const json& content = body["choices"][0]["logprobs"]["content"];
  REQUIRE(content.size() == 2);
  CHECK(content[0]["bytes"] == json({0xF0, 0x9F}));
  CHECK(content[1]["bytes"] == json({0x98, 0x80}));
  CHECK(content[0]["logprob"] == -0.5);
  CHECK(content[0]["top_logprobs"].size() == 2);
  CHECK(content[0]["top_logprobs"][1]["token"] == ",");
  CHECK(body["choices"][0]["message"]["content"] == "\xF0\x9F\x98\x80");
  CHECK(setup.chat(R"("logprobs": true, "top_logprobs": 6)").json()["error"]["param"] ==
        "top_logprobs");
}

// ---- what goes to the engine ----

TEST_CASE("the template's text goes to the engine as tokens") {
  Setup setup;
  setup.serve().chat();
  std::string prompt;
  for (int32_t id : setup.engine.last().prompt) {
    prompt += static_cast<char>(id - WordTokenizer::kByte);
  }
  CHECK(prompt == "[user]Hi[assistant]");
}

TEST_CASE("sampling is the request's, then the model's, then OpenAI's") {
  Setup openai;
  openai.serve().chat();
  CHECK(openai.engine.last().sampling.temperature == 1);
  CHECK(openai.engine.last().sampling.top_p == 1);
  CHECK(openai.engine.last().sampling.top_k == 0);

  Setup model;
  auto serving = api_test::serving_with(model.engine);
  serving.defaults = {.temperature = 0.6, .top_p = 0.95, .top_k = 20, .do_sample = true, .eos = {}};
  model.serve(std::move(serving)).chat();
  CHECK(model.engine.last().sampling.temperature == 0.6f);
  CHECK(model.engine.last().sampling.top_k == 20);
  model.chat(R"("temperature": 0, "top_p": 0.5, "top_k": 3, "seed": -1)");
  const auto sampling = model.engine.last().sampling;
  CHECK(sampling.temperature == 0);
  CHECK(sampling.top_p == 0.5f);
  CHECK(sampling.top_k == 3);
  CHECK(sampling.seed == UINT64_MAX);

  Setup greedy;
  serving = api_test::serving_with(greedy.engine);
  serving.defaults.do_sample = false;
  serving.defaults.temperature = 0.6;
  greedy.serve(std::move(serving)).chat();
  CHECK(greedy.engine.last().sampling.temperature == 0);
}

TEST_CASE("without a seed each request has one of its own") {
  Setup setup;
  setup.serve().chat();
  const uint64_t first = setup.engine.last().sampling.seed;
  setup.chat();
  CHECK(setup.engine.last().sampling.seed != first);
}

TEST_CASE("an end id that only generation_config names ends the answer too") {
  Setup setup;
  auto serving = api_test::serving_with(setup.engine);
  serving.defaults.eos = {kWorld, 1'000'000};
  const json body = setup.serve(std::move(serving)).chat().json();
  CHECK(body["choices"][0]["message"]["content"] == "Hello");
}

// ---- refusals ----

TEST_CASE("a body of another media type is 415") {
  Setup setup;
  setup.serve();
  const auto text = setup.run({.method = "POST",
                               .path = "/v1/chat/completions",
                               .query = "",
                               .fields = {{"content-type", "text/plain"}},
                               .body = "{}",
                               .id = "r"});
  CHECK(text.response.status == 415);
}

TEST_CASE("an error names the field in OpenAI's shape") {
  Setup setup;
  const json error = setup.serve().chat(R"("temperature": 3)").json()["error"];
  CHECK(error["type"] == "invalid_request_error");
  CHECK(error["param"] == "temperature");
  CHECK(error["code"].is_null());
  CHECK(error.size() == 4);
}

TEST_CASE("a prompt that does not fit is refused with the numbers") {
  Setup setup({.tokens = {kEnd}, .context = 100});
  setup.serve();
  CHECK(setup.chat("", std::string(82, 'x')).response.status == 200);  // 99 tokens
  const auto chat = setup.chat("", std::string(83, 'x'));
  CHECK(chat.response.status == 400);
  CHECK(chat.json()["error"]["code"] == "context_length_exceeded");
  CHECK(chat.json()["error"]["param"] == "messages");
  CHECK_THAT(chat.response.body, Catch::Contains("100 tokens, at most 99"));
}

TEST_CASE("what the template refuses is 422 with its words") {
  Setup setup;
  auto serving =
      api_test::serving_with(setup.engine, "{{ raise_exception('roles must alternate') }}");
  const auto chat = setup.serve(std::move(serving)).chat();
  CHECK(chat.response.status == 422);
  CHECK_THAT(chat.response.body, Catch::Contains("roles must alternate"));
  CHECK(chat.json()["error"]["code"] == "template_error");
}

TEST_CASE("a model without a template cannot chat, and says so") {
  Setup setup;
  api::Serving serving;
  serving.tokenizer = std::make_unique<api_test::WordTokenizer>();
  serving.engine = &setup.engine;
  const auto chat = setup.serve(std::move(serving)).chat();
  CHECK(chat.response.status == 422);
  CHECK_THAT(chat.response.body, Catch::Contains("no chat template"));
}

TEST_CASE("a full queue answers 429 with Retry-After") {
  Setup setup({.tokens = {}, .admission = engine::Admission::queue_full});
  const auto chat = setup.serve().chat();
  CHECK(chat.response.status == 429);
  CHECK(chat.header("Retry-After") == "1");
  CHECK(chat.json()["error"]["type"] == "rate_limit_error");
}

// ---- streams ----

TEST_CASE("a stream has OpenAI's chunks in order") {
  Setup setup;
  const auto chat = setup.serve().chat(R"("stream": true)");
  REQUIRE(chat.streamed);
  auto events = chat.events();
  REQUIRE(events.size() == 5);
  CHECK(events.back() == "[DONE]");
  events.pop_back();
  std::vector<json> choices;
  for (const std::string& event : events) {
    json chunk = json::parse(event);
    CHECK(chunk["object"] == "chat.completion.chunk");
    CHECK(chunk["id"] == json::parse(events[0])["id"]);
    CHECK_FALSE(chunk.contains("usage"));
    choices.push_back(chunk["choices"][0]);
  }
  CHECK(choices[0] == json::parse(R"({"index":0,"delta":{"role":"assistant","content":"",
                                      "refusal":null},"logprobs":null,"finish_reason":null})"));
  CHECK(choices[1]["delta"] == json::parse(R"({"content":"Hello"})"));
  CHECK(choices[2]["delta"] == json::parse(R"({"content":" world"})"));
  CHECK(choices[3] ==
        json::parse(R"({"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"})"));
}

TEST_CASE("usage comes last where it is asked for, equal to the whole answer's") {
  Setup setup;
  setup.serve();
  const json whole = setup.chat().json();
  const auto events =
      setup.chat(R"("stream": true, "stream_options": {"include_usage": true})").events();
  REQUIRE(events.size() == 6);
  CHECK(json::parse(events[0])["usage"].is_null());
  CHECK(json::parse(events[0]).contains("usage"));
  const json last = json::parse(events[4]);
  CHECK(last["choices"].empty());
  CHECK(last["usage"] == whole["usage"]);
}

TEST_CASE("a stream and a whole answer have the same text and the same logprobs") {
  Setup setup({.tokens = {kHello, WordTokenizer::kSmileHead, WordTokenizer::kSmileTail, kQuote, 1,
                          kWorld, 100 + 0xC3, kEnd}});
  setup.serve();
  const std::string fields = R"("logprobs": true, "top_logprobs": 1, "stop": ["worlds", "Hex"])";
  const json whole = setup.chat(fields).json();
  std::string text;
  json logprobs = json::array();
  for (const std::string& event : setup.chat(fields + R"(, "stream": true)").events()) {
    if (event == "[DONE]") continue;
    const json choice = json::parse(event)["choices"][0];
    text += choice["delta"].value("content", "");
    if (choice["logprobs"].is_null()) continue;
    for (const json& token : choice["logprobs"]["content"]) logprobs.push_back(token);
  }
  CHECK(text == whole["choices"][0]["message"]["content"].get<std::string>());
  CHECK(logprobs == whole["choices"][0]["logprobs"]["content"]);
  CHECK(logprobs.size() == 7);
}

TEST_CASE("a failure before the first token has a status, one after it an event") {
  Setup early({.tokens = {}, .failure = "secret: shard 0 is gone"});
  auto chat = early.serve().chat(R"("stream": true)");
  CHECK(chat.response.status == 503);
  CHECK_FALSE(chat.streamed);
  CHECK(chat.response.body.find("secret") == std::string::npos);
  CHECK(early.chat().response.status == 503);

  Setup late({.tokens = {kHello}, .failure = "secret: shard 0 is gone"});
  chat = late.serve().chat(R"("stream": true)");
  REQUIRE(chat.streamed);
  const auto events = chat.events();
  CHECK(json::parse(events.back())["error"]["type"] == "server_error");
  CHECK(events.back().find("secret") == std::string::npos);
}

}  // namespace
}  // namespace chorus
