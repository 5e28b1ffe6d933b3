// Keys and values in device memory: per layer two arrays [block][kv_head][kBlockTokens][head_dim],
// so that a head's part of a block is one contiguous piece. In fp8 they have no scales: what is
// beyond 448, infinity too, becomes 448, and attention reads what is no number as 480: NaN that
// only keys and values have (a damaged weight) goes unseen, where other types would show it.
#pragma once

#include <cstdint>

#include "kernels/cuda/runtime.h"
#include "kernels/ops.h"

namespace chorus::kernels::cuda {

inline constexpr int kBlockTokens = 32;

struct KvBlocks final : KvStore {
  DType type = DType::f16;            // f16, bf16, e4m3 or f32
  void* keys = nullptr;               // [layers][blocks][kv_heads][kBlockTokens][head_dim]
  void* values = nullptr;             // the same
  Memory keys_memory, values_memory;  // own the two, where the caller does not
  int64_t block_elements() const {    // of one layer's keys
    return int64_t{shape.kv_heads} * kBlockTokens * shape.head_dim;
  }
  int64_t layer_elements() const { return shape.blocks * block_elements(); }
};

}  // namespace chorus::kernels::cuda
