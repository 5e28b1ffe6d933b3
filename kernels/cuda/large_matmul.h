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

// Of matmul_hopper: 64, 128, 192 or 256 columns of sums; clusters of 1, or of 2 with 128 or 256.
struct HopperTile {
  int columns = 128;
  int cluster = 1;
};
HopperTile choose_tile(const LargeMatmul& shape, int multiprocessors);

// Whether cuBLASLt, where it is loaded and takes the arguments, is faster than matmul_hopper.
bool prefers_cublaslt(const LargeMatmul& shape);

}  // namespace chorus::kernels::cuda
