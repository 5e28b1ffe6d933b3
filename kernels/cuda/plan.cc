#include "kernels/cuda/plan.h"

#include <algorithm>

#include "kernels/rounding.h"

namespace chorus::kernels::cuda {
namespace {

constexpr int64_t kGroupStepsMin = 16;  // steps of 32 in a group: below, splitting costs more

// Blocks of kTileWeightRows that cover the weight; gated ones take half gate, half up rows.
int64_t tiles_of(const MatmulShape& shape) {
  return shape.gated ? ceil_div(shape.n / 2, kTileWeightRows / 2)
                     : ceil_div(shape.n, kTileWeightRows);
}

}  // namespace

int64_t shared_bytes_max(int capability) {
  return capability == 80 || capability == 87   ? 164 << 10
         : capability >= 90 && capability < 120 ? 228 << 10
                                                : 100 << 10;
}

// As many groups as give each multiprocessor about one tile of weights, from the weight's shape
// alone: a row's sum must not depend on how many rows there are.
SumOrder sum_order(const MatmulShape& shape, const DeviceLimits& limits) {
  const int64_t steps = ceil_div(shape.k, 32);
  const int64_t wanted = limits.multiprocessors / std::max<int64_t>(tiles_of(shape), 1);
  const int64_t groups =
      std::clamp<int64_t>(std::min(wanted, steps / kGroupStepsMin), 1, kGroupsMax);
  return {.groups = static_cast<int>(groups),
          .slice_steps = static_cast<int>(ceil_div(steps, groups * kSlices))};
}

MatmulPlan plan_matmul(const MatmulShape& shape, const DeviceLimits& limits) {
  if (shape.format == WeightFormat::f32) return {.kernel = MatmulKernel::f32};
  const int64_t few_max = limits.capability == 90 ? kFewRowsMaxHopper : kFewRowsMax;
  if (shape.rows > few_max && !shape.deterministic) return {.kernel = MatmulKernel::many};
  MatmulPlan plan{.kernel = MatmulKernel::stream, .order = sum_order(shape, limits)};
  if (shape.rows <= kStreamRowsMax) return plan;
  plan.kernel = MatmulKernel::few;
  while (plan.token_tiles * 8 < std::min<int64_t>(shape.rows, kFewRowsMax)) plan.token_tiles *= 2;
  plan.blocks_rows = tiles_of(shape);
  return plan;
}

}  // namespace chorus::kernels::cuda
