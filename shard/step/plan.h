// The router's plans and the shard's answers as plain data (proto/chorus/v1/shard.proto on the
// wire; fields that are not executed yet have been refused by shard/service before they get here).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "kernels/sampling.h"

namespace chorus::step {

struct LogitBias {
  int32_t id = 0;
  float bias = 0;
};

struct Sampling {  // kernels::SamplingParams says what the numbers mean
  float temperature = 0;
  float top_p = 1;
  int top_k = 0;
  float min_p = 0;
  float typical_p = 1;
  float repetition_penalty = 1;
  float frequency_penalty = 0;
  float presence_penalty = 0;
  std::vector<LogitBias> logit_bias = {};
  int64_t min_tokens = 0;
  std::vector<int32_t> late_ids = {};
  uint64_t seed = 0;
  int choice = 0;
  int top_logprobs = 0;
};

struct NewSequence {
  uint64_t sequence = 0;
  Sampling sampling = {};
  // Where there are penalties: all tokens so far, and where the output begins among them.
  std::vector<int32_t> history = {};
  int64_t output_begin = 0;
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
  // Places within `tokens`, rising: the logprob of the prompt's token behind each is wanted.
  std::vector<int32_t> logprob_positions = {};
  int32_t next_chunk_token = 0;  // what stands behind the last of `tokens`, where that is asked for
  int32_t forced = -1;           // tests alone: report this token's logprob instead of sampling
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
  kernels::Sampled sampled = {};              // token -1 where the row asked for none
  std::vector<kernels::Sampled> prompt = {};  // one for each of the logprob positions
};

struct StepResult {
  uint64_t number = 0;
  std::vector<RowResult> rows = {};  // of those that asked for a sample or logprobs, in plan order
  int64_t execution_us = 0;
};

}  // namespace chorus::step
