// What happens to a matmul's sums on their way out: bias, gate, the output's type. One for stream,
// few, many, f32 and quantised products, so that they round alike; matmul_hopper has its own.
#pragma once

#include "kernels/cuda/device.h"
#include "kernels/cuda/elements.h"
#include "kernels/cuda/gate.h"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/ptx.h"

namespace chorus::kernels::cuda {

struct Epilogue {
  void* out = nullptr;  // [rows, columns] of `type`
  DType type = DType::f32;
  int64_t rows = 0;     // as launched
  int64_t columns = 0;  // with `gated`, half the weight's rows
  const int32_t* live_rows = nullptr;
  const float* bias = nullptr;  // [weight rows] or null
  bool gated = false;
  Gate gate = Gate::silu;
};

inline Epilogue epilogue_of(const MatmulArgs& args) {
  return {.out = args.out.data,
          .type = args.out.type,
          .rows = args.x.rows,
          .columns = args.gated ? args.weight->rows / 2 : args.weight->rows,
          .live_rows = args.x.live_rows,
          .bias = args.bias,
          .gated = args.gated,
          .gate = args.gate};
}

// Rows that hold something; to be read after wait_for_predecessor().
__device__ inline int64_t live_rows(const Epilogue& epilogue) {
  if (epilogue.live_rows == nullptr) return epilogue.rows;
  const int64_t live = *epilogue.live_rows;
  return live < epilogue.rows ? live : epilogue.rows;
}

// The sum of weight row `column`, or of gate row `column` and up row columns + `column`.
__device__ inline float finish(const Epilogue& epilogue, int64_t column, float sum, float up_sum) {
  if (epilogue.bias != nullptr) sum += epilogue.bias[column];
  if (!epilogue.gated) return sum;
  if (epilogue.bias != nullptr) up_sum += epilogue.bias[epilogue.columns + column];
  return activate(epilogue.gate, sum) * up_sum;
}

__device__ inline void store(const Epilogue& epilogue, int64_t row, int64_t column, float sum,
                             float up_sum) {
  store_as(epilogue.out, epilogue.type, row * epilogue.columns + column,
           finish(epilogue, column, sum, up_sum));
}

// The same for `column` (even) and the one after it, in one piece where the row allows it.
__device__ inline void store_pair(const Epilogue& epilogue, int64_t row, int64_t column,
                                  const float* sums, const float* up_sums) {
  if (column >= epilogue.columns) return;
  const float first = finish(epilogue, column, sums[0], up_sums != nullptr ? up_sums[0] : 0.0f);
  const int64_t index = row * epilogue.columns + column;
  if (column + 1 >= epilogue.columns) return store_as(epilogue.out, epilogue.type, index, first);
  const float second =
      finish(epilogue, column + 1, sums[1], up_sums != nullptr ? up_sums[1] : 0.0f);
  if (epilogue.columns % 2 != 0) {
    store_as(epilogue.out, epilogue.type, index, first);
    store_as(epilogue.out, epilogue.type, index + 1, second);
  } else if (epilogue.type == DType::f32) {
    *reinterpret_cast<float2*>(static_cast<float*>(epilogue.out) + index) = {first, second};
  } else {
    *reinterpret_cast<uint32_t*>(static_cast<uint16_t*>(epilogue.out) + index) =
        epilogue.type == DType::bf16 ? ptx::pack<__nv_bfloat16>(first, second)
                                     : ptx::pack<__half>(first, second);
  }
}

}  // namespace chorus::kernels::cuda
