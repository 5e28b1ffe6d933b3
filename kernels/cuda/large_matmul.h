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

// The tile_columns for matmul_hopper.
int choose_tile_columns(const LargeMatmul& shape, int multiprocessors);

// Whether cuBLASLt, where it is loaded and takes the arguments, is faster than matmul_hopper.
bool prefers_cublaslt(const LargeMatmul& shape);

}  // namespace chorus::kernels::cuda
