// What every request for a generation may ask, whatever its route: sampling, where to stop, what to
// return. Chat completions and completions share these fields by name; TGI's routes have names of
// their own for them (generate_request.cc).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "router/api/fields.h"
#include "router/shards/link.h"

namespace chorus::api {

struct GenerationFields {
  std::optional<std::string> model;
  // Where a field is empty the model's generation_config.json decides, then OpenAI's default.
  std::optional<double> temperature, top_p, min_p, typical_p, repetition_penalty;
  std::optional<int64_t> top_k;  // 0: off
  double frequency_penalty = 0;
  double presence_penalty = 0;
  std::vector<shards::LogitBias> logit_bias;  // sorted by id; ids are not held against the model
  std::optional<int64_t> seed;
  std::optional<int64_t> max_tokens;
  int64_t min_tokens = 0;
  std::optional<int64_t> truncate;  // keep that many of the prompt's last tokens
  std::vector<std::string> stop;
  std::vector<int32_t> stop_token_ids;
  bool ignore_eos = false;
  bool include_stop = false;  // in the text
  bool skip_special_tokens = true;
  int64_t n = 1;
  bool stream = false;
  bool include_usage = false;
  bool return_token_ids = false;
};

struct GenerationLimits {
  int64_t stop_sequences_max = 4;
};

std::span<const Field<GenerationFields>> generation_fields();

// What the fields say about each other and about this server.
Failure check_together(const GenerationFields& fields, const GenerationLimits& limits);

// Readers that other tables use as well.
Failure read_stop(GenerationFields& request, const Json& value, const Path& path);
inline constexpr double kTokensMax = 1e9;

}  // namespace chorus::api
