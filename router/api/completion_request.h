// The body of POST /v1/completions as a typed request.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <tl/expected.hpp>
#include <vector>

#include "router/api/generation_fields.h"

namespace chorus::api {

struct CompletionPrompt {
  std::string text;          // one of the two
  std::vector<int32_t> ids;  // not held against the model's vocabulary
  bool is_text = true;
};

struct CompletionRequest : GenerationFields {
  std::vector<CompletionPrompt> prompts;
  std::optional<int64_t> logprobs;  // alternatives to report; the token's own comes with them
  std::optional<int64_t> best_of;
  bool echo = false;
  bool add_special_tokens = true;

  int64_t candidates() const { return best_of.value_or(n); }
};

std::span<const Field<CompletionRequest>> completion_fields();

tl::expected<CompletionRequest, Error> read_completion_request(const Json& body,
                                                               const GenerationLimits& limits);

}  // namespace chorus::api
