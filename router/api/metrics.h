// What GET /metrics shows: TGI's names where they mean the same, ours where TGI has none.
// prometheus-cpp stands behind metrics.cc alone.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "router/engine/engine.h"

namespace chorus::api {

enum class Metric : uint8_t {
  request_count,
  request_success,
  request_failure,
  request_duration,
  validation_duration,
  queue_duration,
  inference_duration,
  first_token_duration,
  time_per_token_duration,
  input_length,
  generated_tokens,
  max_new_tokens,
  queue_size,
  batch_current_size,
  batch_current_max_tokens,
  batch_inference_count,
  preempted,
  kv_blocks,
  kv_blocks_used,
  steps,
  prefill_tokens,
  decode_tokens,
  step_duration,
};

// Any thread.
class Metrics {
 public:
  Metrics();
  ~Metrics();
  void add(Metric counter, std::string_view label = {});
  void observe(Metric histogram, double value);  // seconds, or tokens
  // Prometheus' text format; `engine` may be nullptr.
  std::string text(const engine::EngineStats* engine);

 private:
  struct Registry;
  std::unique_ptr<Registry> registry_;
};

}  // namespace chorus::api
