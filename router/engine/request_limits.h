// What a request must keep to, so that no shard refuses its plan (which would end the shard). The
// API validates with better words before; here a fault of ours costs one request, not the process.
#pragma once

#include <optional>
#include <string>

#include "router/engine/engine.h"

namespace chorus::engine {

struct RequestLimits {
  int64_t context_max = 0;
  int64_t vocab_size = 0;
  int top_logprobs_max = 0;
};

// The first field that is out of range, with its value; nothing where the request is sound.
std::optional<std::string> find_fault(const GenerationRequest& request,
                                      const RequestLimits& limits);

}  // namespace chorus::engine
