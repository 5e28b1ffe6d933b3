// One row in the registers of a block: 8 neighbours a thread (16-byte accesses), and its RMS norm.
//
// The sum of squares is taken over a thread's elements in rising order, over a warp by a butterfly,
// over warps in rising order: it depends on the number of columns only. Every kernel that norms
// whole rows does it here, so that a norm has the same bits whatever it is fused with.
#pragma once

#include "kernels/cuda/elements.h"
#include "kernels/cuda/ptx.h"

namespace chorus::kernels::cuda {

constexpr int kGroup = 8;  // neighbours of one thread
constexpr int kNormThreadsMax = 1024;
constexpr int kNormGroupsMax = 2;  // of one thread: rows of up to 16384 columns

inline int64_t groups_of(int64_t cols) {
  return (cols + kGroup - 1) / kGroup;
}

inline int whole_warps(int64_t threads, int threads_max) {
  const int64_t rounded = (threads + 31) / 32 * 32;
  return static_cast<int>(rounded < threads_max ? rounded : threads_max);
}

// `packed`: packs_fit.
template <typename T>
__device__ inline void load_group(float (&to)[kGroup], const T* row, int64_t at, int64_t cols,
                                  bool packed) {
  if (packed) {
    load(to, row + at);
  } else {
    load_some(to, row + at, cols - at);
  }
}

template <typename T>
__device__ inline void store_group(T* row, int64_t at, const float (&from)[kGroup], int64_t cols,
                                   bool packed) {
  if (packed) {
    store(row + at, from);
  } else {
    store_some(row + at, from, cols - at);
  }
}

// Where this thread's n-th group stands in its row.
__device__ inline int group_place(int n) {
  return static_cast<int>(threadIdx.x + n * blockDim.x) * kGroup;
}

struct NormShared {
  float warp_sums[kNormThreadsMax / 32];
};

__device__ inline float block_sum(float x, NormShared& shared) {
  x = ptx::warp_sum(x);
  if (threadIdx.x % 32 == 0) shared.warp_sums[threadIdx.x / 32] = x;
  __syncthreads();
  float sum = 0;
  for (int warp = 0; warp < static_cast<int>(blockDim.x / 32); ++warp)
    sum += shared.warp_sums[warp];
  return sum;
}

template <typename Out>
struct NormedRow {
  Out* out;
  float* residual;  // null, or where the row goes as it is
  int cols;
  float eps;
  bool packed;
};

// By all threads of a block. A row that is not `live` is not stored. Whoever uses `shared` next
// meets the block before.
template <typename Out, int kGroups>
__device__ inline void norm_row(const NormedRow<Out>& row, float (&x)[kGroups][kGroup],
                                const float (&weight)[kGroups][kGroup], bool live,
                                NormShared& shared) {
  float squares = 0;
#pragma unroll
  for (int g = 0; g < kGroups; ++g) {
    if (group_place(g) >= row.cols) continue;
#pragma unroll
    for (int i = 0; i < kGroup; ++i) squares += x[g][i] * x[g][i];
  }
  const float mean = block_sum(squares, shared) / static_cast<float>(row.cols);
  if (!live) return;
  const float factor = 1.0F / sqrtf(mean + row.eps);
#pragma unroll
  for (int g = 0; g < kGroups; ++g) {
    const int place = group_place(g);
    if (place >= row.cols) continue;
    if (row.residual != nullptr) store_group(row.residual, place, x[g], row.cols, row.packed);
#pragma unroll
    for (int i = 0; i < kGroup; ++i) x[g][i] = x[g][i] * factor * weight[g][i];
    store_group(row.out, place, x[g], row.cols, row.packed);
  }
}

}  // namespace chorus::kernels::cuda
