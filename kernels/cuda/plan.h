// Which kernel, tile and split serve a matmul: pure host functions, tested without a GPU.
#pragma once

#include <cstdint>

#include "kernels/cuda/device_weight.h"

namespace chorus::kernels::cuda {

// What a plan asks of a device.
struct DeviceLimits {
  int capability = 80;  // 90 for compute capability 9.0
  int multiprocessors = 108;
};

struct MatmulShape {
  int64_t rows = 0;  // of x, as launched
  int64_t n = 0;     // weight rows
  int64_t k = 0;
  WeightFormat format = WeightFormat::bf16;
  bool gated = false;
  bool deterministic = false;  // one order of sums for every `rows`
};

// matmul_few.cu: what a block computes there. A group of k is cut in kSlices, a warp each.
inline constexpr int kSlices = 4;
inline constexpr int kGroupsMax = 4;
inline constexpr int kStreamRowsMax = 8;       // matmul_stream.cu
inline constexpr int kFewRowsMax = 64;         // tokens of a block
inline constexpr int kTileWeightRows = 128;    // weight rows of a block that serves > 8 tokens
inline constexpr int kTokensAtOnce = 512;      // tokens of a launch that splits k over blocks
inline constexpr int kTileCountersMax = 1024;  // tiles of a launch that splits k over blocks

// The order in which a product of `few` sums over k, the same for all rows: k is cut in groups, a
// group in kSlices slices of `slice_steps` x 32, each summed from its begin to its end; slices are
// added in order, then groups are.
struct SumOrder {
  int groups = 1;
  int slice_steps = 0;
};
SumOrder sum_order(const MatmulShape& shape, const DeviceLimits& limits);

enum class MatmulKernel : uint8_t { f32, few, many };

struct MatmulPlan {
  MatmulKernel kernel = MatmulKernel::few;
  // few:
  SumOrder order = {};
  int token_tiles = 1;      // tiles of 8 tokens that a block serves: 1, 2, 4 or 8
  int64_t blocks_rows = 0;  // blocks over the weight's rows
};
MatmulPlan plan_matmul(const MatmulShape& shape, const DeviceLimits& limits);

}  // namespace chorus::kernels::cuda
