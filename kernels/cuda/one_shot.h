// The all-reduce of ours for few rows, alone or fused with the norm behind it: one kernel on every
// rank, which read each other's memory. What is larger goes the group's way (device_group.h).
#pragma once

#include <cuda_runtime_api.h>

#include <vector>

#include "kernels/cuda/prefetch.h"
#include "kernels/cuda/runtime.h"
#include "kernels/ops.h"

namespace chorus::kernels::cuda {

constexpr int kOneShotRanksMax = 8;

// One rank's part. All ranks make the same calls with the same counts of rows in the same order; a
// rank that stays away makes the others' devices wait, which the group's watch finds out.
class OneShot {
 public:
  // What each rank has where all others reach it: full of zeros, aligned to 256 bytes.
  static int64_t window_bytes();
  // Latency counts up to here; beyond it bytes do, of which this way moves more. Columns are a
  // multiple of 8.
  static bool takes(int64_t rows, int64_t cols);

  // windows[r]: rank r's window at the address that this device knows it by. They outlive the last
  // work of every rank, not of this one alone.
  OneShot(int rank, const std::vector<void*>& windows);

  // x = the sum over ranks 0, 1, ... in that order, in place; f32. A row's bits depend on no other
  // row. Rows beyond *live_rows are not written.
  void all_reduce(View x, cudaStream_t stream) const;
  // residual += that sum, then out = rms_norm(residual), with the bits of all_reduce and
  // add_rms_norm (rows.h). x stays this rank's part.
  void all_reduce_add_rms_norm(View out, View residual, View x, const float* weight, float eps,
                               cudaStream_t stream, const Prefetch& ahead = {}) const;

 private:
  int rank_;
  std::vector<void*> windows_;
  Memory epochs_;
};

}  // namespace chorus::kernels::cuda
