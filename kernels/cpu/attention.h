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
  int64_t half() const { return half_; }
  const float* cosines(int64_t position) const { return cosines_.data() + position * half_; }
  const float* sines(int64_t position) const { return sines_.data() + position * half_; }

 private:
  int64_t half_;
  std::vector<float> cosines_, sines_;  // [positions][half]
};

Phase split_qkv_phase(const QkvArgs& args, const Backend& backend);

// Asks for the scratch it needs.
Phase attention_phase(const AttentionArgs& args, const Backend& backend);

}  // namespace chorus::kernels
