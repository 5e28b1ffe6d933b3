// The body of TGI's own routes (/generate and its kin) as a typed request.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <tl/expected.hpp>

#include "router/api/generation_fields.h"

namespace chorus::api {

struct GenerateRequest : GenerationFields {
  std::string inputs;
  bool do_sample = false;
  bool details = false;
  bool decoder_input_details = false;
  std::optional<bool> return_full_text;
  int64_t best_of = 1;
  int64_t top_n_tokens = 0;

  bool wants_details() const { return details || decoder_input_details; }
};

struct GenerateLimits {
  GenerationLimits generation = {};
  int64_t best_of_max = 2;
  int64_t top_n_tokens_max = 5;
};

std::span<const Field<GenerateRequest>> generate_fields();            // of the body
std::span<const Field<GenerateRequest>> generate_parameter_fields();  // of `parameters`

// `stream` is what the route says; on `/` the body may say it.
tl::expected<GenerateRequest, Error> read_generate_request(const Json& body, bool stream,
                                                           const GenerateLimits& limits);

}  // namespace chorus::api
