// Products of many rows by mma.sync, for any GPU from sm_80 (on sm_90 wgmma does twice as much, see
// matmul_hopper.cu): tiles of 128 tokens x 128 weight rows x 32 of k, 8 warps of 64 x 32, a ring of
// four stages filled by cp.async and read by ldmatrix. Rows of a tile are 64 bytes in shared
// memory; their four 16-byte granules are permuted by the row, so that the eight rows that a phase
// of ldmatrix reads lie in different banks. Gated, a warp's 32 weight rows are 16 gate rows and the
// 16 up rows that belong to them, so one thread holds both.
//
// Blocks are numbered so that those running at one time form a rectangle of kRasterRows tiles of
// tokens by many of weights: both stay in L2. Bound: flops.
#include <cassert>

#include "kernels/cuda/epilogue.h"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/ptx.h"
#include "kernels/rounding.h"

namespace chorus::kernels::cuda {
namespace {

constexpr int kTile = 128, kTileK = 32, kStages = 4, kThreads = 256;
constexpr int kWarpTokens = 64, kWarpColumns = 32;
constexpr int kRasterRows = 8;

struct Tile {  // 128 rows of kTileK
  uint4 granules[kTile][4];
  __device__ uint4* at(int row, int granule) { return &granules[row][granule ^ (row / 2 % 4)]; }
};
struct Shared {
  Tile tokens[kStages], weights[kStages];
};

struct Product {
  const uint4* x = nullptr;  // granules of 8 elements
  const uint4* weight = nullptr;
  int64_t weight_stride = 0;  // granules from one row to the next
  int granules = 0;           // in a row of x
  int token_blocks = 0, column_blocks = 0;
  Epilogue epilogue = {};
};

// The weight row that stands in `row` of a block's tile.
template <bool gated>
__device__ inline int64_t weight_row(int64_t first_column, int row, int64_t columns) {
  if (!gated) return first_column + row;
  return first_column + row / 32 * 16 + row % 16 + row / 16 % 2 * columns;
}

template <typename T, bool gated>
__global__ void __launch_bounds__(kThreads, 2) many_kernel(const Product p) {
  constexpr int kColumns = gated ? kTile / 2 : kTile;  // of the output, in a block
  Shared& shared = shared_memory<Shared>();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int warp_token = warp / 4 * kWarpTokens, warp_column = warp % 4 * kWarpColumns;
  ptx::let_successor_start();

  const int rectangle = blockIdx.x / (kRasterRows * p.column_blocks);
  const int within = blockIdx.x % (kRasterRows * p.column_blocks);
  const int height = min(kRasterRows, p.token_blocks - rectangle * kRasterRows);
  const int64_t first_token = int64_t{rectangle * kRasterRows + within % height} * kTile;
  const int64_t first_column = int64_t{within / height} * kColumns;
  const int64_t columns = p.epilogue.columns;

  ptx::wait_for_predecessor();
  const int64_t live = live_rows(p.epilogue);
  if (first_token >= live) return;

  // Tokens, rows and granules beyond the last are zeros.
  auto load_tiles = [&](int step) {
    Tile &tokens = shared.tokens[step % kStages], &weights = shared.weights[step % kStages];
    for (int i = threadIdx.x; step * 4 < p.granules && i < kTile * 4; i += kThreads) {
      const int row = i / 4, granule = i % 4, k = step * 4 + granule;
      const int64_t token = first_token + row;
      const bool token_inside = token < live && k < p.granules;
      ptx::copy_async_16(tokens.at(row, granule), token_inside ? p.x + token * p.granules + k : p.x,
                         token_inside ? 16 : 0);
      const int64_t column = first_column + (gated ? row / 32 * 16 + row % 16 : row);
      const bool inside = column < columns && k < p.granules;
      const int64_t of = weight_row<gated>(first_column, row, columns);
      ptx::copy_async_16(weights.at(row, granule),
                         inside ? p.weight + of * p.weight_stride + k : p.weight, inside ? 16 : 0);
    }
    ptx::commit_copies();  // also when empty, so that groups count steps
  };

  float sums[kWarpTokens / 16][kWarpColumns / 8][4] = {};
  const int steps = (p.granules + 3) / 4;
  for (int step = 0; step < kStages - 1; ++step) load_tiles(step);
  for (int step = 0; step < steps; ++step) {
    ptx::wait_copies<kStages - 2>();
    __syncthreads();  // this step's tiles are here for all, and all are done with the one before
    load_tiles(step + kStages - 1);
    Tile &tokens = shared.tokens[step % kStages], &weights = shared.weights[step % kStages];
#pragma unroll
    for (int half = 0; half < kTileK / 16; ++half) {
      ptx::Fragment4 a[kWarpTokens / 16], b[kWarpColumns / 16];
#pragma unroll
      for (int i = 0; i < kWarpTokens / 16; ++i) {
        a[i] = ptx::ldmatrix_x4(tokens.at(warp_token + i * 16 + lane % 16, half * 2 + lane / 16));
      }
#pragma unroll
      for (int j = 0; j < kWarpColumns / 16; ++j) {
        b[j] = ptx::ldmatrix_x4(
            weights.at(warp_column + j * 16 + lane % 8 + lane / 16 * 8, half * 2 + lane / 8 % 2));
      }
#pragma unroll
      for (int i = 0; i < kWarpTokens / 16; ++i) {
#pragma unroll
        for (int j = 0; j < kWarpColumns / 8; ++j) {
          const ptx::Fragment2 pair{{b[j / 2].x[j % 2 * 2], b[j / 2].x[j % 2 * 2 + 1]}};
          ptx::mma_m16n8k16<T>(sums[i][j], a[i], pair);
        }
      }
    }
  }

  constexpr int kColumnTiles = gated ? kWarpColumns / 16 : kWarpColumns / 8;
#pragma unroll
  for (int i = 0; i < kWarpTokens / 16; ++i) {
#pragma unroll
    for (int j = 0; j < kColumnTiles; ++j) {
#pragma unroll
      for (int e = 0; e < 4; e += 2) {
        const int64_t token = first_token + warp_token + i * 16 + lane / 4 + e / 2 * 8;
        const int64_t column =
            first_column + (gated ? warp_column / 2 : warp_column) + j * 8 + lane % 4 * 2;
        if (token >= live) continue;
        store_pair(p.epilogue, token, column, &sums[i][j][e],
                   gated ? &sums[i][j + kColumnTiles][e] : nullptr);
      }
    }
  }
}

}  // namespace

void matmul_many(const MatmulArgs& args, cudaStream_t stream) {
  const DeviceWeight& weight = *args.weight;
  assert(args.x.cols % 8 == 0 && args.x.cols <= weight.stride);
  Product product{.x = static_cast<const uint4*>(args.x.data),
                  .weight = static_cast<const uint4*>(weight.data),
                  .weight_stride = weight.stride / 8,
                  .granules = static_cast<int>(args.x.cols / 8),
                  .epilogue = epilogue_of(args)};
  const int64_t columns = args.gated ? kTile / 2 : kTile;
  product.token_blocks = static_cast<int>(ceil_div(args.x.rows, kTile));
  product.column_blocks = static_cast<int>(ceil_div(product.epilogue.columns, columns));
  const auto blocks = static_cast<unsigned>(product.token_blocks * product.column_blocks);
  const auto with = [&](auto kernel) {
    launch(kernel, dim3(blocks), dim3(kThreads), sizeof(Shared), stream, product);
  };
  if (weight.format == WeightFormat::bf16) {
    args.gated ? with(many_kernel<__nv_bfloat16, true>) : with(many_kernel<__nv_bfloat16, false>);
  } else {
    args.gated ? with(many_kernel<__half, true>) : with(many_kernel<__half, false>);
  }
}

}  // namespace chorus::kernels::cuda
