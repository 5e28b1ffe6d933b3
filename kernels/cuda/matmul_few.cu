// Products of few rows: decode. Nothing but the weights' bytes counts, so they stream past L1 into
// registers, each byte once, and are never staged.
//
// The weight's rows are the 16-row operand of mma.m16n8k16, the tokens its 8 columns. Where the
// instruction wants pairs of k from two halves of 16, a lane (g = lane / 4, t = lane % 4) instead
// takes 16 contiguous bytes, 8 elements from 8t of every 32, of rows g and g + 8: elements 0..3 are
// its share of a first mma, 4..7 of a second. The tokens are read by the same rule, so k is
// permuted alike on both sides. A row's 32 elements are 64 contiguous bytes of 4 lanes.
//
// Two kernels, one order of sums (SumOrder in plan.h), so a row has the same bits in both:
//
// - one_tile_kernel, up to 8 tokens. A block has 16 weight rows (gated: 16 gate and 16 up rows) and
//   a warp for each slice of k. A lane keeps 8 loads of 16 bytes on their way; at 64 registers an
//   SM holds 1024 threads: 128 KB in flight, where 4.8 TB/s over 132 SMs at 1 us of latency need
//   36 KB. Tokens come from L1 and L2. Bound: the weights' bytes.
// - tiles_kernel, 9 to 64 tokens. There the tokens' bytes from L2 would exceed the weights', so a
//   block has 128 weight rows: 4 warps over rows (32 each) times 4 over the slices, the tokens in a
//   cp.async ring in shared memory. L2 carries weights + tokens / 128 of them. A lane keeps 8 (16
//   for two tiles) loads on their way, 64 KB a block, one block an SM. Groups of k are blocks of
//   their own; the last of a tile to finish adds the groups up in order. Bound: the weights' bytes,
//   near 64 tokens also shared memory (a third of its rate for tokens) and mma.
//
// Both start the weights' loads before they wait for the kernel that makes the tokens.
#include <algorithm>
#include <cassert>

#include "kernels/cuda/epilogue.h"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/ptx.h"

namespace chorus::kernels::cuda {
namespace {

constexpr int kOneTileThreads = kGroupsMax * kSlices * 32;
constexpr int kRowWarps = 4;  // tiles_kernel: warps over weight rows, 32 rows each
constexpr int kTilesThreads = kRowWarps * kSlices * 32;

struct Product {
  const uint4* weight = nullptr;  // granules of 8 elements
  int64_t weight_stride = 0;      // granules from one row to the next
  const uint4* x = nullptr;
  int granules = 0;  // in a row of x
  SumOrder order = {};
  int64_t first_token = 0;       // of this launch
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

// Rows beyond the last are read as the last, and not stored.
__device__ inline const uint4* weight_row(const Product& p, int64_t column, int half) {
  const int64_t row = min(column, p.epilogue.columns - 1) + half * p.epilogue.columns;
  return p.weight + row * p.weight_stride;
}

// The two halves of 32 elements of k, for the permuted order of this file.
__device__ inline ptx::Fragment4 weights_of(const uint4& upper, const uint4& lower, int half) {
  return half == 0 ? ptx::Fragment4{{upper.x, lower.x, upper.y, lower.y}}
                   : ptx::Fragment4{{upper.z, lower.z, upper.w, lower.w}};
}
__device__ inline ptx::Fragment2 tokens_of(const uint4& x, int half) {
  return half == 0 ? ptx::Fragment2{{x.x, x.y}} : ptx::Fragment2{{x.z, x.w}};
}

// Weights of `depth` steps of 32, of `row_tiles` x 16 rows: a window that moves along a slice.
// Past the slice's end nothing is loaded: old weights meet tokens that are zero there.
template <int depth, int row_tiles>
struct Window {
  const uint4* rows[row_tiles * 2];  // this lane's, at its first granule of the slice
  int granules;                      // from there to the slice's end
  uint4 held[depth][row_tiles * 2];

  __device__ void load(int slot, int step) {
#pragma unroll
    for (int i = 0; i < row_tiles * 2; ++i) {
      ptx::load_streaming_16_if(held[slot][i], rows[i] + step * 4, step * 4 < granules);
    }
  }
  __device__ void begin() {
#pragma unroll
    for (int slot = 0; slot < depth; ++slot) {
      for (int i = 0; i < row_tiles * 2; ++i) held[slot][i] = {0, 0, 0, 0};
      load(slot, slot);
    }
  }
};

// Sums of one slice over a tile of 8 tokens, and how four slices are added.
template <int weight_rows>
struct SliceSums {
  float at[8][weight_rows + 4];  // the 4: lanes of a warp store in different banks
};

template <typename T, bool gated>
__global__ void __launch_bounds__(kOneTileThreads, gated ? 1 : 2) one_tile_kernel(const Product p) {
  constexpr int kRowTiles = gated ? 2 : 1, kDepth = gated ? 2 : 4;
  using Sums = SliceSums<kRowTiles * 16>;
  Sums* shared = &shared_memory<Sums>();  // one for each slice
  const int slice = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  const int64_t first_column = int64_t{blockIdx.x} * 16;
  ptx::let_successor_start();

  const int first = first_granule(p, slice) + t;
  Window<kDepth, kRowTiles> window;
  window.granules = end_granule(p, slice) - first;
#pragma unroll
  for (int i = 0; i < kRowTiles * 2; ++i) {
    window.rows[i] = weight_row(p, first_column + g + i % 2 * 8, i / 2) + first;
  }
  window.begin();

  ptx::wait_for_predecessor();
  const int64_t live = live_rows(p.epilogue);
  const int token_granules = g < live ? window.granules : 0;
  const uint4* token = p.x + int64_t{g} * p.granules + first;

  float sums[kRowTiles][4] = {};
  const int steps = p.order.slice_steps;
#pragma unroll 1
  for (int step = 0; step < steps; step += kDepth) {
#pragma unroll
    for (int pair = 0; pair < kDepth; pair += 2) {
      uint4 x[2];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int at = (step + pair + i) * 4;
        x[i] = at < token_granules ? token[at] : uint4{0, 0, 0, 0};
      }
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const uint4* held = window.held[pair + i];
#pragma unroll
        for (int half = 0; half < 2; ++half) {
#pragma unroll
          for (int r = 0; r < kRowTiles; ++r) {
            ptx::mma_m16n8k16<T>(sums[r], weights_of(held[r * 2], held[r * 2 + 1], half),
                                 tokens_of(x[i], half));
          }
        }
        window.load(pair + i, step + kDepth + pair + i);
      }
    }
  }

#pragma unroll
  for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      shared[slice].at[t * 2 + e % 2][r * 16 + g + e / 2 * 8] = sums[r][e];
    }
  }
  __syncthreads();

  auto total = [&](int token_idx, int row) {
    float sum = 0;
#pragma unroll 1
    for (int group = 0; group < p.order.groups; ++group) {
      const Sums* slices = shared + group * kSlices;
      float group_sum = slices[0].at[token_idx][row];
      for (int s = 1; s < kSlices; ++s) group_sum += slices[s].at[token_idx][row];
      sum = group == 0 ? group_sum : sum + group_sum;
    }
    return sum;
  };
  for (int i = threadIdx.x; i < 8 * 16; i += blockDim.x) {
    const int token_idx = i / 16, row = i % 16;
    if (token_idx >= live || first_column + row >= p.epilogue.columns) continue;
    store(p.epilogue, token_idx, first_column + row, total(token_idx, row),
          gated ? total(token_idx, 16 + row) : 0.0f);
  }
}

// The steps of k that a stage of the ring holds are also the window's: one turn of both.
template <int tiles>
struct TilesShape {
  static constexpr int kTokens = tiles * 8;
  static constexpr int kDepth = tiles == 2 ? 4 : 2;
  static constexpr int kStages = tiles == 8 ? 3 : 4;
};

template <int tiles>
struct TilesShared {
  using Shape = TilesShape<tiles>;
  struct Stage {
    uint4 x[kSlices][Shape::kDepth][Shape::kTokens][4];  // a warp reads 512 bytes in a row
  };
  union {
    Stage stages[Shape::kStages];
    float sums[kSlices][Shape::kTokens][kTileWeightRows + 4];
  };
  bool last;
};

// Column of a block's tile -> row of its 128 sums: a warp's 32 are 16 gate and 16 up rows.
template <bool gated>
__device__ inline int sum_row(int column) {
  return gated ? column / 16 * 32 + column % 16 : column;
}

template <typename T, int tiles, bool gated>
__global__ void __launch_bounds__(kTilesThreads, 1) tiles_kernel(const Product p) {
  using Shape = TilesShape<tiles>;
  constexpr int kDepth = Shape::kDepth, kStages = Shape::kStages, kTokens = Shape::kTokens;
  constexpr int kColumns = gated ? kTileWeightRows / 2 : kTileWeightRows;
  auto& shared = shared_memory<TilesShared<tiles>>();
  const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  const int row_warp = warp % kRowWarps, slice = warp / kRowWarps;  // slice within the group
  const int group = blockIdx.z;
  const int64_t first_column = int64_t{blockIdx.y} * kColumns;
  ptx::let_successor_start();

  const int first = first_granule(p, group * kSlices + slice) + t;
  Window<kDepth, 2> window;
  window.granules = end_granule(p, group * kSlices + slice) - first;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int64_t column = gated ? first_column + row_warp * 16 + g + i % 2 * 8
                                 : first_column + row_warp * 32 + i / 2 * 16 + g + i % 2 * 8;
    window.rows[i] = weight_row(p, column, gated ? i / 2 : 0) + first;
  }
  window.begin();

  ptx::wait_for_predecessor();
  const int64_t first_token = p.first_token + int64_t{blockIdx.x} * kTokens;
  const int64_t live = live_rows(p.epilogue) - first_token;
  if (live <= 0) return;
  const int tokens = live < kTokens ? int(live) : kTokens;
  const uint4* x = p.x + first_token * p.granules;

  const int turns = (p.order.slice_steps + kDepth - 1) / kDepth;
  auto load_stage = [&](int turn) {
    auto& stage = shared.stages[turn % kStages];
    for (int i = threadIdx.x; turn < turns && i < int(sizeof(stage) / 16); i += kTilesThreads) {
      const int granule = i % 4, step = i / 4 % kDepth, token = i / (4 * kDepth) % kTokens;
      const int of = i / (4 * kDepth * kTokens);
      const int k = first_granule(p, group * kSlices + of) + (turn * kDepth + step) * 4 + granule;
      const bool inside = token < tokens && k < end_granule(p, group * kSlices + of);
      ptx::copy_async_16(&stage.x[of][step][token][granule],
                         inside ? x + int64_t{token} * p.granules + k : x, inside ? 16 : 0);
    }
    ptx::commit_copies();  // also when empty, so that groups count turns
  };

  float sums[2][tiles][4] = {};
  for (int turn = 0; turn < kStages - 1; ++turn) load_stage(turn);
  for (int turn = 0; turn < turns; ++turn) {
    ptx::wait_copies<kStages - 2>();
    __syncthreads();  // this turn's tokens are here for all; all are done with the turn before
    load_stage(turn + kStages - 1);
    const auto& stage = shared.stages[turn % kStages];
#pragma unroll
    for (int slot = 0; slot < kDepth; ++slot) {
      constexpr int kTogether = tiles == 4 ? 4 : 2;  // tiles whose tokens are in registers
#pragma unroll
      for (int tile = 0; tile < tiles; tile += kTogether) {
        if (tile * 8 >= tokens) break;
        uint4 token[kTogether];
#pragma unroll
        for (int j = 0; j < kTogether; ++j) token[j] = stage.x[slice][slot][(tile + j) * 8 + g][t];
#pragma unroll
        for (int half = 0; half < 2; ++half) {
#pragma unroll
          for (int r = 0; r < 2; ++r) {
            const auto weights =
                weights_of(window.held[slot][r * 2], window.held[slot][r * 2 + 1], half);
#pragma unroll
            for (int j = 0; j < kTogether; ++j) {
              ptx::mma_m16n8k16<T>(sums[r][tile + j], weights, tokens_of(token[j], half));
            }
          }
        }
      }
      window.load(slot, (turn + 1) * kDepth + slot);
    }
  }
  ptx::wait_copies<0>();
  __syncthreads();  // the ring's memory becomes the sums'

#pragma unroll
  for (int r = 0; r < 2; ++r) {
#pragma unroll
    for (int tile = 0; tile < tiles; ++tile) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        shared.sums[slice][tile * 8 + t * 2 + e % 2][row_warp * 32 + r * 16 + g + e / 2 * 8] =
            sums[r][tile][e];
      }
    }
  }
  __syncthreads();

  auto group_sum = [&](int token, int row) {
    float sum = shared.sums[0][token][row];
    for (int s = 1; s < kSlices; ++s) sum += shared.sums[s][token][row];
    return sum;
  };
  const int groups = p.order.groups;
  const int64_t tile = int64_t{blockIdx.y} * gridDim.x + blockIdx.x;
  float* partial = p.partial + tile * groups * kTokens * kTileWeightRows;
  if (groups > 1) {
    float* mine = partial + group * kTokens * kTileWeightRows;
    for (int i = threadIdx.x; i < tokens * kTileWeightRows; i += kTilesThreads) {
      __stcg(mine + i, group_sum(i / kTileWeightRows, i % kTileWeightRows));
    }
    __syncthreads();  // before thread 0 tells the other blocks that all of this is written
    if (threadIdx.x == 0) {
      shared.last = ptx::fetch_add(p.counters + tile, 1) == uint32_t(groups - 1);
      if (shared.last) p.counters[tile] = 0;
    }
    __syncthreads();
    if (!shared.last) return;
  }
  auto total = [&](int token, int row) {
    if (groups == 1) return group_sum(token, row);
    const float* at = partial + token * kTileWeightRows + row;
    float sum = __ldcg(at);
    for (int i = 1; i < groups; ++i) sum += __ldcg(at + i * kTokens * kTileWeightRows);
    return sum;
  };
  for (int i = threadIdx.x; i < tokens * kColumns; i += kTilesThreads) {
    const int token = i / kColumns, column = i % kColumns, row = sum_row<gated>(column);
    if (first_column + column >= p.epilogue.columns) continue;
    store(p.epilogue, first_token + token, first_column + column, total(token, row),
          gated ? total(token, row + 16) : 0.0f);
  }
}

template <typename T, bool gated>
void launch_one_tile(const Product& product, const MatmulPlan& plan, cudaStream_t stream) {
  const int slices = plan.order.groups * kSlices;
  launch(one_tile_kernel<T, gated>, dim3(unsigned(plan.blocks_rows)), dim3(unsigned(slices * 32)),
         slices * sizeof(SliceSums < gated ? 32 : 16 >), stream, product);
}

template <typename T, int tiles, bool gated>
void launch_tiles(Product product, const MatmulPlan& plan, cudaStream_t stream) {
  constexpr int kTokens = TilesShape<tiles>::kTokens;
  static_assert(sizeof(TilesShared<tiles>) <= 227 * 1024);
  const int64_t rows = product.epilogue.rows;
  const int64_t at_once = plan.order.groups > 1 ? kTokensAtOnce : rows;
  for (int64_t first = 0; first < rows; first += at_once) {
    const int64_t blocks = (std::min(at_once, rows - first) + kTokens - 1) / kTokens;
    assert(plan.order.groups == 1 || plan.blocks_rows * blocks <= kTileCountersMax);
    product.first_token = first;
    launch(tiles_kernel<T, tiles, gated>,
           dim3(unsigned(blocks), unsigned(plan.blocks_rows), unsigned(plan.order.groups)),
           dim3(kTilesThreads), sizeof(TilesShared<tiles>), stream, product);
  }
}

template <typename T, bool gated>
void launch_few(const Product& product, const MatmulPlan& plan, cudaStream_t stream) {
  switch (plan.token_tiles) {
    case 1:
      return launch_one_tile<T, gated>(product, plan, stream);
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
