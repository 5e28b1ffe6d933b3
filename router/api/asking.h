// From what a request says to what the engine is told: checks against the model that is served, the
// model's own defaults, and one Ask for each choice.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "router/api/answering.h"
#include "router/api/generation_fields.h"

namespace chorus::api {

struct AskSettings {
  int top_logprobs = 0;
  bool keep_tokens = false;  // the wording shows tokens, not text alone
  bool keep_stop_tokens = false;
  bool prompt_logprobs = false;
  std::vector<int32_t> prompt_tail = {};  // where the answer continues the prompt's text
};

// Token ids and counts that only the model can judge.
Failure check_against_model(const GenerationFields& fields, int top_logprobs,
                            const Serving& serving);

// Cuts the prompt by `truncate`, then holds it against the context. `param` names it in errors.
Failure fit_prompt(std::vector<int32_t>& prompt, const GenerationFields& fields,
                   const Service& service, std::string_view param);

shards::Sampling sampling_of(const GenerationFields& fields, const Serving& serving);

// `count` asks with the same prompt that differ in their choice. `default_max_tokens`: of requests
// that do not say; nothing: what the context holds.
std::vector<Ask> make_asks(const GenerationFields& fields, const AskSettings& settings,
                           const std::vector<int32_t>& prompt, int64_t count,
                           std::optional<int64_t> default_max_tokens, const Service& service);

}  // namespace chorus::api
