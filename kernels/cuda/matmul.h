// out = x W^T (+ bias). Which kernel serves a shape is plan.h's business.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/cuda/device_weight.h"
#include "kernels/cuda/plan.h"
#include "kernels/ops.h"

namespace chorus::kernels::cuda {

struct MatmulArgs {
  View out;  // f32, f16 or bf16 [rows, weight rows], or [rows, weight rows / 2] where gated
  // [rows, weight cols]. Fastest in the weight's type with cols a multiple of 8; otherwise it is
  // first brought into that form.
  View x;
  const DeviceWeight* weight = nullptr;
  const float* bias = nullptr;  // [weight rows] or null
  // With `gated`, the weight's first half are gate rows, the second up rows, and out[r][i] =
  // gate(gate row i) * (up row i): the activation in the epilogue.
  bool gated = false;
  Gate gate = Gate::silu;
  DeviceLimits limits = {};  // of the device it runs on
};

// x in the weight's type with cols a multiple of 8: itself, or written to `memory` of
// operand_bytes, padded with zeros to the weight's stride. Beside f32 weights any cols will do.
int64_t operand_bytes(const DeviceWeight& weight, int64_t rows);
View as_operand(View x, const DeviceWeight& weight, void* memory, cudaStream_t stream);

// Memory for one matmul of at most `rows_max` rows, gated or not; all matmuls of a step may share
// it. Zeroed before its first use; each matmul leaves it fit for the next.
int64_t matmul_workspace_bytes(const DeviceWeight& weight, int64_t rows_max,
                               const DeviceLimits& limits, bool deterministic);
void matmul(const MatmulArgs& args, void* workspace, bool deterministic, cudaStream_t stream);

// The kernels behind matmul(), for x in the weight's type with cols a multiple of 8. The first two
// have one order of sums.
void matmul_stream(const MatmulArgs& args, const MatmulPlan& plan, cudaStream_t stream);
// `counters`: kTileCountersMax zeros, zero again afterwards; `sums` as sized by
// matmul_workspace_bytes.
void matmul_few(const MatmulArgs& args, const MatmulPlan& plan, void* counters, void* sums,
                cudaStream_t stream);
void matmul_many(const MatmulArgs& args, cudaStream_t stream);
void matmul_f32(const MatmulArgs& args, cudaStream_t stream);  // any cols

}  // namespace chorus::kernels::cuda
