// Products of one to eight rows: decode of few sequences. Nothing but the weights' bytes counts, so
// they stream past L1 into registers, each byte once, and are never staged.
//
// The weight's rows are the 16-row operand of mma.m16n8k16, the tokens its 8 columns. Where the
// instruction wants pairs of k from two halves of 16, a lane (g = lane / 4, t = lane % 4) instead
// takes 16 contiguous bytes, 8 elements from 8t of every 32, of rows g and g + 8: elements 0..3 are
// its share of a first mma, 4..7 of a second. The tokens are read by the same rule, so k is
// permuted alike on both sides.
//
// One block an SM for the whole product: a *team* of warps, one for each slice of k (SumOrder in
// plan.h), takes tile after tile of 16 weight rows (gated: 16 gate and 16 up rows), so that the
// next tile's loads are on their way while the last one is added up. In flight are 16 loads of 16
// bytes a lane, 128 KB an SM; at 64 KB the rate was 4 % lower, and bulk copies of rows into shared
// memory were 20 % slower (H200).
//
// A block fills an SM's registers. The next product's blocks come one to an SM as these leave and
// load their first weights before they wait; the kernels between bring its weights into L2
// (prefetch.h).
// Bound: the weights' bytes.
#include <algorithm>
#include <cassert>

#include "kernels/cuda/epilogue.h"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/ptx.h"

namespace chorus::kernels::cuda {
namespace {

constexpr int kWarps = 16;
constexpr int kTokens = 8;

struct Stream8 {
  const uint4* weight = nullptr;  // granules of 8 elements
  uint32_t weight_stride = 0;     // granules from one row to the next
  const uint4* x = nullptr;
  int granules = 0;  // in a row of x
  SumOrder order = {};
  int tiles = 0;  // of 16 columns of the output
  Epilogue epilogue = {};
};

template <int weight_rows>
struct TileSums {                      // of one slice
  float at[kTokens][weight_rows + 4];  // the 4: lanes of a warp store in different banks
};

// What a warp works off at once: one slice of k of one tile.
struct Piece {
  uint32_t granule = 0;  // of the weight: this lane's first one of row g
  int granules = 0;      // from there to the slice's end
  int rows_left = 0;     // from row g to the last
};

// A lane's loads for `depth` steps of 32 elements of a piece: rows g and g + 8 of each of the
// `row_tiles`. Where a load is not wanted the old weights stay, to meet tokens that are zero.
template <int depth, int row_tiles>
struct Ahead {
  uint4 held[depth][row_tiles * 2];

  __device__ void load(int slot, const Stream8& p, const Piece& piece, int step) {
#pragma unroll
    for (int i = 0; i < row_tiles * 2; ++i) {
      const uint32_t row = i % 2 * 8 + i / 2 * uint32_t(p.epilogue.columns);
      ptx::load_streaming_16_if(held[slot][i],
                                p.weight + (piece.granule + row * p.weight_stride + step * 4),
                                step * 4 < piece.granules && i % 2 * 8 < piece.rows_left);
    }
  }
};

template <typename T, bool gated>
__global__ void __launch_bounds__(kWarps * 32, 1) stream_kernel(const Stream8 p) {
  constexpr int kRowTiles = gated ? 2 : 1, kDepth = gated ? 4 : 8;
  using Sums = TileSums<kRowTiles * 16>;
  Sums* shared = &shared_memory<Sums>();  // [2][teams][slices]
  const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  const int slices = p.order.groups * kSlices, teams = blockDim.x / 32 / slices;
  const int team = warp / slices, slice = warp % slices;
  const int tiles_apart = gridDim.x * teams;
  const int columns = int(p.epilogue.columns);

  const int k = slice * p.order.slice_steps * 4 + t;  // this lane's first granule within a row
  const int granules = min(k - t + p.order.slice_steps * 4, p.granules) - k;
  const auto piece_at = [&](int tile) {
    return Piece{.granule = uint32_t(tile * 16 + g) * p.weight_stride + k,
                 .granules = tile < p.tiles ? granules : 0,
                 .rows_left = columns - tile * 16 - g};
  };

  int tile = blockIdx.x + gridDim.x * team;
  Piece piece = piece_at(tile);
  Ahead<kDepth, kRowTiles> ahead;
#pragma unroll
  for (int slot = 0; slot < kDepth; ++slot) {
#pragma unroll
    for (int i = 0; i < kRowTiles * 2; ++i) ahead.held[slot][i] = {0, 0, 0, 0};
    ahead.load(slot, p, piece, slot);
  }

  ptx::wait_for_predecessor();
  const int live = int(live_rows(p.epilogue));
  const uint4* token = p.x + int64_t{g} * p.granules + k;
  const int token_granules = g < live ? granules : 0;
  const int steps = (p.order.slice_steps + kDepth - 1) / kDepth * kDepth;

  if (tile >= p.tiles) ptx::let_successor_start();
  for (int buffer = 0; tile < p.tiles; tile += tiles_apart, buffer ^= 1) {
    if (tile + tiles_apart >= p.tiles) ptx::let_successor_start();
    // The slices of this tile are added up in the other buffer than those of the tile before, whose
    // readers are through when all of the team have come to this tile's barrier.
    Sums* of_team = shared + (buffer * teams + team) * slices;
    const Piece next = piece_at(tile + tiles_apart);
    float sums[kRowTiles][4] = {};
#pragma unroll 1
    for (int step = 0; step < steps; step += kDepth) {
      const bool turn = step + kDepth >= steps;  // what is loaded now belongs to the next piece
      const Piece from{.granule = turn ? next.granule : piece.granule,
                       .granules = turn ? next.granules : piece.granules,
                       .rows_left = turn ? next.rows_left : piece.rows_left};
      const int from_step = turn ? 0 : step + kDepth;
#pragma unroll
      for (int slot = 0; slot < kDepth; ++slot) {
        const int at = (step + slot) * 4;
        const uint4 x = at < token_granules ? token[at] : uint4{0, 0, 0, 0};
        const uint4* held = ahead.held[slot];
#pragma unroll
        for (int r = 0; r < kRowTiles; ++r) {
          const uint4 upper = held[r * 2], lower = held[r * 2 + 1];
          ptx::mma_m16n8k16<T>(sums[r], {{upper.x, lower.x, upper.y, lower.y}}, {{x.x, x.y}});
          ptx::mma_m16n8k16<T>(sums[r], {{upper.z, lower.z, upper.w, lower.w}}, {{x.z, x.w}});
        }
        ahead.load(slot, p, from, from_step + slot);
      }
    }
    piece = next;
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        of_team[slice].at[t * 2 + e % 2][r * 16 + g + e / 2 * 8] = sums[r][e];
      }
    }
    ptx::barrier_sync(1 + team, slices * 32);
    const auto total = [&](int token_idx, int row) {
      float sum = 0;
#pragma unroll 1
      for (int group = 0; group < p.order.groups; ++group) {
        const Sums* of_group = of_team + group * kSlices;
        float group_sum = of_group[0].at[token_idx][row];
        for (int s = 1; s < kSlices; ++s) group_sum += of_group[s].at[token_idx][row];
        sum = group == 0 ? group_sum : sum + group_sum;
      }
      return sum;
    };
    for (int i = threadIdx.x % (slices * 32); i < live * 16; i += slices * 32) {
      const int token_idx = i / 16, row = i % 16;
      if (tile * 16 + row >= columns) continue;
      store(p.epilogue, token_idx, tile * 16 + row, total(token_idx, row),
            gated ? total(token_idx, 16 + row) : 0.0f);
    }
  }
}

template <typename T, bool gated>
void launch_stream(const Stream8& stream8, int multiprocessors, cudaStream_t stream) {
  const int slices = stream8.order.groups * kSlices;
  static_assert(kGroupsMax * kSlices <= kWarps);
  const int teams = kWarps / slices;
  launch_early(stream_kernel<T, gated>, dim3(unsigned(std::min(multiprocessors, stream8.tiles))),
               dim3(unsigned(teams * slices * 32)),
               size_t(2) * teams * slices * sizeof(TileSums < gated ? 32 : 16 >), stream, stream8);
}

}  // namespace

void matmul_stream(const MatmulArgs& args, const MatmulPlan& plan, cudaStream_t stream) {
  const DeviceWeight& weight = *args.weight;
  assert(args.x.cols % 8 == 0 && args.x.cols <= weight.stride && args.x.rows <= kTokens);
  assert((weight.rows + 16) * (weight.stride / 8) < int64_t{1} << 32);
  Stream8 stream8{.weight = static_cast<const uint4*>(weight.data),
                  .weight_stride = static_cast<uint32_t>(weight.stride / 8),
                  .x = static_cast<const uint4*>(args.x.data),
                  .granules = static_cast<int>(args.x.cols / 8),
                  .order = plan.order,
                  .epilogue = epilogue_of(args)};
  stream8.tiles = static_cast<int>((stream8.epilogue.columns + 15) / 16);
  const auto with_gate = [&](auto type) {
    using T = decltype(type);
    if (args.gated) {
      launch_stream<T, true>(stream8, args.limits.multiprocessors, stream);
    } else {
      launch_stream<T, false>(stream8, args.limits.multiprocessors, stream);
    }
  };
  if (weight.format == WeightFormat::bf16) {
    with_gate(__nv_bfloat16{});
  } else {
    with_gate(__half{});
  }
}

}  // namespace chorus::kernels::cuda
