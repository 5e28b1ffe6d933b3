// Splitting the projection into queries, keys and values, and causal attention over paged blocks.
#pragma once

#include <memory>
#include <vector>

#include "kernels/cpu/backend.h"
#include "kernels/cpu/kv_blocks.h"
#include "kernels/cpu/packed_weight.h"
#include "kernels/ops.h"

namespace chorus::kernels {

class RopeTables final : public Rope {
 public:
  RopeTables(const RopeDescription& description, int64_t positions_max);
  const float* cosines(int64_t position) const { return cosines_.data() + position * half_; }
  const float* sines(int64_t position) const { return sines_.data() + position * half_; }

 private:
  int64_t half_;
  std::vector<float> cosines_, sines_;  // [positions][half]
};

void run_split_qkv(const QkvArgs& args, const Backend& backend);

struct AttentionCall {
  AttentionArgs args;
  std::vector<std::vector<int>> queries_of;  // per KV head, its query heads
};

AttentionCall make_attention_call(const AttentionArgs& args);
void plan_attention(const AttentionCall& call, Scratch& scratch);
void run_attention(const AttentionCall& call, const Backend& backend, int worker);

}  // namespace chorus::kernels
