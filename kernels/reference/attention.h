// Rotation, paged keys and values in f32, and attention over them, as the formulas say it.
#pragma once

#include <cstdlib>
#include <memory>
#include <vector>

#include "kernels/ops.h"
#include "kernels/reference/operations.h"

namespace chorus::kernels::reference {

// KV positions a block: as many as the CPU backend's, so that both serve the same plans.
inline constexpr int kBlockTokens = 16;

class RopeTables final : public Rope {
 public:
  RopeTables(const RopeDescription& description, int64_t positions_max);
  // Rotates the pairs (x[i], x[half + i]) of one head; what lies beyond stays.
  void rotate(float* x, int64_t position) const;

 private:
  int64_t half_;
  std::vector<float> cosines_, sines_;  // [positions, half]
};

// [blocks, layers, kv_heads, keys then values, kBlockTokens, head_dim]. Pages come zeroed and are
// touched only when they are used.
class KvBlocks final : public KvStore {
 public:
  explicit KvBlocks(const KvShape& wanted);
  static int64_t block_floats(const KvShape& shape);
  float* block(int32_t idx) const;
  float* key(int32_t block_idx, int layer, int head, int64_t offset) const;
  float* value(int32_t block_idx, int layer, int head, int64_t offset) const;

 private:
  struct Free {
    void operator()(float* floats) const { std::free(floats); }
  };
  std::unique_ptr<float, Free> floats_;
};

void split_qkv(const QkvArgs& args, Share share);
void attention(const AttentionArgs& args, Share share);

}  // namespace chorus::kernels::reference
