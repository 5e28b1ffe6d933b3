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

// Shared memory of a multiprocessor; each block takes 1 KB more than it asks for, and the largest
// may ask for 1 KB less than all.
int64_t shared_bytes_max(int capability);

struct MatmulShape {
  int64_t rows = 0;  // of x, as launched
  int64_t n = 0;     // weight rows
  int64_t k = 0;
  WeightFormat format = WeightFormat::bf16;
  bool gated = false;
  bool deterministic = false;  // one order of sums for every `rows`
};

inline constexpr int kStreamRowsMax = 8;  // of x, in matmul_stream.cu
inline constexpr int kFewRowsMax = 64;    // of x, in a block of matmul_few.cu
// From here on matmul_hopper is faster (H200: at 32 rows by 0.8, at 64 by 1.05 to 1.45).
inline constexpr int kFewRowsMaxHopper = 48;
inline constexpr int kTileWeightRows = 128;    // of the weight, there
inline constexpr int kTokensAtOnce = 512;      // rows of x of a launch that splits k over blocks
inline constexpr int kTileCountersMax = 1024;  // tiles of such a launch

// How `stream` and `few` sum over k, the same for any number of rows: k is cut in groups, a group
// in kSlices slices of `slice_steps` x 32, each summed from its begin to its end; slices are added
// in order, then groups are.
inline constexpr int kSlices = 4;
inline constexpr int kGroupsMax = 4;
struct SumOrder {
  int groups = 1;
  int slice_steps = 0;
};
SumOrder sum_order(const MatmulShape& shape, const DeviceLimits& limits);

enum class MatmulKernel : uint8_t { f32, stream, few, many };

struct MatmulPlan {
  MatmulKernel kernel = MatmulKernel::few;
  SumOrder order = {};  // stream, few
  // few:
  int token_tiles = 2;      // tiles of 8 tokens that a block serves: 2, 4 or 8
  int64_t blocks_rows = 0;  // blocks over the weight's rows
};
MatmulPlan plan_matmul(const MatmulShape& shape, const DeviceLimits& limits);

}  // namespace chorus::kernels::cuda
