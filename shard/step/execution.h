// What carries out the router's plans, as shard/service sees it: the executor with its model, or a
// stand-in that has none and measures the rest (bench/mock_shard.cc).
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <tl/expected.hpp>
#include <vector>

#include "shard/step/plan.h"

namespace chorus::step {

// The KV cache that was asked for, or that the memory allows, does not hold one whole sequence.
class NotEnoughMemory : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Thread rules: one thread at a time.
class Execution {
 public:
  virtual ~Execution() = default;
  // Allocates KV for `kv_tokens` positions in all (0: as the memory allows), once, before the first
  // step. Answers with the blocks per group. May throw NotEnoughMemory.
  virtual std::vector<int64_t> allocate_kv(int64_t kv_tokens) = 0;
  // Steps in the order of their numbers. The error says what is wrong with the plan.
  virtual tl::expected<StepResult, std::string> execute(const Step& step) = 0;
};

}  // namespace chorus::step
