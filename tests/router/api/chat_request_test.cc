#include "router/api/chat_request.h"

#include <catch2/catch.hpp>

namespace chorus {
namespace {

using api::ChatRequest;
using api::Error;

constexpr const char* kMessages = R"("messages": [{"role": "user", "content": "Hi"}])";

tl::expected<ChatRequest, Error> parse(const std::string& body) {
  return api::parse_chat_request(body, {});
}
tl::expected<ChatRequest, Error> with(const std::string& fields) {
  return parse(std::string("{") + kMessages + (fields.empty() ? "" : ", ") + fields + "}");
}
tl::expected<ChatRequest, Error> message(const std::string& text) {
  return parse(R"({"messages": [{"role": "user", "content": "a"}, )" + text + "]}");
}

TEST_CASE("a request of messages alone leaves everything else to the model") {
  const auto request = with("");
  REQUIRE(request);
  CHECK(request->messages.dump() == R"([{"role":"user","content":"Hi"}])");
  CHECK_FALSE(request->temperature);
  CHECK_FALSE(request->top_p);
  CHECK_FALSE(request->max_tokens);
  CHECK_FALSE(request->seed);
  CHECK(request->stop.empty());
  CHECK_FALSE(request->stream);
}

TEST_CASE("every used field is read") {
  const auto request = with(
      R"("model": "m", "temperature": 0.5, "top_p": 0.9, "top_k": 40, "max_tokens": 7,
         "stop": ["a", "b"], "seed": -3, "logprobs": true, "top_logprobs": 2, "stream": true,
         "stream_options": {"include_usage": true})");
  REQUIRE(request);
  CHECK(request->model == "m");
  CHECK(request->temperature == 0.5);
  CHECK(request->top_p == 0.9);
  CHECK(request->top_k == 40);
  CHECK(request->max_tokens == 7);
  CHECK(request->stop == std::vector<std::string>{"a", "b"});
  CHECK(request->seed == -3);
  CHECK(request->logprobs);
  CHECK(request->top_logprobs == 2);
  CHECK(request->stream);
  CHECK(request->include_usage);
}

TEST_CASE("values that change nothing, and null, are taken") {
  const std::string fields = GENERATE(
      R"("temperature": null)", R"("stop": null)", R"("stream": null)", R"("stream_options": null)",
      R"("tools": null)", R"("n": 1)", R"("n": 1.0)", R"("tools": [])", R"("tool_choice": "none")",
      R"("tool_choice": "auto")", R"("response_format": {"type": "text"})", R"("logit_bias": {})",
      R"("presence_penalty": 0)", R"("frequency_penalty": 0.0)", R"("modalities": ["text"])",
      R"("user": "u")", R"("metadata": {"a": "b"})", R"("store": false)",
      R"("service_tier": "auto")", R"("parallel_tool_calls": true)", R"("nobody_knows": [1])",
      R"("temperature": 0)", R"("temperature": 2)", R"("top_p": 1)", R"("top_p": 0.000001)",
      R"("max_tokens": 10.0)", R"("max_tokens": 5, "max_completion_tokens": 5)", R"("top_k": -1)",
      R"("stop": [])", R"("stop": "x")", R"("stop": ["a", "b", "c", "d"])",
      R"("seed": 9223372036854775807)", R"("logprobs": false, "top_logprobs": 0)",
      R"("stream_options": {})");
  INFO(fields);
  CHECK(with(fields));
}

struct Refused {
  std::string fields;
  std::string param;
  std::string says;
};

TEST_CASE("what is wrong is refused with the field's name") {
  const Refused refused = GENERATE(
      Refused{R"("temperature": -0.1)", "temperature", "between 0 and 2"},
      Refused{R"("temperature": 2.01)", "temperature", "between 0 and 2"},
      Refused{R"("temperature": "1")", "temperature", "must be a number, it is a string"},
      Refused{R"("temperature": true)", "temperature", "it is a boolean"},
      Refused{R"("top_p": 0)", "top_p", "above 0"}, Refused{R"("top_p": 1.1)", "top_p", "1"},
      Refused{R"("max_tokens": 0)", "max_tokens", "between 1"},
      Refused{R"("max_tokens": 1.5)", "max_tokens", "must be an integer, it is a number"},
      Refused{R"("max_completion_tokens": -1)", "max_completion_tokens", "between 1"},
      Refused{R"("max_tokens": 5, "max_completion_tokens": 6)", "max_tokens", "give one"},
      Refused{R"("stop": "")", "stop", "empty"},
      Refused{R"("stop": ["a", ""])", "stop[1]", "empty"},
      Refused{R"("stop": [1])", "stop[0]", "must be a string"},
      Refused{R"("stop": {})", "stop", "a string or an array"},
      Refused{R"("stop": ["a", "b", "c", "d", "e"])", "stop", "at most 4"},
      Refused{R"("seed": "x")", "seed", "integer"}, Refused{R"("seed": 0.5)", "seed", "integer"},
      Refused{R"("top_logprobs": 2)", "top_logprobs", "needs logprobs"},
      Refused{R"("logprobs": true, "top_logprobs": 21)", "top_logprobs", "between 0 and 20"},
      Refused{R"("logprobs": 1)", "logprobs", "boolean"},
      Refused{R"("stream": "yes")", "stream", "boolean"},
      Refused{R"("stream_options": {"include_usage": 1})", "stream_options.include_usage",
              "boolean"},
      Refused{R"("model": 5)", "model", "string"}, Refused{R"("n": 129)", "n", "between 1 and 128"},
      Refused{R"("n": 0)", "n", "between 1"},
      Refused{R"("tools": [{}])", "tools[0].type", "required"},
      Refused{R"("tool_choice": "required")", "tool_choice", "there are no tools"},
      Refused{R"("tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "g")",
              "tool_choice", "\"g\", which is not among the tools"},
      Refused{R"("guided_json": {})", "guided_json", "not built yet"},
      Refused{R"("min_tokens": 5, "max_tokens": 4)", "min_tokens", "above max_tokens"},
      Refused{R"("repetition_penalty": 0)", "repetition_penalty", "0.01"},
      Refused{R"("stop_token_ids": [1, -1])", "stop_token_ids[1]", "between 0"},
      Refused{R"("continue_final_message": true)", "continue_final_message", "assistant"},
      Refused{R"("chat_template": "x")", "chat_template", "not supported"},
      Refused{R"("functions": [{}])", "functions", "use tools"},
      Refused{R"("response_format": {"type": "xml"})", "response_format.type", "json_schema"},
      Refused{R"("response_format": {"type": "json_schema"})", "response_format.json_schema",
              "required"},
      Refused{R"("logit_bias": {"1": 500})", "logit_bias.1", "between -100 and 100"},
      Refused{R"("logit_bias": {"01": 5})", "logit_bias", "no token id"},
      Refused{R"("logit_bias": [1])", "logit_bias", "must be an object"},
      Refused{R"("presence_penalty": 3)", "presence_penalty", "between -2 and 2"},
      Refused{R"("modalities": ["text", "audio"])", "modalities", "answers in text"},
      Refused{R"("audio": {})", "audio", "not supported"},
      Refused{R"("prediction": {})", "prediction", "not built"});
  INFO(refused.fields);
  const auto request = with(refused.fields);
  REQUIRE_FALSE(request);
  CHECK(request.error().kind == api::ErrorKind::invalid_request);
  CHECK(request.error().param == refused.param);
  CHECK_THAT(request.error().message, Catch::Contains(refused.says));
}

TEST_CASE("messages come in every form that OpenAI's clients send") {
  CHECK(message(R"({"role": "system", "content": "s"})"));
  CHECK(message(R"({"role": "assistant", "content": "s", "refusal": null, "tool_calls": null})"));
  CHECK(message(R"({"role": "tool", "content": "s", "tool_call_id": "c1"})"));
  const auto parts = message(
      R"({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]})");
  REQUIRE(parts);
  CHECK(parts->messages[1]["content"][1]["text"] == "b");
  const auto developer = message(R"({"role": "developer", "content": "d", "name": "n"})");
  REQUIRE(developer);
  const auto calls = message(
      R"({"role": "assistant", "tool_calls": [{"id": "c", "type": "function",
          "function": {"name": "f", "arguments": "{}"}}], "audio": null})");
  REQUIRE(calls);
  CHECK(calls->messages[1]["content"].is_null());
  CHECK_FALSE(calls->messages[1].contains("audio"));
  CHECK(calls->messages[1]["tool_calls"][0]["function"]["name"] == "f");
  CHECK(developer->messages[1].dump() == R"({"role":"developer","content":"d","name":"n"})");
}

TEST_CASE("a message that is wrong is refused with its place") {
  const Refused refused = GENERATE(
      Refused{R"("text")", "messages[1]", "must be an object, it is a string"},
      Refused{R"({"content": "x"})", "messages[1].role", "is required"},
      Refused{R"({"role": "king", "content": "x"})", "messages[1].role",
              "must be system, developer"},
      Refused{R"({"role": 1, "content": "x"})", "messages[1].role", "must be a string"},
      Refused{R"({"role": "user"})", "messages[1].content", "is required"},
      Refused{R"({"role": "user", "content": null})", "messages[1].content", "is required"},
      Refused{R"({"role": "user", "content": 5})", "messages[1].content", "it is an integer"},
      Refused{R"({"role": "user", "content": ["x"]})", "messages[1].content[0]", "object"},
      Refused{R"({"role": "user", "content": [{"text": "x"}]})", "messages[1].content[0].type",
              "is required"},
      Refused{R"({"role": "user", "content": [{"type": "text"}]})", "messages[1].content[0].text",
              "string"},
      Refused{R"({"role": "user", "content": [{"type": "image_url", "image_url": {}}]})",
              "messages[1].content[0].type", "is 'image_url'"},
      Refused{R"({"role": "assistant", "content": null, "tool_calls": [{"id": "x"}]})",
              "messages[1].tool_calls[0].function", "is required"},
      Refused{R"({"role": "user", "content": "x", "tool_calls": [{"function": {"name": "f",
                 "arguments": ""}}]})",
              "messages[1].tool_calls", "not the assistant's"},
      Refused{R"({"role": "user", "content": "x", "name": 1})", "messages[1].name", "string"});
  INFO(refused.fields);
  const auto request = message(refused.fields);
  REQUIRE_FALSE(request);
  CHECK(request.error().param == refused.param);
  CHECK_THAT(request.error().message, Catch::Contains(refused.says));
}

TEST_CASE("messages must be there, in reasonable number") {
  CHECK(parse("{}").error().message == "messages is required");
  CHECK(parse(R"({"messages": null})").error().param == "messages");
  CHECK_THAT(parse(R"({"messages": []})").error().message, Catch::Contains("at least one"));
  CHECK_THAT(parse(R"({"messages": {}})").error().message, Catch::Contains("an array"));
  std::string many = R"({"messages": [)";
  for (int i = 0; i < 5000; ++i) many += R"({"role": "user", "content": ""},)";
  many.back() = ']';
  CHECK_THAT(parse(many + "}").error().message, Catch::Contains("5000 messages, at most 4096"));
}

TEST_CASE("a body that is no JSON object is refused, with the place where it breaks") {
  CHECK_THAT(parse("").error().message, Catch::Contains("line 1, column 1"));
  CHECK_THAT(parse("{\"a\": 1,\n  oops}").error().message, Catch::Contains("line 2, column 3"));
  CHECK_THAT(parse("[1]").error().message,
             Catch::Contains("must be a JSON object, it is an array"));
  CHECK_FALSE(parse("{} {}"));
  CHECK_FALSE(parse("{\"messages\": \"\xFF\"}"));
  CHECK_FALSE(parse(R"({"messages": "\ud800"})"));
}

TEST_CASE("the last of equal keys wins") {
  const auto request = with(R"("seed": 1, "temperature": 0, "seed": 2, "seed": 3)");
  REQUIRE(request);
  CHECK(request->seed == 3);
  CHECK(request->temperature == 0);
}

TEST_CASE("nesting and numbers have limits, wherever they stand") {
  const std::string deep = std::string(63, '[') + std::string(63, ']');
  CHECK(with("\"x\": " + deep));
  CHECK_THAT(with("\"x\": [" + deep + "]").error().message, Catch::Contains("deeper than 64"));
  CHECK_FALSE(parse(std::string(1'000'000, '[')));
  for (const char* huge :
       {"9223372036854775808", "-9223372036854775809", "123456789012345678901234567890"}) {
    CHECK(with(std::string("\"x\": ") + huge));  // nobody reads it
    CHECK(with(std::string("\"seed\": ") + huge).error().param == "seed");
    CHECK(with(std::string("\"max_tokens\": ") + huge).error().param == "max_tokens");
  }
  CHECK_FALSE(with(R"("x": 1e999)"));
  CHECK(with(R"("x": -9223372036854775808, "y": 1e300)"));
}

TEST_CASE("a body of very many keys takes no quadratic time") {
  std::string body = "{";
  for (int i = 0; i < 150'000; ++i) body += "\"k" + std::to_string(i) + "\":0,";
  const auto request = parse(body + kMessages + "}");
  CHECK(request);
}

}  // namespace
}  // namespace chorus
