// Keys and values of one KV group in f16, in blocks of 16 positions. A block holds all layers, so
// that it is copied at once; per layer and head first the keys [head_dim][16 positions], then the
// values [16 positions][head_dim, padded to a multiple of 16].
#pragma once

#include <cstdint>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/memory.h"
#include "kernels/ops.h"

namespace chorus::kernels {

inline int64_t padded_head_dim(int head_dim) {
  return (int64_t{head_dim} + 15) / 16 * 16;
}

inline int64_t kv_head_halves(const KvShape& shape) {
  return (shape.head_dim + padded_head_dim(shape.head_dim)) * kLaneRows;
}

inline int64_t kv_block_halves(const KvShape& shape) {
  return shape.layers * shape.kv_heads * kv_head_halves(shape);
}

class KvBlocks final : public KvStore {
 public:
  explicit KvBlocks(const KvShape& wanted) : memory(wanted.blocks * kv_block_halves(wanted) * 2) {
    shape = wanted;
  }
  uint16_t* block(int64_t index) const {
    return reinterpret_cast<uint16_t*>(memory.data()) + index * kv_block_halves(shape);
  }
  uint16_t* keys(int64_t index, int layer, int head) const {
    return block(index) + (layer * shape.kv_heads + head) * kv_head_halves(shape);
  }
  uint16_t* values(int64_t index, int layer, int head) const {
    return keys(index, layer, head) + int64_t{shape.head_dim} * kLaneRows;
  }

  Memory memory;
};

}  // namespace chorus::kernels
