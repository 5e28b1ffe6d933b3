// Products of 9 to 64 rows: decode of several sequences. (Fewer rows are matmul_stream.cu's; more
// come here where every row must be summed in one order.) The weights' bytes count most, so they
// stream past L1 into registers, each byte once, by the rule that matmul_stream.cu explains: k is
// permuted within 32 for weights and tokens alike. The order of sums is the same too (SumOrder in
// plan.h), so a row has the same bits in both.
//
// Read from L2 for every 16 weight rows, the tokens' bytes would exceed the weights'. So a block
// has 128 weight rows and, in a cp.async ring, the tokens: 4 warps over the slices of k times 4
// over rows, 32 each; above 32 tokens times 2, 64 rows each, so that shared memory is read half as
// often and its rate (a fifth of it, then) is not the limit. L2 carries the weights and tokens /
// 128 of them again. One block an SM, whose 16 loads of 16 bytes a lane (8 for 17 to 32 tokens) are
// 64 KB in flight, 128 KB up to 16 tokens. Groups of k are blocks of their own; the last of a tile
// to finish adds the groups up, in order. (The first weights are loaded before the wait for the
// tokens; that gains nothing as long as the kernel is not launched early, as matmul_stream is.)
// Bound: the weights' bytes; near 64 tokens mma.sync is at half its rate, too.
#include <algorithm>
#include <cassert>

#include "kernels/cuda/epilogue.h"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/ptx.h"
#include "kernels/rounding.h"

namespace chorus::kernels::cuda {
namespace {

struct Product {
  const uint4* weight = nullptr;  // granules of 8 elements
  int64_t weight_stride = 0;      // granules from one row to the next
  const uint4* x = nullptr;
  int granules = 0;  // in a row of x
  SumOrder order = {};
  int first_token = 0;           // of this launch
  float* partial = nullptr;      // [tile][token block][group][token][weight row], where groups > 1
  uint32_t* counters = nullptr;  // [tile][token block], zero before and after
  Epilogue epilogue = {};
};

__device__ inline int first_granule(const Product& p, int slice) {
  return slice * p.order.slice_steps * 4;
}
__device__ inline int end_granule(const Product& p, int slice) {
  return min(first_granule(p, slice + 1), p.granules);
}

// The tokens of half a step of 32, in the permuted order of this file.
__device__ inline ptx::Fragment2 tokens_of(const uint4& x, int half) {
  return half == 0 ? ptx::Fragment2{{x.x, x.y}} : ptx::Fragment2{{x.z, x.w}};
}

// Weights of `depth` steps of 32, of `row_tiles` x 16 rows: a window that moves along a slice.
// Past the slice's end nothing is loaded: old weights meet tokens that are zero there.
template <int depth, int row_tiles, bool gated, bool arranged>
struct Window {
  const uint4* first;  // this lane's granule of row g, at the window's first step
  int64_t next_eight;  // granules to row g + 8
  int64_t to_up;       // gated, where the second half of the tiles is up rows
  int granules;        // from the window's first step to the slice's end
  int columns;         // from row g to the last
  uint4 held[depth][row_tiles * 2];

  // At the first of `row_tiles` x 16 rows for `column` of the output, at `slice`.
  __device__ void begin(const Product& p, int column, int slice) {
    const int at = first_granule(p, slice) + threadIdx.x % 4;
    column += threadIdx.x % 32 / 4;
    first = p.weight + column * p.weight_stride + at;
    next_eight = 8 * p.weight_stride;
    to_up = p.epilogue.columns * p.weight_stride;
    granules = end_granule(p, slice) - at;
    columns = int(p.epilogue.columns) - column;
#pragma unroll
    for (int slot = 0; slot < depth; ++slot) {
#pragma unroll
      for (int i = 0; i < row_tiles * 2; ++i) held[slot][i] = {0, 0, 0, 0};
      load(slot, 0);
    }
  }
  // `slot` is filled with the step that is its own after `turns` more advances.
  __device__ void load(int slot, int turns) {
    const int granule = (turns * depth + slot) * 4;
#pragma unroll
    for (int i = 0; i < row_tiles * 2; ++i) {
      const int up = gated ? i / row_tiles : 0, column = (gated ? i % row_tiles : i) * 8;
      ptx::load_streaming_16_if(held[slot][i],
                                first + column / 8 * next_eight + up * to_up + granule,
                                granule < granules && column < columns);
    }
  }
  __device__ void advance() {
    first += depth * 4;
    granules -= depth * 4;
  }
  // The 16 bytes of rows g and g + 8 are the operands of two mma. Where these serve many tokens,
  // they are put in order once, in the registers in which they came; else a copy for each mma is
  // cheaper than the registers.
  __device__ void arrange(int slot) {
#pragma unroll
    for (int r = 0; arranged && r < row_tiles; ++r) {
      const uint4 upper = held[slot][r * 2], lower = held[slot][r * 2 + 1];
      held[slot][r * 2] = {upper.x, lower.x, upper.y, lower.y};
      held[slot][r * 2 + 1] = {upper.z, lower.z, upper.w, lower.w};
    }
  }
  // Of half a step, in the permuted order of this file.
  __device__ ptx::Fragment4 operand(int slot, int row_tile, int half) const {
    const uint4 &upper = held[slot][row_tile * 2], &lower = held[slot][row_tile * 2 + 1];
    if constexpr (arranged) {
      const uint4& v = half == 0 ? upper : lower;
      return {{v.x, v.y, v.z, v.w}};
    }
    return half == 0 ? ptx::Fragment4{{upper.x, lower.x, upper.y, lower.y}}
                     : ptx::Fragment4{{upper.z, lower.z, upper.w, lower.w}};
  }
};

// The steps of k that a stage of the ring holds are also the window's: one turn of both.
template <int tiles>
struct TilesShape {
  static constexpr int kTokens = tiles * 8;
  static constexpr int kDepth = tiles == 2 ? 4 : 2;
  static constexpr int kStages = tiles == 8 ? 3 : 4;
  static constexpr int kTilesAdded = tiles == 8 ? 4 : tiles;  // whose slices are added at a time
  static constexpr int kRowTiles = tiles == 8 ? 4 : 2;        // of a warp, 16 weight rows each
  static constexpr int kRowWarps = kTileWeightRows / (16 * kRowTiles);
  static constexpr int kThreads = kRowWarps * kSlices * 32;
};

template <int tiles>
struct TilesShared {
  using Shape = TilesShape<tiles>;
  struct Stage {
    uint4 x[kSlices][Shape::kDepth][Shape::kTokens][4];  // a warp reads 512 bytes in a row
  };
  union {
    Stage stages[Shape::kStages];
    float sums[kSlices][Shape::kTilesAdded * 8][kTileWeightRows + 4];
  };
  bool last;
};

// Column of a block's tile -> row of its 128 sums: a warp's are gate rows, then their up rows.
template <bool gated, int row_tiles>
__device__ inline int sum_row(int column) {
  constexpr int kWarpColumns = row_tiles * 8;
  return gated ? column / kWarpColumns * kWarpColumns + column : column;
}

template <typename T, int tiles, bool gated>
__global__ void __launch_bounds__(TilesShape<tiles>::kThreads, 1) tiles_kernel(const Product p) {
  using Shape = TilesShape<tiles>;
  constexpr int kDepth = Shape::kDepth, kStages = Shape::kStages, kTokens = Shape::kTokens;
  constexpr int kTilesAdded = Shape::kTilesAdded, kRowTiles = Shape::kRowTiles;
  constexpr int kRowWarps = Shape::kRowWarps, kThreads = Shape::kThreads;
  constexpr int kWarpColumns = kRowTiles * (gated ? 8 : 16);
  constexpr int kColumns = gated ? kTileWeightRows / 2 : kTileWeightRows;
  auto& shared = shared_memory<TilesShared<tiles>>();
  const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  const int row_warp = warp % kRowWarps, slice = warp / kRowWarps;  // slice within the group
  const int group = blockIdx.z;
  const int first_column = int(blockIdx.y) * kColumns;

  Window<kDepth, kRowTiles, gated, (tiles > 4)> window;
  window.begin(p, first_column + row_warp * kWarpColumns, group * kSlices + slice);

  ptx::wait_for_predecessor();
  const int first_token = p.first_token + int(blockIdx.x) * kTokens;
  const int tokens = min(int(live_rows(p.epilogue)) - first_token, kTokens);
  if (tokens <= 0) return;

  // A thread fills the same places of a stage in every turn.
  constexpr int kSliceGranules = kTokens * kDepth * 4;
  const int copy_granule = threadIdx.x % (4 * kDepth);  // from the stage's first
  const int copy_token = threadIdx.x % kSliceGranules / (4 * kDepth);
  const unsigned turns = (p.order.slice_steps + kDepth - 1) / kDepth;
  auto load_stage = [&](unsigned turn) {
    auto& stage = shared.stages[turn % kStages];
    if (turn < turns) {
#pragma unroll
      for (int i = 0; i < kSlices * kSliceGranules; i += kThreads) {
        const int of = i / kSliceGranules + threadIdx.x % kThreads / kSliceGranules;
        const int token = i % kSliceGranules / (4 * kDepth) + copy_token;
        const int k =
            first_granule(p, group * kSlices + of) + int(turn) * kDepth * 4 + copy_granule;
        const bool inside = token < tokens && k < end_granule(p, group * kSlices + of);
        ptx::copy_async_16(&stage.x[of][copy_granule / 4][token][copy_granule % 4],
                           inside ? p.x + int64_t{first_token + token} * p.granules + k : p.x,
                           inside ? 16 : 0);
      }
    }
    ptx::commit_copies();  // also when empty, so that groups count turns
  };

  float sums[kRowTiles][tiles][4] = {};
  for (unsigned turn = 0; turn < kStages - 1; ++turn) load_stage(turn);
#pragma unroll 1
  for (unsigned turn = 0; turn < turns; ++turn) {
    ptx::wait_copies<kStages - 2>();
    __syncthreads();  // this turn's tokens are here for all; all are done with the turn before
    load_stage(turn + kStages - 1);
    const auto& stage = shared.stages[turn % kStages];
#pragma unroll
    for (int slot = 0; slot < kDepth; ++slot) {
      window.arrange(slot);
#pragma unroll
      for (int tile = 0; tile < tiles; ++tile) {
        if (tile > 0 && tile * 8 >= tokens) break;
        const uint4 token = stage.x[slice][slot][tile * 8 + g][t];
#pragma unroll
        for (int half = 0; half < 2; ++half) {
#pragma unroll
          for (int r = 0; r < kRowTiles; ++r) {
            ptx::mma_m16n8k16<T>(sums[r][tile], window.operand(slot, r, half),
                                 tokens_of(token, half));
          }
        }
      }
      window.load(slot, 1);
    }
    window.advance();
  }
  ptx::wait_copies<0>();
  ptx::let_successor_start();  // not before: its blocks would gather on the SMs that have none

  const int groups = p.order.groups;
  const int64_t tile_idx = int64_t{blockIdx.y} * gridDim.x + blockIdx.x;
  float* partial = p.partial + tile_idx * groups * kTokens * kTileWeightRows;
  auto store_column = [&](int token, int column, auto&& total) {
    if (first_column + column >= p.epilogue.columns) return;
    const int row = sum_row<gated, kRowTiles>(column);
    store(p.epilogue, first_token + token, first_column + column, total(token, row),
          gated ? total(token, row + kRowTiles * 8) : 0.0f);
  };
#pragma unroll
  for (int first_tile = 0; first_tile < tiles; first_tile += kTilesAdded) {
    __syncthreads();  // the memory of the ring, or of the tiles before, is free
#pragma unroll
    for (int i = 0; i < kRowTiles * kTilesAdded * 4; ++i) {
      const int r = i / (kTilesAdded * 4), tile = i / 4 % kTilesAdded, e = i % 4;
      shared.sums[slice][tile * 8 + t * 2 + e % 2][row_warp * kRowTiles * 16 + r * 16 + g +
                                                   e / 2 * 8] = sums[r][first_tile + tile][e];
    }
    __syncthreads();
    auto group_sum = [&](int token, int row) {
      float sum = shared.sums[0][token - first_tile * 8][row];
      for (int s = 1; s < kSlices; ++s) sum += shared.sums[s][token - first_tile * 8][row];
      return sum;
    };
    const int end = min(tokens, (first_tile + kTilesAdded) * 8);
    if (groups > 1) {
      float* mine = partial + group * kTokens * kTileWeightRows;
      for (int i = first_tile * 8 * kTileWeightRows + threadIdx.x; i < end * kTileWeightRows;
           i += kThreads) {
        __stcg(mine + i, group_sum(i / kTileWeightRows, i % kTileWeightRows));
      }
    } else {
      for (int i = first_tile * 8 * kColumns + threadIdx.x; i < end * kColumns; i += kThreads) {
        store_column(i / kColumns, i % kColumns, group_sum);
      }
    }
  }
  if (groups == 1) return;

  __syncthreads();  // before thread 0 tells the other blocks that all of this is written
  if (threadIdx.x == 0) {
    shared.last = ptx::fetch_add(p.counters + tile_idx, 1) == uint32_t(groups - 1);
    if (shared.last) p.counters[tile_idx] = 0;
  }
  __syncthreads();
  if (!shared.last) return;
  auto total = [&](int token, int row) {
    const float* at = partial + token * kTileWeightRows + row;
    float sum = __ldcg(at);
    for (int i = 1; i < groups; ++i) sum += __ldcg(at + i * kTokens * kTileWeightRows);
    return sum;
  };
  for (int i = threadIdx.x; i < tokens * kColumns; i += kThreads) {
    store_column(i / kColumns, i % kColumns, total);
  }
}

template <typename T, int tiles, bool gated>
void launch_tiles(Product product, const MatmulPlan& plan, cudaStream_t stream) {
  constexpr int kTokens = TilesShape<tiles>::kTokens;
  static_assert(sizeof(TilesShared<tiles>) <= 99 * 1024);  // what sm_86 and sm_89 have
  const int64_t rows = product.epilogue.rows;
  const int64_t at_once = plan.order.groups > 1 ? kTokensAtOnce : rows;
  for (int64_t first = 0; first < rows; first += at_once) {
    const int64_t blocks = ceil_div(std::min(at_once, rows - first), kTokens);
    assert(plan.order.groups == 1 || plan.blocks_rows * blocks <= kTileCountersMax);
    product.first_token = int(first);
    launch(tiles_kernel<T, tiles, gated>,
           dim3(unsigned(blocks), unsigned(plan.blocks_rows), unsigned(plan.order.groups)),
           dim3(TilesShape<tiles>::kThreads), sizeof(TilesShared<tiles>), stream, product);
  }
}

template <typename T, bool gated>
void launch_few(const Product& product, const MatmulPlan& plan, cudaStream_t stream) {
  switch (plan.token_tiles) {
    case 2:
      return launch_tiles<T, 2, gated>(product, plan, stream);
    case 4:
      return launch_tiles<T, 4, gated>(product, plan, stream);
    case 8:
      return launch_tiles<T, 8, gated>(product, plan, stream);
  }
  assert(false);
}

}  // namespace

void matmul_few(const MatmulArgs& args, const MatmulPlan& plan, void* counters, void* sums,
                cudaStream_t stream) {
  const DeviceWeight& weight = *args.weight;
  assert(args.x.cols % 8 == 0 && args.x.cols <= weight.stride);
  Product product{.weight = static_cast<const uint4*>(weight.data),
                  .weight_stride = weight.stride / 8,
                  .x = static_cast<const uint4*>(args.x.data),
                  .granules = static_cast<int>(args.x.cols / 8),
                  .order = plan.order,
                  .partial = static_cast<float*>(sums),
                  .counters = static_cast<uint32_t*>(counters),
                  .epilogue = epilogue_of(args)};
  const auto with_gate = [&](auto type) {
    using T = decltype(type);
    if (args.gated) {
      launch_few<T, true>(product, plan, stream);
    } else {
      launch_few<T, false>(product, plan, stream);
    }
  };
  if (weight.format == WeightFormat::bf16) {
    with_gate(__nv_bfloat16{});
  } else {
    with_gate(__half{});
  }
}

}  // namespace chorus::kernels::cuda
