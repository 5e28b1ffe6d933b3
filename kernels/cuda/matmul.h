// out = x W^T (+ bias). Which kernel serves a shape is plan.h's business.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/cuda/device_weight.h"
#include "kernels/ops.h"

namespace chorus::kernels::cuda {

struct MatmulArgs {
  View out;  // f32 [rows, weight rows]; f32, f16 or bf16 [rows, weight rows / 2] where gated
  View x;    // [rows, weight cols] of the weight's plain type (f32 for f32)
  const DeviceWeight* weight = nullptr;
  const float* bias = nullptr;  // [weight rows] or null
  // With `gated`, the weight's first half are gate rows, the second up rows, and out[r][i] =
  // gate(gate row i) * (up row i): the activation in the epilogue.
  bool gated = false;
  Gate gate = Gate::silu;
};

// Memory for sums that are split over k; one for all matmuls of a step.
int64_t matmul_workspace_bytes(const DeviceWeight& weight, int64_t rows_max);
void matmul(const MatmulArgs& args, void* workspace, bool deterministic, cudaStream_t stream);

}  // namespace chorus::kernels::cuda
