// The body of POST /v1/chat/completions as a typed request, validated field by field.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <tl/expected.hpp>

#include "router/api/errors.h"
#include "router/api/generation_fields.h"

namespace chorus::api {

struct ChatRequest : GenerationFields {
  Json messages = Json::array();  // as sent, without what is null; every one is well-formed
  Json tools;                     // null, or an array of functions
  Json documents;                 // null, or an array
  std::string tool_choice;  // "none", "auto", "required", or a function's name; empty: not said
  bool tool_choice_is_name = false;
  Json response_format;  // null: text
  Json template_kwargs = Json::object();
  std::optional<int64_t> max_completion_tokens;  // another name of max_tokens
  bool logprobs = false;
  std::optional<int64_t> top_logprobs;
  bool echo = false;  // the answer begins with the message that it continues
  bool add_special_tokens = false;
  bool add_generation_prompt = true;
  bool continue_final_message = false;
};

struct ChatLimits {
  GenerationLimits generation = {};
  int64_t messages_max = 4096;
};

std::span<const Field<ChatRequest>> chat_fields();

// Says which field is wrong, why, and where in `messages`.
tl::expected<ChatRequest, Error> read_chat_request(const Json& body, const ChatLimits& limits);
tl::expected<ChatRequest, Error> parse_chat_request(std::string_view body,
                                                    const ChatLimits& limits);

// What a well-formed request may ask, but Chorus cannot generate yet.
Failure find_unbuilt(const ChatRequest& request);

}  // namespace chorus::api
