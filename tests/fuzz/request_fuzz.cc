// Any bytes as the body of a request: each route's reader takes it or refuses it, with a message
// either way, what it takes is within the ranges that the tables promise, and what is written back
// as JSON can be read.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "router/api/chat_request.h"
#include "router/api/completion_request.h"
#include "router/api/errors.h"
#include "router/api/generate_request.h"
#include "router/api/generate_wording.h"
#include "router/api/inspect.h"
#include "router/api/json_text.h"

namespace {

using namespace chorus::api;

void require(bool holds) {
  if (!holds) std::abort();
}

void require_told(const Error& error) {
  require(!error.message.empty());
  require(Json::parse(error_body(error)).is_object());
  require(Json::parse(generate_error_response(error).body).is_object());
}

void require_sound(const GenerationFields& request) {
  require(!request.top_p || (*request.top_p > 0 && *request.top_p <= 1));
  require(!request.temperature || *request.temperature >= 0);
  require(request.n >= 1 && request.n <= 128);
  require(request.stop.size() <= 4);
  for (const std::string& stop : request.stop) require(!stop.empty());
  for (size_t i = 1; i < request.logit_bias.size(); ++i) {
    require(request.logit_bias[i - 1].id < request.logit_bias[i].id);
  }
}

void read_chat(const Json& body) {
  const auto request = read_chat_request(body, {});
  if (!request) return require_told(request.error());
  require_sound(*request);
  require(!request->messages.empty());
  require(!request->max_tokens || *request->max_tokens >= 1);
  require(request->top_logprobs.value_or(0) >= 0 && request->top_logprobs.value_or(0) <= 20);
  for (const auto& message : request->messages) {
    require(message["role"].is_string() && message.contains("content"));
  }
  if (const auto failure = find_unbuilt(*request)) require_told(*failure);
}

void read_completion(const Json& body) {
  const auto request = read_completion_request(body, {});
  if (!request) return require_told(request.error());
  require_sound(*request);
  require(!request->prompts.empty());
  require(request->candidates() >= request->n && request->candidates() <= 128);
}

void read_generate(const Json& body) {
  const auto request = read_generate_request(body, false, {});
  if (!request) return require_told(request.error());
  require_sound(*request);
  require(!request->inputs.empty() && request->temperature.has_value());
}

void read_others(const Json& body) {
  TokenizeRequest text;
  if (const auto failure = read_fields(body, text, tokenize_fields())) require_told(*failure);
  DetokenizeRequest ids;
  if (const auto failure = read_fields(body, ids, detokenize_fields())) require_told(*failure);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  std::string quoted;
  append_json_string(quoted, text);
  require(Json::parse(quoted).is_string());
  const auto body = parse_body(text);
  if (!body) {
    require_told(body.error());
    return 0;
  }
  read_chat(*body);
  read_completion(*body);
  read_generate(*body);
  read_others(*body);
  return 0;
}
