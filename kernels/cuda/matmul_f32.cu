// Products in f32 on the CUDA cores, for the exact mode: weights, inputs and sums are f32. A block
// has 64 weight rows (gated: 64 gate and 64 up rows) and a tile of tokens; stages of 32 of k go
// through shared memory. A stage is summed by itself and then added to the sum, which halves the
// digits that a plain sum loses, and in one order for every number of rows. Bound: shared memory;
// nobody waits for this mode.
#include <cassert>

#include "kernels/cuda/epilogue.h"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/ptx.h"
#include "kernels/rounding.h"

namespace chorus::kernels::cuda {
namespace {

constexpr int kColumns = 64, kStageK = 32, kThreads = 128;
constexpr int kColumnLanes = 16;                       // threads over columns
constexpr int kTokenLanes = kThreads / kColumnLanes;   // threads over tokens
constexpr int kColumnsEach = kColumns / kColumnLanes;  // columns of a thread

template <int tokens, bool gated>
struct Shared {
  float x[tokens][kStageK + 1];  // the 1: threads of a warp read different banks
  float weights[gated ? 2 : 1][kColumns][kStageK + 1];
};

struct Product {
  const float* x = nullptr;
  const float* weight = nullptr;
  int64_t weight_stride = 0;
  int k = 0;
  Epilogue epilogue = {};
};

template <int tokens, bool gated>
__global__ void __launch_bounds__(kThreads, 4) f32_kernel(const Product p) {
  constexpr int kHalves = gated ? 2 : 1, kTokensEach = tokens / kTokenLanes;
  auto& shared = shared_memory<Shared<tokens, gated>>();
  const int column_lane = threadIdx.x % kColumnLanes, token_lane = threadIdx.x / kColumnLanes;
  const int64_t first_column = int64_t{blockIdx.y} * kColumns;
  const int64_t first_token = int64_t{blockIdx.x} * tokens;
  const int64_t columns = p.epilogue.columns;
  ptx::let_successor_start();
  ptx::wait_for_predecessor();
  const int64_t live = live_rows(p.epilogue);
  if (first_token >= live) return;

  float sums[kHalves][kTokensEach][kColumnsEach] = {};
  for (int first_k = 0; first_k < p.k; first_k += kStageK) {
    __syncthreads();  // all are done with the stage before
    for (int i = threadIdx.x; i < tokens * kStageK; i += kThreads) {
      const int64_t token = first_token + i / kStageK;
      const int k = first_k + i % kStageK;
      shared.x[i / kStageK][i % kStageK] = token < live && k < p.k ? p.x[token * p.k + k] : 0.0f;
    }
    for (int i = threadIdx.x; i < kHalves * kColumns * kStageK; i += kThreads) {
      const int half = i / (kColumns * kStageK), row = i / kStageK % kColumns;
      const int64_t column = first_column + row;
      const int k = first_k + i % kStageK;
      shared.weights[half][row][i % kStageK] =
          column < columns && k < p.k ? p.weight[(half * columns + column) * p.weight_stride + k]
                                      : 0.0f;
    }
    __syncthreads();

    float stage[kHalves][kTokensEach][kColumnsEach] = {};
    for (int k = 0; k < kStageK; ++k) {
      float x[kTokensEach];
#pragma unroll
      for (int i = 0; i < kTokensEach; ++i) x[i] = shared.x[token_lane + i * kTokenLanes][k];
#pragma unroll
      for (int half = 0; half < kHalves; ++half) {
#pragma unroll
        for (int j = 0; j < kColumnsEach; ++j) {
          const float weight = shared.weights[half][column_lane + j * kColumnLanes][k];
#pragma unroll
          for (int i = 0; i < kTokensEach; ++i) stage[half][i][j] += weight * x[i];
        }
      }
    }
#pragma unroll
    for (int half = 0; half < kHalves; ++half) {
#pragma unroll
      for (int i = 0; i < kTokensEach; ++i) {
#pragma unroll
        for (int j = 0; j < kColumnsEach; ++j) sums[half][i][j] += stage[half][i][j];
      }
    }
  }

#pragma unroll
  for (int i = 0; i < kTokensEach; ++i) {
#pragma unroll
    for (int j = 0; j < kColumnsEach; ++j) {
      const int64_t token = first_token + token_lane + i * kTokenLanes;
      const int64_t column = first_column + column_lane + j * kColumnLanes;
      if (token >= live || column >= columns) continue;
      store(p.epilogue, token, column, sums[0][i][j], sums[kHalves - 1][i][j]);
    }
  }
}

template <int tokens>
void launch_f32(const Product& product, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(ceil_div(product.epilogue.rows, tokens)),
                  static_cast<unsigned>(ceil_div(product.epilogue.columns, kColumns)));
  if (product.epilogue.gated) {
    launch(f32_kernel<tokens, true>, grid, dim3(kThreads), sizeof(Shared<tokens, true>), stream,
           product);
  } else {
    launch(f32_kernel<tokens, false>, grid, dim3(kThreads), sizeof(Shared<tokens, false>), stream,
           product);
  }
}

}  // namespace

void matmul_f32(const MatmulArgs& args, cudaStream_t stream) {
  const Product product{.x = static_cast<const float*>(args.x.data),
                        .weight = static_cast<const float*>(args.weight->data),
                        .weight_stride = args.weight->stride,
                        .k = static_cast<int>(args.x.cols),
                        .epilogue = epilogue_of(args)};
  if (args.x.rows <= kTokenLanes) {
    launch_f32<kTokenLanes>(product, stream);
  } else {
    launch_f32<4 * kTokenLanes>(product, stream);
  }
}

}  // namespace chorus::kernels::cuda
