// The body of POST /v1/chat/completions as a typed request, validated field by field.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <vector>

#include "router/api/errors.h"
#include "router/api/json_text.h"

namespace chorus::api {

struct ChatRequest {
  std::optional<std::string> model;
  Json messages = Json::array();  // for the template: role, content (a string), name, tool_call_id
  std::optional<double> temperature;
  std::optional<double> top_p;
  std::optional<int64_t> top_k;  // 0: off
  std::optional<int64_t> max_tokens;
  std::vector<std::string> stop;
  std::optional<int64_t> seed;
  bool logprobs = false;
  int top_logprobs = 0;
  bool stream = false;
  bool include_usage = false;
};

struct ChatLimits {
  int64_t stop_sequences_max = 4;
  int64_t messages_max = 4096;
};

// Says which field is wrong, why, and where in `messages`.
tl::expected<ChatRequest, Error> parse_chat_request(std::string_view body,
                                                    const ChatLimits& limits);

}  // namespace chorus::api
