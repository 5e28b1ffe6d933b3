// Splits the projection: norms q and k per head, rotates them, scales q, stores k and v in their
// blocks. Contract: QkvArgs in kernels/ops.h.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/ops.h"

namespace chorus::kernels::cuda {

struct RopeTable final : Rope {
  const float* cosines = nullptr;  // [positions, head_dim / 2], times the magnitude
  const float* sines = nullptr;
  int64_t positions = 0;
};

// `tokens`: capacity of qkv's rows; args.spans.rows: of its spans.
void split_qkv(const QkvArgs& args, cudaStream_t stream);

}  // namespace chorus::kernels::cuda
