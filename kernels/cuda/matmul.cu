// Brings x into the form that the kernels read and hands it to the one that plan.h names. The
// workspace is: counters of split tiles (zero between launches), x converted, sums of split tiles.
#include "kernels/cuda/matmul.h"

#include <algorithm>
#include <cassert>
#include <cstddef>

#include "kernels/cuda/device.h"
#include "kernels/cuda/epilogue.h"
#include "kernels/cuda/large_matmul.h"
#include "kernels/cuda/matmul_hopper.h"
#include "kernels/cuda/ptx.h"
#include "kernels/cuda/quantised.h"
#include "kernels/rounding.h"

namespace chorus::kernels::cuda {
namespace {

constexpr int64_t kCounterBytes = kTileCountersMax * sizeof(uint32_t);
constexpr int kThreads = 256;

struct Rows {
  const void* data = nullptr;
  DType type = DType::f32;
  int64_t rows = 0, cols = 0;
  const int32_t* live_rows = nullptr;
};

// out [rows, stride] = x, with zeros from x.cols on. A block has one row.
__global__ void operand_kernel(void* out, DType type, int64_t stride, const Rows x) {
  ptx::let_successor_start();
  ptx::wait_for_predecessor();
  const int64_t row = blockIdx.x;
  if (!is_live(row, x.live_rows)) return;
  for (int64_t i = threadIdx.x; i < stride; i += kThreads) {
    const float value = i < x.cols ? load_as_f32(x.data, x.type, row * x.cols + i) : 0.0f;
    store_as(out, type, row * stride + i, value);
  }
}

bool fits(const View& x, const DeviceWeight& weight) {
  return x.type == type_of(weight.format) &&
         (weight.format == WeightFormat::f32 || x.cols % 8 == 0);
}

// The sums of weights that `few` splits.
int64_t few_sums_bytes(const DeviceWeight& weight, int64_t rows_max, const DeviceLimits& limits,
                       bool deterministic) {
  const int64_t groups = sum_order({.n = weight.rows, .k = weight.cols}, limits).groups;
  if (groups == 1) return 0;
  const int64_t rows_at_once = deterministic ? kTokensAtOnce : kFewRowsMax;
  const int64_t rows = std::min<int64_t>(round_up(rows_max, kFewRowsMax), rows_at_once);
  const int64_t tiles = ceil_div(weight.rows, kTileWeightRows);  // gated or not
  return groups * tiles * kTileWeightRows * rows * int64_t{sizeof(float)};
}

// The same of matmul_hopper, which splits products of one row of tiles.
int64_t hopper_sums_bytes(const DeviceWeight& weight, int64_t rows_max,
                          const DeviceLimits& limits) {
  if (limits.capability != 90) return 0;
  const int64_t rows = std::min<int64_t>(rows_max, kHopperTileRows);
  const HopperPlan plan = plan_hopper({.rows = rows, .out_columns = weight.rows, .k = weight.cols},
                                      limits.multiprocessors);
  if (plan.splits == 1) return 0;
  return plan.splits * rows * weight.rows * int64_t{sizeof(float)};
}

// wgmma where the device has it.
void launch_many(const MatmulArgs& args, void* sums, cudaStream_t stream) {
  if (args.limits.capability != 90 || !matmul_hopper_takes(args)) return matmul_many(args, stream);
  const HopperPlan plan = plan_hopper(
      {.rows = args.x.rows, .out_columns = args.out.cols, .k = args.x.cols, .gated = args.gated},
      args.limits.multiprocessors);
  matmul_hopper(args, plan, static_cast<float*>(sums), stream);
}

}  // namespace

int64_t operand_bytes(const DeviceWeight& weight, int64_t rows) {
  return round_up(rows * weight.stride * bytes_of(type_of(weight.format)), 256);
}

View as_operand(View x, const DeviceWeight& weight, void* memory, cudaStream_t stream) {
  if (fits(x, weight)) return x;
  const Rows rows{x.data, x.type, x.rows, x.cols, x.live_rows};
  x.data = memory;
  x.type = type_of(weight.format);
  x.cols = weight.stride;
  launch(operand_kernel, dim3(unsigned(rows.rows)), dim3(kThreads), 0, stream, x.data, x.type,
         x.cols, rows);
  return x;
}

int64_t matmul_workspace_bytes(const DeviceWeight& weight, int64_t rows_max,
                               const DeviceLimits& limits, bool deterministic) {
  if (weight.format == WeightFormat::quantised) {
    return kCounterBytes + quantised_workspace_bytes(weight, rows_max, limits, deterministic);
  }
  const int64_t operands = kCounterBytes + operand_bytes(weight, rows_max);
  if (weight.format == WeightFormat::f32) return operands;
  return operands + std::max(few_sums_bytes(weight, rows_max, limits, deterministic),
                             hopper_sums_bytes(weight, rows_max, limits));
}

void matmul(const MatmulArgs& args, void* workspace, bool deterministic, cudaStream_t stream) {
  const DeviceWeight& weight = *args.weight;
  assert(args.x.cols == weight.cols && (!args.gated || weight.rows % 2 == 0));
  if (args.x.rows == 0) return;
  if (weight.format == WeightFormat::quantised) {
    return matmul_quantised(args, static_cast<std::byte*>(workspace) + kCounterBytes, deterministic,
                            stream);
  }
  MatmulArgs call = args;
  auto* operands = static_cast<std::byte*>(workspace) + kCounterBytes;
  call.x = as_operand(args.x, weight, operands, stream);
  const MatmulPlan plan = plan_matmul({.rows = args.x.rows,
                                       .n = weight.rows,
                                       .k = weight.cols,
                                       .format = weight.format,
                                       .gated = args.gated,
                                       .deterministic = deterministic},
                                      args.limits);
  switch (plan.kernel) {
    case MatmulKernel::f32:
      return matmul_f32(call, stream);
    case MatmulKernel::stream:
      return matmul_stream(call, plan, stream);
    case MatmulKernel::few:
      return matmul_few(call, plan, workspace, operands + operand_bytes(weight, args.x.rows),
                        stream);
    case MatmulKernel::many:
      return launch_many(call, operands + operand_bytes(weight, args.x.rows), stream);
  }
  assert(false);
}

}  // namespace chorus::kernels::cuda
