// Every other route than plain chat: completions, TGI's own, the clouds', and those that show what
// a request becomes.
#include <algorithm>

#include "router/api/generate_wording.h"
#include "router/api/openapi.h"
#include "router/api/routes.h"
#include "tests/router/api/service_setup.h"

namespace chorus {
namespace {

using api_test::Setup;
using api_test::WordTokenizer;
using nlohmann::json;

constexpr int32_t kHello = WordTokenizer::kHello, kWorld = WordTokenizer::kWorld,
                  kEnd = WordTokenizer::kEnd, kComma = WordTokenizer::kComma;

json ids_of(const std::string& text) {
  json ids = json::array();
  for (const char c : text) ids.push_back(WordTokenizer::kByte + static_cast<unsigned char>(c));
  return ids;
}

// ---- chat: several choices, echo, token ids ----

TEST_CASE("n choices come with their index, whole and streamed") {
  Setup setup;
  setup.serve();
  const json whole = setup.chat(R"("n": 3, "seed": 5)").json();
  REQUIRE(whole["choices"].size() == 3);
  CHECK(whole["choices"][2]["index"] == 2);
  CHECK(whole["choices"][2]["message"]["content"] == "Hello world");
  CHECK(whole["usage"]["completion_tokens"] == 9);
  CHECK(setup.engine.last().sampling.choice == 2);
  CHECK(setup.engine.last().sampling.seed == 5);
  std::vector<std::string> texts(3);
  std::vector<int> ends(3);
  for (const std::string& event : setup.chat(R"("n": 3, "stream": true)").events()) {
    if (event == "[DONE]") continue;
    const json choice = json::parse(event)["choices"][0];
    const auto index = choice["index"].get<size_t>();
    texts[index] += choice["delta"].value("content", "");
    ends[index] += choice["finish_reason"] == "stop";
  }
  CHECK(texts == std::vector<std::string>(3, "Hello world"));
  CHECK(ends == std::vector<int>(3, 1));
}

TEST_CASE("more choices than the server runs at once are refused by name") {
  Setup setup;
  const json error = setup.serve().chat(R"("n": 128)").json();
  CHECK(error.contains("choices"));  // 128 run at once by default
}

TEST_CASE("penalties, biases and early ends go to the engine") {
  Setup setup;
  setup.serve().chat(
      R"("presence_penalty": 0.5, "frequency_penalty": -1, "repetition_penalty": 1.2, "min_p": 0.1,
         "typical_p": 0.9, "logit_bias": {"7": -100, "3": 2.5}, "min_tokens": 2,
         "stop_token_ids": [9])");
  const shards::Sampling sampling = setup.engine.last().sampling;
  CHECK(sampling.presence_penalty == 0.5f);
  CHECK(sampling.frequency_penalty == -1);
  CHECK(sampling.repetition_penalty == 1.2f);
  CHECK(sampling.min_p == 0.1f);
  CHECK(sampling.typical_p == 0.9f);
  REQUIRE(sampling.logit_bias.size() == 2);
  CHECK(sampling.logit_bias[0].id == 3);
  CHECK(sampling.logit_bias[1].bias == -100);
  CHECK(sampling.min_tokens == 2);
  CHECK(sampling.late_ids == std::vector<int32_t>{kEnd, 9});
}

TEST_CASE("what a float cannot hold never leaves the range of a field") {
  Setup setup;
  setup.serve().chat(R"("top_p": 1e-300, "typical_p": 1e-60)");
  CHECK(setup.engine.last().sampling.top_p > 0);
  CHECK(setup.engine.last().sampling.typical_p > 0);
  CHECK(setup.chat(R"("repetition_penalty": 1e-300)").json()["error"]["param"] ==
        "repetition_penalty");
}

TEST_CASE("ignore_eos goes on after end tokens, a stop token id ends the answer") {
  Setup setup({.tokens = {kHello, kEnd, kWorld, kComma}});
  setup.serve();
  const json on = setup.chat(R"("ignore_eos": true)").json();
  CHECK(on["choices"][0]["message"]["content"] == "Hello world,");
  CHECK(on["choices"][0]["finish_reason"] == "length");
  const json cut = setup.chat(R"("ignore_eos": true, "stop_token_ids": [3])").json();
  CHECK(cut["choices"][0]["message"]["content"] == "Hello");
  CHECK(cut["choices"][0]["finish_reason"] == "stop");
}

TEST_CASE("token ids come where they are asked for") {
  Setup setup;
  const json body = setup.serve().chat(R"("return_token_ids": true)").json();
  CHECK(body["choices"][0]["token_ids"] == json({kHello, kWorld}));
  CHECK(body["prompt_token_ids"] == ids_of("[user]Hi[assistant]"));
}

TEST_CASE("a continued message is echoed in front of its continuation") {
  Setup setup;
  setup.serve();
  const json body =
      setup
          .post("/v1/chat/completions", {{"messages",
                                          {{{"role", "user"}, {"content", "Hi"}},
                                           {{"role", "assistant"}, {"content", "Oh"}}}},
                                         {"continue_final_message", true},
                                         {"echo", true}})
          .json();
  CHECK(body["choices"][0]["message"]["content"] == "OhHello world");
}

TEST_CASE("tools are checked, shown with tool_choice none, and refused otherwise") {
  Setup setup;
  setup.serve();
  const std::string tools = R"("tools": [{"type": "function", "function": {"name": "f"}}])";
  CHECK(setup.chat(tools).json()["error"]["param"] == "tools");
  const auto shown = setup.chat(tools + R"(, "tool_choice": "none")");
  CHECK(shown.response.status == 422);  // this template cannot show them, and says so
}

// ---- completions ----

TEST_CASE("a completion has OpenAI's shape") {
  Setup setup;
  setup.serve();
  json body = setup.post("/v1/completions", {{"prompt", "Say"}}).json();
  CHECK_THAT(body["id"].get<std::string>(), Catch::StartsWith("cmpl-"));
  body.erase("id");
  body.erase("created");
  CHECK(body == json::parse(R"({
    "object": "text_completion", "model": "tiny", "system_fingerprint": "chorus-1.2",
    "choices": [{"index": 0, "text": "Hello world", "logprobs": null, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}})"));
  CHECK(setup.engine.last().max_tokens == 16);
}

TEST_CASE("a prompt is a text, texts, ids, or lists of ids") {
  Setup setup;
  setup.serve();
  const auto ask = [&](const json& prompt) {
    return setup.post("/v1/completions", {{"prompt", prompt}, {"n", 2}}).json();
  };
  CHECK(ask("ab")["choices"].size() == 2);
  CHECK(ask({"ab", "c"})["choices"].size() == 4);
  CHECK(ask({"ab", "c"})["choices"][3]["index"] == 3);
  CHECK(ask({101, 102})["usage"]["prompt_tokens"] == 2);
  CHECK(ask({{101, 102}, {103}})["usage"]["prompt_tokens"] == 3);
  CHECK(ask(json::array())["error"]["param"] == "prompt");
  CHECK(ask({101, "a"})["error"]["param"] == "prompt[1]");
  CHECK(ask({"a", 101})["error"]["param"] == "prompt[1]");
  CHECK(ask({{101}, {-1}})["error"]["param"] == "prompt[1][0]");
  CHECK(ask({{101}, {100000}})["error"]["param"] == "prompt[1][0]");
  CHECK(ask("")["error"]["param"] == "prompt");
}

TEST_CASE("echo with log-probabilities tells those of the prompt too") {
  Setup setup;
  setup.serve();
  const json ask = {{"prompt", "abc"}, {"echo", true}, {"logprobs", 1}, {"max_tokens", 1}};
  const json choice = setup.post("/v1/completions", ask).json()["choices"][0];
  CHECK(choice["text"] == "abcHello");
  const json& logprobs = choice["logprobs"];
  CHECK(logprobs["tokens"] == json({"a", "b", "c", "Hello"}));
  CHECK(logprobs["token_logprobs"] == json({nullptr, -1.0, -1.0, -0.5}));
  CHECK(logprobs["text_offset"] == json({0, 1, 2, 3}));
  CHECK(logprobs["top_logprobs"][0].is_null());
  CHECK(logprobs["top_logprobs"][3] == json({{"Hello", -0.5}}));

  json longer = ask;
  longer["max_tokens"] = 9;
  const json ended = setup.post("/v1/completions", longer).json();
  CHECK(ended["choices"][0]["finish_reason"] == "stop");
  CHECK(ended["choices"][0]["logprobs"]["tokens"].size() ==
        3 + ended["usage"]["completion_tokens"].get<size_t>());

  json alone = ask;
  alone["max_tokens"] = 0;
  const json body = setup.post("/v1/completions", alone).json();
  CHECK(body["choices"][0]["text"] == "abc");
  CHECK(body["choices"][0]["logprobs"]["tokens"].size() == 3);
  CHECK(body["choices"][0]["finish_reason"] == "length");
  CHECK(body["usage"]["completion_tokens"] == 0);
}

TEST_CASE("a streamed completion says what the whole one says") {
  Setup setup({.tokens = {kHello, WordTokenizer::kSmileHead, WordTokenizer::kSmileTail, kWorld}});
  setup.serve();
  json ask = {{"prompt", "abc"}, {"echo", true}, {"logprobs", 2}};
  const json whole = setup.post("/v1/completions", ask).json()["choices"][0];
  ask["stream"] = true;
  std::string text;
  json offsets = json::array(), tokens = json::array();
  for (const std::string& event : setup.post("/v1/completions", ask).events()) {
    if (event == "[DONE]") continue;
    const json choice = json::parse(event)["choices"][0];
    text += choice["text"].get<std::string>();
    for (const json& at : choice["logprobs"]["text_offset"]) offsets.push_back(at);
    for (const json& name : choice["logprobs"]["tokens"]) tokens.push_back(name);
  }
  CHECK(text == whole["text"].get<std::string>());
  CHECK(tokens == whole["logprobs"]["tokens"]);
  CHECK(offsets == whole["logprobs"]["text_offset"]);
  CHECK(tokens[4] == "bytes:\\xf0\\x9f");
}

TEST_CASE("best_of makes more than it shows, a suffix is refused with a reason") {
  Setup setup;
  setup.serve();
  const json best = setup.post("/v1/completions", {{"prompt", "a"}, {"best_of", 3}}).json();
  CHECK(best["choices"].size() == 1);
  CHECK(best["usage"]["completion_tokens"] == 9);
  CHECK(setup.post("/v1/completions", {{"prompt", "a"}, {"best_of", 2}, {"stream", true}})
            .json()["error"]["param"] == "best_of");
  const json suffix = setup.post("/v1/completions", {{"prompt", "a"}, {"suffix", "b"}}).json();
  CHECK(suffix["error"]["param"] == "suffix");
  CHECK_THAT(suffix["error"]["message"].get<std::string>(), Catch::Contains("middle"));
}

// ---- TGI ----

TEST_CASE("generate answers as TGI does") {
  Setup setup;
  setup.serve();
  const auto plain = setup.post("/generate", {{"inputs", "Say"}});
  CHECK(plain.response.body == R"({"generated_text":"Hello world"})");
  CHECK(plain.header("x-prompt-tokens") == "3");
  CHECK(plain.header("x-generated-tokens") == "3");
  CHECK(plain.header("x-compute-type") == "cpu");
  CHECK_FALSE(plain.header("x-time-per-token").empty());
  CHECK(setup.engine.last().sampling.temperature == 0);

  const json details = setup
                           .post("/generate", {{"inputs", "Say"},
                                               {"parameters",
                                                {{"details", true},
                                                 {"decoder_input_details", true},
                                                 {"return_full_text", true},
                                                 {"top_n_tokens", 2}}}})
                           .json();
  CHECK(details["generated_text"] == "SayHello world");
  CHECK(details["details"]["finish_reason"] == "eos_token");
  CHECK(details["details"]["generated_tokens"] == 3);
  CHECK(details["details"]["seed"].is_null());
  CHECK(details["details"]["prefill"][0]["logprob"].is_null());
  CHECK(details["details"]["prefill"][2]["text"] == "y");
  CHECK(details["details"]["tokens"].size() == 3);
  CHECK(details["details"]["tokens"][2] ==
        json::parse(R"({"id":0,"text":"<|end|>","logprob":-0.5,"special":true})"));
  CHECK(details["details"]["top_tokens"][0].size() == 2);
}

TEST_CASE("x-compute-type says where the shards compute") {
  CHECK(api::compute_type_of("cpu avx512-vnni, 2 threads", 2) == "cpu");
  CHECK(api::compute_type_of("cpu reference, 1 thread", 1) == "cpu");
  CHECK(api::compute_type_of("NVIDIA H200, bf16, deterministic", 1) == "1-nvidia-h200");
  CHECK(api::compute_type_of("NVIDIA RTX 6000\r\n\xC3\x84, f16", 4) == "4-nvidia-rtx-6000----");

  Setup setup;
  api::Serving serving = api_test::serving_with(setup.engine);
  serving.compute_type = "2-nvidia-h200";
  setup.serve(std::move(serving));
  CHECK(setup.post("/generate", {{"inputs", "Say"}}).header("x-compute-type") == "2-nvidia-h200");
  CHECK(setup.post("/generate_stream", {{"inputs", "Say"}}).header("x-compute-type") ==
        "2-nvidia-h200");
}

TEST_CASE("generate_stream has an event for each token, the last with the text") {
  Setup setup;
  setup.serve();
  const auto stream = setup.post(
      "/generate_stream", {{"inputs", "Say"}, {"parameters", {{"details", true}, {"seed", 3}}}});
  CHECK(stream.header("x-compute-type") == "cpu");
  const auto events = stream.events();
  REQUIRE(events.size() == 3);
  CHECK(events[0] == R"({"index":1,"token":{"id":2,"text":"Hello","logprob":-0.5,"special":false},)"
                     R"("generated_text":null,"details":null})");
  const json last = json::parse(events[2]);
  CHECK(last["index"] == 3);
  CHECK(last["token"]["special"] == true);
  CHECK(last["generated_text"] == "Hello world");
  CHECK(last["details"]["finish_reason"] == "eos_token");
  CHECK(last["details"]["input_length"] == 3);
}

TEST_CASE("the last token of a stream that ends by length carries the text") {
  Setup setup({.tokens = {}, .endless = true});
  setup.serve();
  const auto events =
      setup.post("/generate_stream", {{"inputs", "S"}, {"parameters", {{"max_new_tokens", 2}}}})
          .events();
  REQUIRE(events.size() == 2);
  CHECK(json::parse(events[1])["generated_text"] == "HelloHello");
  CHECK(json::parse(events[1])["token"]["id"] == kHello);
}

TEST_CASE("TGI's routes refuse in TGI's shape") {
  Setup setup;
  setup.serve();
  const auto refused = setup.post("/generate", {{"inputs", "a"}, {"parameters", {{"top_p", 2}}}});
  CHECK(refused.response.status == 422);
  CHECK(refused.json()["error_type"] == "validation");
  CHECK_THAT(refused.json()["error"].get<std::string>(), Catch::Contains("parameters.top_p"));
  const auto stream = setup.post("/generate_stream", {{"inputs", ""}});
  CHECK(stream.response.status == 200);
  CHECK_THAT(stream.response.body, Catch::StartsWith("data: {\"error\":"));
  for (const json& parameters :
       {json{{"watermark", true}}, json{{"adapter_id", "x"}}, json{{"best_of", 3}},
        json{{"best_of", 2}}, json{{"top_n_tokens", 6}},
        json{{"grammar", {{"type", "regex"}, {"value", "a"}}}}}) {
    INFO(parameters.dump());
    CHECK(setup.post("/generate", {{"inputs", "a"}, {"parameters", parameters}}).response.status ==
          422);
  }
  CHECK(setup.post("/generate", {{"inputs", "a"}, {"parameters", {{"top_p", 1.0}}}})
            .response.status == 200);
}

TEST_CASE("best_of returns the others beside the best") {
  Setup setup;
  setup.serve();
  const json body =
      setup
          .post("/generate",
                {{"inputs", "a"},
                 {"parameters", {{"best_of", 2}, {"do_sample", true}, {"details", true}}}})
          .json();
  CHECK(body["details"]["best_of_sequences"].size() == 1);
  CHECK(body["details"]["seed"].is_number());
}

TEST_CASE("the root answers with a list, or streams") {
  Setup setup;
  setup.serve();
  CHECK(setup.post("/", {{"inputs", "a"}}).response.body ==
        R"([{"generated_text":"Hello world"}])");
  CHECK(setup.post("/", {{"inputs", "a"}, {"stream", true}}).events().size() == 3);
}

// ---- clouds ----

TEST_CASE("invocations take the body of each kind") {
  Setup setup;
  setup.serve();
  const json messages = {{{"role", "user"}, {"content", "Hi"}}};
  CHECK(setup.post("/invocations", {{"inputs", "a"}}).json()[0]["generated_text"] == "Hello world");
  CHECK(setup.post("/invocations", {{"messages", messages}}).json()["object"] == "chat.completion");
  CHECK(setup.post("/invocations", {{"prompt", "a"}}).json()["object"] == "text_completion");
  CHECK(setup.post("/invocations", {{"text", "a"}}).response.status == 400);
}

TEST_CASE("vertex answers all instances") {
  Setup setup;
  setup.serve();
  const json body = {{"instances",
                      {{{"inputs", "a"}, {"parameters", {{"max_new_tokens", 1}}}},
                       {{"messages", {{{"role", "user"}, {"content", "Hi"}}}}}}}};
  CHECK(setup.post("/vertex", body).response.body == R"({"predictions":["Hello","Hello world"]})");
  CHECK(setup.post("/vertex", {{"instances", json::array()}}).response.status == 422);
}

// ---- what a request becomes ----

TEST_CASE("a chat request is rendered without being answered") {
  Setup setup;
  setup.serve();
  const json body =
      setup.post("/v1/chat/render", {{"messages", {{{"role", "user"}, {"content", "Hi"}}}}}).json();
  CHECK(body["prompt"] == "[user]Hi[assistant]");
  CHECK(body["count"] == 19);
  CHECK(body["tokens"] == ids_of("[user]Hi[assistant]"));
  CHECK(body["message_begins"].size() == 1);
  CHECK(setup.engine.submitted() == 0);
}

TEST_CASE("TGI's tokenize tells where each token stands") {
  Setup setup;
  setup.serve();
  const auto tokens = setup.post("/tokenize", {{"inputs", "ab"}});
  CHECK(tokens.response.body ==
        R"([{"id":197,"text":"a","start":0,"stop":1},{"id":198,"text":"b","start":1,"stop":2}])");
  const json chat =
      setup.post("/chat_tokenize", {{"messages", {{{"role", "user"}, {"content", "Hi"}}}}}).json();
  CHECK(chat["templated_text"] == "[user]Hi[assistant]");
  CHECK(chat["tokenize_response"].size() == 19);
  CHECK(setup.post("/tokenize", {{"inputs", 5}}).response.status == 422);
}

TEST_CASE("text becomes ids and ids become text") {
  Setup setup;
  setup.serve();
  const json ids =
      setup.post("/v1/tokenize", {{"prompt", "abc"}, {"return_token_strs", true}}).json();
  CHECK(ids["tokens"] == ids_of("abc"));
  CHECK(ids["count"] == 3);
  CHECK(ids["token_strs"] == json({"a", "b", "c"}));
  CHECK(setup.post("/v1/detokenize", {{"tokens", ids["tokens"]}}).json()["prompt"] == "abc");
  CHECK(setup.post("/v1/detokenize", {{"tokens", {999}}}).json()["error"]["param"] == "tokens[0]");
  CHECK(setup.post("/v1/tokenize", {{"messages", {{{"role", "user"}, {"content", "Hi"}}}}})
            .json()["count"] == 19);
}

TEST_CASE("one model can be asked for by name") {
  Setup setup;
  setup.serve();
  CHECK(setup.ask("GET", "/v1/models/tiny").json()["id"] == "tiny");
  CHECK(setup.ask("GET", "/v1/models/%74iny").json()["id"] == "tiny");
  CHECK(setup.ask("GET", "/v1/models/other").response.status == 404);
}

// ---- the document ----

TEST_CASE("the OpenAPI document describes every route from the tables") {
  const json document = json::parse(api::make_openapi_document("1"));
  CHECK(document["openapi"] == "3.1.0");
  for (const api::Route& route : api::routes()) {
    std::string path(route.path);
    if (path.size() > 1 && path.ends_with('/')) path += "{id}";
    INFO(path);
    REQUIRE(document["paths"].contains(path));
    const json operation = document["paths"][path][route.method == "GET" ? "get" : "post"];
    CHECK(operation["responses"].contains("200"));
    CHECK(operation.contains("requestBody") == (route.description.body != nullptr));
  }
  const json chat = document["paths"]["/v1/chat/completions"]["post"]["requestBody"]["content"]
                            ["application/json"]["schema"];
  CHECK(chat["required"] == json({"messages"}));
  CHECK(chat["properties"]["temperature"]["anyOf"][0]["maximum"] == 2);
  CHECK(chat["properties"]["n"]["anyOf"][0]["minimum"] == 1);
  const json& paths = document["paths"];
  CHECK(paths["/health"]["get"]["security"].empty());
  CHECK(paths["/metrics"]["get"]["security"][0].empty());  // without a key too
  CHECK(paths["/info"]["get"]["security"] == json({{{"key", json::array()}}}));
}

}  // namespace
}  // namespace chorus
