// The router's plans and the shard's answers as plain data (proto/chorus/v1/shard.proto on the
// wire; fields that are not executed yet have been refused by shard/service before they get here).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "kernels/sampling.h"

namespace chorus::step {

struct Sampling {
  float temperature = 0;
  float top_p = 1;
  int top_k = 0;
  uint64_t seed = 0;
  int choice = 0;
  int top_logprobs = 0;
};

struct NewSequence {
  uint64_t sequence = 0;
  Sampling sampling = {};
};

struct BlockChange {
  int group = 0;
  std::vector<int32_t> added = {};
  int64_t first_live = 0;
};

struct Row {
  int slot = 0;
  std::optional<NewSequence> start = {};
  std::vector<int32_t> tokens = {};  // empty: continue with the token sampled last
  int64_t position = 0;
  std::vector<BlockChange> block_changes = {};
  bool sample = false;
  int output_index = 0;
  int32_t forced = -1;  // tests alone: report this token's logprob instead of sampling
};

struct BlockCopy {
  int group = 0;
  int32_t from = 0;
  int32_t to = 0;
};

struct Step {
  uint64_t number = 0;
  std::vector<Row> rows = {};
  std::vector<BlockCopy> block_copies = {};
  std::vector<int> released_slots = {};
};

struct RowResult {
  int slot = 0;
  kernels::Sampled sampled;
};

struct StepResult {
  uint64_t number = 0;
  std::vector<RowResult> rows = {};  // of the rows that asked for a sample, in the plan's order
  int64_t execution_us = 0;
};

}  // namespace chorus::step
