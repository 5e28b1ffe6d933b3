// out[r][n] = sum over k of x[r][k] W[n][k], for more rows than a memory-bound kernel can serve, by
// the asynchronous units of sm_90a. Bound: flops (a 128 x 256 tile does 85 operations a byte that
// it takes from L2).
//
// A block is three warpgroups. One thread of the first, the producer, keeps a ring of stages full:
// a stage is 128 rows of x and `columns` rows of W, 64 of k each, brought by TMA and swizzled on
// the way. The other two multiply 64 rows of x each by all of W's with wgmma; the sums stay in
// registers. Full and empty barriers carry the ring, nothing else synchronises. A consumer lets one
// step's multiplications run while it queues the next, so it gives a stage back one step late.
//
// Blocks are persistent: the producer runs ahead into the next tile while the consumers store this
// one. Tiles are walked in bands of 16 tile rows, down the rows first, so that the blocks that run
// together share what they read through L2. Rows beyond *live_rows of the last tile are multiplied
// but not stored; tiles wholly beyond are not visited.
//
// W's part of a stage is two boxes of `columns` / 2 rows. Plain: neighbours. Gated: gate rows and
// the up rows of the same outputs, so that the thread that holds gate[r][c] holds up[r][c] too and
// the activation costs no exchange.
//
// The order over k is one chain of f32 sums in steps of 16, whatever the tile and the rows. Only
// where there are fewer tiles than multiprocessors, for at most 128 rows, k is cut in `splits`
// chains, whose sums go to a workspace and are added up in order by a kernel of their own.
#include "kernels/cuda/matmul_hopper.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "kernels/cuda/gate.h"
#include "kernels/cuda/hopper.h"
#include "kernels/cuda/ptx.h"
#include "kernels/rounding.h"

namespace chorus::kernels::cuda {
namespace {

constexpr int kTileRows = kHopperTileRows, kTileK = 64, kBandTiles = 16;
constexpr int kThreads = 3 * 128, kConsumerWarps = 8;
constexpr int kSharedBytesMax = 226 << 10;

template <int columns>
struct Shared {
  static constexpr int kStageBytes = (kTileRows + columns) * kTileK * 2;
  static constexpr int kStages = kSharedBytesMax / kStageBytes;
  uint16_t x[kStages][kTileRows][kTileK];  // bf16 or f16, swizzled: never indexed by hand
  uint16_t w[kStages][columns][kTileK];
  hopper::Barrier full[kStages], empty[kStages];
};

struct Job {
  void* out;            // [rows, columns] of f32 or of the operands' type
  const float* bias;    // [weight rows] or null
  const int32_t* live;  // or null: all rows are live
  int rows;             // capacity
  int columns;          // of out
  int k;
  int splits;       // chains that k is cut in; with more than one, `out` is f32
  int split_steps;  // steps of kTileK in a chain
  int second_box;   // weight rows from a stage's first box of W to its second
  bool gated;
  bool out_f32;
  Gate gate;
};

// Walks round the ring; the parity of a barrier's phase flips with every lap.
template <int stages>
struct Place {
  int stage = 0, lap = 0;
  __device__ void advance() {
    if (++stage == stages) stage = 0, lap ^= 1;
  }
};

struct Tile {
  int row, column;  // counted in tiles
};
__device__ inline Tile tile_at(int index, int row_tiles, int column_tiles) {
  const int band = index / (kBandTiles * column_tiles);
  const int within = index - band * kBandTiles * column_tiles;
  const int height = min(kBandTiles, row_tiles - band * kBandTiles);
  return {band * kBandTiles + within % height, within / height};
}

// Two neighbouring outputs in one register (pair).
template <typename Out>
using Pair = std::conditional_t<sizeof(Out) == 4, unsigned long long, unsigned>;
template <typename Out>
__device__ inline Pair<Out> pack(float first, float second) {
  Out values[2];
  if constexpr (std::is_same_v<Out, float>) {
    values[0] = first, values[1] = second;
  } else if constexpr (std::is_same_v<Out, __half>) {
    values[0] = __float2half(first), values[1] = __float2half(second);
  } else {
    values[0] = __float2bfloat16(first), values[1] = __float2bfloat16(second);
  }
  Pair<Out> pair;
  memcpy(&pair, values, sizeof pair);
  return pair;
}

template <typename Out>
struct alignas(4 * sizeof(Out)) Quad {  // four neighbouring columns
  Pair<Out> pairs[2];
};

// Bias of two neighbouring columns; beyond the matrix anything, since nothing is stored there.
__device__ inline float2 bias_at(const Job& job, int column, int first) {
  if (job.bias == nullptr) return make_float2(0, 0);
  const float* at = job.bias + first + min(column, job.columns - 2);
  return make_float2(__ldg(at), __ldg(at + 1));
}

// Stores what this thread holds of a tile: rows `row` and `row` + 8; `column` is the tile's first.
// Lanes exchange with their neighbour, so that each stores four columns at once and four lanes
// whole sectors.
template <typename Out, bool gated, int count>
__device__ inline void store_tile(const float (&sums)[count], const Job& job, int row, int column,
                                  int live) {
  constexpr int kGroups = count * 2 / (gated ? 2 : 1) / 8;  // of 8 columns
  const int lane = threadIdx.x % 32;
  const bool odd = lane % 2 != 0;
  const int first = column + lane % 4 * 2, stored = column + odd * 8 + lane % 4 / 2 * 4;
  Out* out = static_cast<Out*>(job.out) + int64_t{row} * job.columns + stored;
#pragma unroll
  for (int j = 0; j < kGroups; j += 2) {
    Pair<Out> pairs[2][2];  // [half][group]
#pragma unroll
    for (int g = 0; g < 2; ++g) {
      const float2 bias = bias_at(job, first + (j + g) * 8, 0);
      const float2 up_bias =
          gated ? bias_at(job, first + (j + g) * 8, job.columns) : make_float2(0, 0);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int at = (j + g) * 4 + half * 2;
        float2 value = make_float2(sums[at] + bias.x, sums[at + 1] + bias.y);
        if constexpr (gated) {
          const int up = count / 2 + at;
          value.x = activate_fast(job.gate, value.x) * (sums[up] + up_bias.x);
          value.y = activate_fast(job.gate, value.y) * (sums[up + 1] + up_bias.y);
        }
        pairs[half][g] = pack<Out>(value.x, value.y);
      }
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const Pair<Out> mine = odd ? pairs[half][1] : pairs[half][0];
      const Pair<Out> taken = __shfl_xor_sync(~0u, odd ? pairs[half][0] : pairs[half][1], 1);
      if (row + half * 8 < live && stored + j * 8 < job.columns) {
        *reinterpret_cast<Quad<Out>*>(out + int64_t{half} * 8 * job.columns + j * 8) =
            odd ? Quad<Out>{taken, mine} : Quad<Out>{mine, taken};
      }
    }
  }
}

template <int columns>
__device__ inline void load_stage(Shared<columns>& shared, const CUtensorMap& x,
                                  const CUtensorMap& w, const Job& job, int stage, int k, int row,
                                  int weight_row) {
  hopper::Barrier& full = shared.full[stage];
  hopper::arrive_expecting(full, Shared<columns>::kStageBytes);
  hopper::load_box(shared.x[stage], x, k, row, full);
  hopper::load_box(shared.w[stage], w, k, weight_row, full);
  hopper::load_box(shared.w[stage][columns / 2], w, k, weight_row + job.second_box, full);
}

// One tile's sums: sums[..] += x[row.., :] W^T over all stages of k, wherever the ring stands.
template <typename T, int columns>
__device__ inline void multiply_tile(Shared<columns>& shared, float (&sums)[columns / 2],
                                     Place<Shared<columns>::kStages>& place, int first_row,
                                     int steps) {
  const bool releases = threadIdx.x % 32 == 0;
  int previous = -1;
  hopper::settle(sums);
  for (int step = 0; step < steps; ++step) {
    hopper::wait(shared.full[place.stage], place.lap);
    const uint64_t x =
        hopper::matrix_descriptor(hopper::shared_address(shared.x[place.stage][first_row]));
    const uint64_t w = hopper::matrix_descriptor(hopper::shared_address(shared.w[place.stage]));
    hopper::begin_multiply();
#pragma unroll
    for (int k = 0; k < kTileK / 16; ++k) hopper::multiply<T, columns>(sums, x + k * 2, w + k * 2);
    hopper::commit_multiply();
    hopper::wait_multiply<1>();
    if (previous >= 0 && releases) hopper::arrive(shared.empty[previous]);
    previous = place.stage;
    place.advance();
  }
  hopper::wait_multiply<0>();
  hopper::settle(sums);
  if (releases) hopper::arrive(shared.empty[previous]);
}

// Which part of the work a block takes as its n-th.
struct Work {
  Tile tile;
  int split, first_step, steps;
};
__device__ inline Work work_at(const Job& job, int index, int row_tiles, int column_tiles) {
  const int tiles = row_tiles * column_tiles, split = index / tiles;
  const int steps = (job.k + kTileK - 1) / kTileK, first = split * job.split_steps;
  return {tile_at(index - split * tiles, row_tiles, column_tiles), split, first,
          min(job.split_steps, steps - first)};
}

template <typename T, int columns>
__global__ void __launch_bounds__(kThreads, 1)
    matmul_hopper_kernel(const __grid_constant__ CUtensorMap x,
                         const __grid_constant__ CUtensorMap w, const __grid_constant__ Job job) {
  constexpr int kStages = Shared<columns>::kStages;
  auto& shared = shared_memory<Shared<columns>>();
  const int warpgroup = __shfl_sync(~0u, int(threadIdx.x / 128), 0);
  const int out_columns = job.gated ? columns / 2 : columns;  // of a tile
  const int column_tiles = (job.columns + out_columns - 1) / out_columns;
  ptx::let_successor_start();
  if (threadIdx.x == 0) {
    hopper::prefetch_map(x);
    hopper::prefetch_map(w);
    for (int s = 0; s < kStages; ++s) {
      hopper::init(shared.full[s], 1);
      hopper::init(shared.empty[s], kConsumerWarps);
    }
    hopper::publish_inits();
  }
  __syncthreads();  // the barriers are made
  ptx::wait_for_predecessor();
  const int live = job.live != nullptr ? min(*job.live, job.rows) : job.rows;
  const int row_tiles = (live + kTileRows - 1) / kTileRows;
  const int parts = row_tiles * column_tiles * job.splits;
  Place<kStages> place;

  if (warpgroup == 0) {
    hopper::shrink_registers<40>();
    if (threadIdx.x != 0) return;
    for (int index = blockIdx.x; index < parts; index += gridDim.x) {
      const Work work = work_at(job, index, row_tiles, column_tiles);
      for (int step = 0; step < work.steps; ++step, place.advance()) {
        hopper::wait(shared.empty[place.stage], place.lap ^ 1);  // passes at once in the first lap
        load_stage(shared, x, w, job, place.stage, (work.first_step + step) * kTileK,
                   work.tile.row * kTileRows, work.tile.column * out_columns);
      }
    }
    return;
  }

  hopper::grow_registers<232>();
  const int first_row = (warpgroup - 1) * 64;
  const int warp_row = first_row + threadIdx.x % 128 / 32 * 16;
  for (int index = blockIdx.x; index < parts; index += gridDim.x) {
    const Work work = work_at(job, index, row_tiles, column_tiles);
    const Tile tile = work.tile;
    float sums[columns / 2] = {};
    multiply_tile<T>(shared, sums, place, first_row, work.steps);
    if (tile.row * kTileRows + warp_row >= live) continue;
    Job target = job;
    if (job.splits > 1) {
      target.out = static_cast<float*>(job.out) + int64_t{work.split} * job.rows * job.columns;
    }
    const int row = tile.row * kTileRows + warp_row + threadIdx.x % 32 / 4;
    const int column = tile.column * out_columns;
    if (job.gated) {
      if (job.out_f32) {
        store_tile<float, true>(sums, target, row, column, live);
      } else {
        store_tile<T, true>(sums, target, row, column, live);
      }
    } else if (job.out_f32) {
      store_tile<float, false>(sums, target, row, column, live);
    } else {
      store_tile<T, false>(sums, target, row, column, live);
    }
  }
}

// out = sum of the chains (+ bias). A thread has four columns.
template <typename Out>
__global__ void add_splits_kernel(const float* partial, const __grid_constant__ Job job) {
  ptx::let_successor_start();
  ptx::wait_for_predecessor();
  const int row = blockIdx.x, column = (blockIdx.y * blockDim.x + threadIdx.x) * 4;
  const int live = job.live != nullptr ? min(*job.live, job.rows) : job.rows;
  if (row >= live || column >= job.columns) return;
  const int64_t at = int64_t{row} * job.columns + column;
  float4 sum = *reinterpret_cast<const float4*>(partial + at);
  for (int split = 1; split < job.splits; ++split) {
    const float4 next =
        *reinterpret_cast<const float4*>(partial + int64_t{split} * job.rows * job.columns + at);
    sum.x += next.x, sum.y += next.y, sum.z += next.z, sum.w += next.w;
  }
  const float2 first = bias_at(job, column, 0), second = bias_at(job, column + 2, 0);
  *reinterpret_cast<Quad<Out>*>(static_cast<Out*>(job.out) + at) = {
      {pack<Out>(sum.x + first.x, sum.y + first.y), pack<Out>(sum.z + second.x, sum.w + second.y)}};
}

template <typename T, int columns>
void launch_tiles(const MatmulArgs& args, const HopperPlan& plan, float* partial,
                  cudaStream_t stream) {
  const DeviceWeight& weight = *args.weight;
  const auto element = args.x.type == DType::f16 ? hopper::Element::f16 : hopper::Element::bf16;
  const int out_columns = args.gated ? columns / 2 : columns;
  const int steps = int(ceil_div(weight.cols, kTileK));
  Job job{.out = args.out.data,
          .bias = args.bias,
          .live = args.x.live_rows,
          .rows = int(args.x.rows),
          .columns = int(args.out.cols),
          .k = int(weight.cols),
          .splits = 1,
          .split_steps = int(ceil_div(steps, plan.splits)),
          .second_box = args.gated ? int(args.out.cols) : columns / 2,
          .gated = args.gated,
          .out_f32 = args.out.type == DType::f32,
          .gate = args.gate};
  job.splits = int(ceil_div(steps, job.split_steps));  // none is empty
  const Job whole = job;
  if (job.splits > 1) job.out = partial, job.out_f32 = true, job.bias = nullptr;
  const int64_t parts =
      ceil_div(args.x.rows, kTileRows) * ceil_div(args.out.cols, out_columns) * job.splits;
  const CUtensorMap x = hopper::make_tensor_map(
      {args.x.data, element, args.x.rows, args.x.cols, args.x.cols}, kTileRows);
  const CUtensorMap w = hopper::make_tensor_map(
      {weight.data, element, weight.rows, weight.cols, weight.stride}, columns / 2);
  launch(matmul_hopper_kernel<T, columns>,
         dim3(unsigned(std::min<int64_t>(parts, args.limits.multiprocessors))), dim3(kThreads),
         sizeof(Shared<columns>), stream, x, w, job);
  if (job.splits == 1) return;
  const dim3 grid(unsigned(args.x.rows), unsigned(ceil_div(args.out.cols, 1024)));
  launch(whole.out_f32 ? add_splits_kernel<float> : add_splits_kernel<T>, grid, dim3(256), 0,
         stream, partial, whole);
}

template <typename T>
void launch_type(const MatmulArgs& args, const HopperPlan& plan, float* partial,
                 cudaStream_t stream) {
  switch (plan.tile_columns) {
    case 64:
      return launch_tiles<T, 64>(args, plan, partial, stream);
    case 128:
      return launch_tiles<T, 128>(args, plan, partial, stream);
    case 192:
      return launch_tiles<T, 192>(args, plan, partial, stream);
    case 256:
      return launch_tiles<T, 256>(args, plan, partial, stream);
  }
  throw std::invalid_argument("matmul_hopper: no kernel for tiles of " +
                              std::to_string(plan.tile_columns) + " columns");
}

}  // namespace

bool matmul_hopper_takes(const MatmulArgs& args) {
  const DeviceWeight& weight = *args.weight;
  if (weight.format == WeightFormat::f32) return false;
  const DType type = type_of(weight.format);
  return args.x.type == type && (args.out.type == type || args.out.type == DType::f32) &&
         args.x.cols % 8 == 0 && args.out.cols % 4 == 0;
}

void matmul_hopper(const MatmulArgs& args, const HopperPlan& plan, float* partial,
                   cudaStream_t stream) {
  if (!matmul_hopper_takes(args)) {
    throw std::invalid_argument("matmul_hopper: types or columns that it does not take");
  }
  if (plan.splits > 1 && (args.gated || partial == nullptr)) {
    throw std::invalid_argument("matmul_hopper: a gated product is not split");
  }
  if (args.x.rows == 0) return;
  if (args.x.type == DType::f16) {
    launch_type<__half>(args, plan, partial, stream);
  } else {
    launch_type<__nv_bfloat16>(args, plan, partial, stream);
  }
}

}  // namespace chorus::kernels::cuda
