// Splits the projection: norms q and k per head, rotates them, scales q, stores k and v in their
// blocks. Contract: QkvArgs in kernels/ops.h.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/cuda/prefetch.h"
#include "kernels/ops.h"

namespace chorus::kernels::cuda {

struct RopeTable final : Rope {
  const float* cosines = nullptr;  // [positions, rotated / 2], times the magnitude
  const float* sines = nullptr;
  int64_t positions = 0;
  int rotated = 0;  // the first elements of a head, twice the number of frequencies; the rest stays
};

// Rows that are not live, or that belong to no span, stay as they are; so does the k and v part of
// qkv, which nobody reads afterwards. Heads of even size, up to 512.
// `ahead`: what the product behind attention reads first.
void split_qkv(const QkvArgs& args, cudaStream_t stream, const Prefetch& ahead = {});

}  // namespace chorus::kernels::cuda
