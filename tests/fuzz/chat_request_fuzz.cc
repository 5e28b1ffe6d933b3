// Any bytes as the body of a chat request: it is taken or refused, with a message either way, and
// what is written back as JSON can be read.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "router/api/chat_request.h"
#include "router/api/errors.h"
#include "router/api/json_text.h"

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  std::string quoted;
  chorus::api::append_json_string(quoted, body);
  require(chorus::api::Json::parse(quoted).is_string());
  const auto request = chorus::api::parse_chat_request(body, {});
  if (!request) {
    require(!request.error().message.empty());
    require(chorus::api::Json::parse(chorus::api::error_body(request.error())).is_object());
    return 0;
  }
  require(!request->messages.empty());
  require(!request->temperature || (*request->temperature >= 0 && *request->temperature <= 2));
  require(!request->top_p || (*request->top_p > 0 && *request->top_p <= 1));
  require(!request->max_tokens || *request->max_tokens >= 1);
  require(request->top_logprobs.value_or(0) >= 0 && request->top_logprobs.value_or(0) <= 20);
  for (const auto& message : request->messages) {
    require(message["role"].is_string() && message.contains("content"));
  }
  return 0;
}
