// out = x W^T (+ bias) where W is quantised: its codes go from memory into registers and become mma
// operands there, so that decode is bound by the quantised bytes.
#pragma once

#include "kernels/cuda/matmul.h"

namespace chorus::kernels::cuda {

// Memory that matmul_quantised may write, for up to `rows_max` rows; 0 is possible.
int64_t quantised_workspace_bytes(const DeviceWeight& weight, int64_t rows_max,
                                  const DeviceLimits& limits, bool deterministic);
// x is bf16, f16 or, for sums as exact as f32's, f32. With `deterministic` one order of sums serves
// every number of rows.
void matmul_quantised(const MatmulArgs& args, void* workspace, bool deterministic,
                      cudaStream_t stream);

// out [weight rows, weight cols] = the weight in `type`, bf16 or f16.
void dequantise(const DeviceWeight& weight, DType type, void* out, cudaStream_t stream);

}  // namespace chorus::kernels::cuda
