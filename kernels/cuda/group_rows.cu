#include "kernels/cuda/group_rows.h"

#include <algorithm>
#include <cassert>

#include "kernels/cuda/device.h"
#include "kernels/cuda/elements.h"
#include "kernels/cuda/ptx.h"
#include "kernels/cuda/rows.h"
#include "kernels/rounding.h"

namespace chorus::kernels::cuda {
namespace {

constexpr int kThreads = 256;

// out[i] = gathered[0][i] + gathered[1][i] + ..., one number a thread: the all-gather before it
// moves as many bytes over slower wires.
__global__ void __launch_bounds__(kThreads)
    add_ranks_kernel(float* out, const float* gathered, int64_t count, int ranks) {
  ptx::let_successor_start();
  ptx::wait_for_predecessor();
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count) return;
  float sum = gathered[i];
  for (int rank = 1; rank < ranks; ++rank) sum += gathered[rank * count + i];
  out[i] = sum;
}

}  // namespace

WholeRows::WholeRows(DeviceGroup& group, int64_t rows_max, std::vector<Range> columns)
    : group_(group), columns_(std::move(columns)) {
  for (const Range& range : columns_) {
    widest_ = std::max(widest_, range.size());
    cols_ = std::max(cols_, range.end);
  }
  const auto float_bytes = static_cast<int64_t>(sizeof(float));
  gathered_ = allocate(std::ssize(columns_) * rows_max * widest_ * float_bytes);
  joined_ = allocate(rows_max * cols_ * float_bytes);
}

View WholeRows::join(View slice, cudaStream_t stream) {
  assert(slice.type == DType::f32);
  auto* gathered = static_cast<float*>(gathered_.get());
  const int64_t stride = slice.rows * widest_;  // a rank's part, whose end may hold nothing
  copy_on_device(gathered + group_.rank() * stride, slice.data,
                 slice.rows * slice.cols * bytes_of(slice.type), stream);
  group_.all_gather(gathered, stride, stream);
  View whole = slice;
  whole.data = joined_.get();
  whole.cols = cols_;
  join_columns(whole, gathered, stride, columns_, stream);
  return whole;
}

OrderedSum::OrderedSum(DeviceGroup& group, int64_t floats_max)
    : group_(group),
      gathered_(allocate(group.ranks() * floats_max * static_cast<int64_t>(sizeof(float)))) {}

void OrderedSum::add(View x, cudaStream_t stream) {
  assert(x.type == DType::f32);
  auto* gathered = static_cast<float*>(gathered_.get());
  const int64_t count = x.rows * x.cols;
  if (count == 0) return;
  copy_on_device(gathered + group_.rank() * count, x.data, count * bytes_of(x.type), stream);
  group_.all_gather(gathered, count, stream);
  const auto blocks = static_cast<unsigned>(ceil_div(count, kThreads));
  launch(add_ranks_kernel, dim3(blocks), dim3(kThreads), 0, stream, static_cast<float*>(x.data),
         gathered, count, group_.ranks());
}

}  // namespace chorus::kernels::cuda
