// Which kernel and tile serve a matmul of many rows on sm_90a: pure host functions, tested without
// a GPU.
#pragma once

#include <cstdint>

namespace chorus::kernels::cuda {

struct LargeMatmul {
  int64_t rows = 0;         // of x, as launched
  int64_t out_columns = 0;  // half the weight's rows where gated
  int64_t k = 0;
  bool gated = false;
};

inline constexpr int kHopperTileRows = 128;  // of x, in a tile of matmul_hopper

struct HopperPlan {
  int tile_columns = 256;  // of matmul_hopper: 64, 128, 192 or 256
  int splits = 1;          // of k; 1 but for few rows
};
HopperPlan plan_hopper(const LargeMatmul& shape, int multiprocessors);

}  // namespace chorus::kernels::cuda
