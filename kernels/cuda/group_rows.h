// Rows that several ranks hold parts of. Each object keeps the room that it needs for one view, so
// nothing is allocated in a step and captured graphs stay right.
#pragma once

#include <cuda_runtime_api.h>

#include <vector>

#include "kernels/cuda/device_group.h"
#include "kernels/cuda/runtime.h"
#include "kernels/ops.h"

namespace chorus::kernels::cuda {

// Slices of columns become whole rows on every rank.
class WholeRows {
 public:
  // `columns`: each rank's; up to `rows_max` rows.
  WholeRows(DeviceGroup& group, int64_t rows_max, std::vector<Range> columns);
  // f32; slice.rows is what is launched for, the same on all ranks. The answer lives in this
  // object.
  View join(View slice, cudaStream_t stream);

 private:
  DeviceGroup& group_;
  std::vector<Range> columns_;
  int64_t widest_ = 0, cols_ = 0;
  Memory gathered_, joined_;
};

// The sum over ranks in the order 0, 1, ... whatever the count of rows: NCCL's order depends on
// where in the message a number stands, so with it a row's last bits depend on its neighbours.
class OrderedSum {
 public:
  OrderedSum(DeviceGroup& group, int64_t floats_max);
  void add(View x, cudaStream_t stream);  // f32, in place

 private:
  DeviceGroup& group_;
  Memory gathered_;
};

}  // namespace chorus::kernels::cuda
