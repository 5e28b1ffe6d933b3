// The kernel of matmul_quantised for few rows of x, for one coding; each coding is compiled in a
// file of its own group.
//
// out[n][r] = sum over k of W[r][k] x[n][k]. Weights are the 16-row operand of mma.m16n8k16, rows
// of x the 8-column one. A block makes 16 rows of W (32 where gated: 16 gate rows, 16 up rows) by
// eight warps each; each warp takes an eighth of the tiles along k and streams their codes through
// a ring of registers. (The kernel is not launched early: none are on their way before it starts.)
// x comes from L1 and L2: at one row it is a hundredth of the bytes. The eight sums are added in
// order by way of shared memory: a row's bits depend on the row alone, however many there are.
//
// Bound: the bytes of codes and scales. For one row of x the instructions that make operands (about
// three a pair of codes) take half of the issue slots that memory leaves.
#pragma once

#include "kernels/cuda/epilogue.h"
#include "kernels/cuda/quantised_codes.h"
#include "kernels/rounding.h"

namespace chorus::kernels::cuda {

inline constexpr int kFewSlices = 8;    // of k, a warp each
inline constexpr int kSegmentsMax = 4;  // of one launch

struct FewRowsArgs {
  QuantisedSegment segments[kSegmentsMax];  // of one coding; gated: the gate's and the up's
  int segment_count = 0;
  const void* x = nullptr;  // [epilogue.rows, cols]
  int64_t cols = 0;
  Epilogue epilogue = {};
};

// Launches for one coding; `x_type` is bf16, f16 or f32.
using LaunchFew = void(const FewRowsArgs& args, DType x_type, int row_tiles, cudaStream_t stream);
LaunchFew launch_few_q8_0, launch_few_q4_0, launch_few_q4_1, launch_few_q5_0, launch_few_q5_1,
    launch_few_q4_k, launch_few_q5_k, launch_few_q6_k, launch_few_i4_by_32, launch_few_i4_by_128,
    launch_few_e4m3, launch_few_i8;

// --- activations

// Eight columns of a row of x as the operands of two steps, in `parts` words of four: bf16 and f16
// as they are, an f32 as the sum of three bf16, which hold all of its bits.
template <typename X>
struct Operand {
  using Type = X;
  static constexpr int kParts = 1;
};
template <>
struct Operand<float> {
  using Type = __nv_bfloat16;
  static constexpr int kParts = 3;
};

template <typename X>
struct Eight {
  uint32_t words[Operand<X>::kParts][4];
};

__device__ inline void split_in_three(const float (&values)[8], Eight<float>& out) {
  float rest[8];
  for (int i = 0; i < 8; ++i) rest[i] = values[i];
#pragma unroll
  for (int part = 0; part < 3; ++part) {
#pragma unroll
    for (int i = 0; i < 8; i += 2) {
      const __nv_bfloat16 a = __float2bfloat16(rest[i]), b = __float2bfloat16(rest[i + 1]);
      out.words[part][i / 2] = word_of(__nv_bfloat162(a, b));
      rest[i] -= __bfloat162float(a);
      rest[i + 1] -= __bfloat162float(b);
    }
  }
}

// How a segment's columns find their place in a row of x.
struct ColumnMap {
  const int32_t* columns;
  int lead, cols;
  bool contiguous;  // eight (four) neighbours can be read at once

  __device__ int place(int column) const {
    return columns != nullptr ? columns[column] : column - lead;
  }
  __device__ bool inside(int at) const { return at >= 0 && at < cols; }
};

// `count` neighbours from tile column `column` on; what is outside the row counts as zeros.
template <typename X, int count>
__device__ inline void read_x(const X* row, const ColumnMap& map, int column, X* to) {
  constexpr int at_once = count * sizeof(X) > 16 ? 16 / int(sizeof(X)) : count;
  if (map.contiguous) {
#pragma unroll
    for (int i = 0; i < count; i += at_once) {
      const int at = column + i - map.lead;
      if (map.inside(at)) {
        if constexpr (at_once * sizeof(X) == 16) {
          *reinterpret_cast<uint4*>(to + i) = *reinterpret_cast<const uint4*>(row + at);
        } else {
          *reinterpret_cast<uint2*>(to + i) = *reinterpret_cast<const uint2*>(row + at);
        }
      } else {
        for (int j = 0; j < at_once; ++j) to[i + j] = X(0.0f);
      }
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < count; ++i) {
    const int at = map.place(column + i);
    to[i] = map.inside(at) ? row[at] : X(0.0f);
  }
}

// The operands of steps 2 * pair and 2 * pair + 1 of a tile.
template <int group, typename X>
__device__ inline Eight<X> read_pair(const X* row, const ColumnMap& map, int tile, int pair,
                                     int t) {
  alignas(16) X values[8];
  const int column = tile * kTileCols;
  if constexpr (group >= 32) {
    read_x<X, 8>(row, map, column + column_in_tile(group, 2 * pair, t, 0, 0), values);
  } else {
    read_x<X, 4>(row, map, column + column_in_tile(group, 2 * pair, t, 0, 0), values);
    read_x<X, 4>(row, map, column + column_in_tile(group, 2 * pair + 1, t, 0, 0), values + 4);
  }
  Eight<X> eight;
  if constexpr (std::is_same_v<X, float>) {
    split_in_three(values, eight);
  } else {
    memcpy(eight.words, values, 16);
  }
  return eight;
}

// --- sums

template <int n_tiles>
struct Sums {
  float x[n_tiles][4] = {};
};

// Products of one step, and with the minima's codings the sums of x's columns.
template <Coding coding>
struct StepSums {
  float products[4] = {}, columns[4] = {};

  template <typename X>
  __device__ void add(const ptx::Fragment4& a, const Eight<X>& x, int step) {
    using T = typename Operand<X>::Type;
    constexpr uint32_t one = std::is_same_v<T, __nv_bfloat16> ? 0x3f803f80u : 0x3c003c00u;
    const ptx::Fragment4 ones{{one, one, one, one}};
#pragma unroll
    for (int part = 0; part < Operand<X>::kParts; ++part) {
      const uint32_t* words = &x.words[part][step % 2 * 2];
      const ptx::Fragment2 b{{words[0], words[1]}};
      ptx::mma_m16n8k16<T>(products, a, b);
      if constexpr (TileCodes<coding>::kHasMinima) ptx::mma_m16n8k16<T>(columns, ones, b);
    }
  }
  __device__ void end_group(float (&sums)[4], const TileCodes<coding>& codes,
                            const QuantisedSegment& segment, int group) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      sums[i] += codes.scale(segment, i / 2, group) * products[i];
      if constexpr (TileCodes<coding>::kHasMinima) {
        sums[i] += codes.minimum(i / 2, group) * columns[i];
      }
      products[i] = columns[i] = 0;
    }
  }
};

// One tile's share of the sums; of the tiles of rows of x the first `used` have some that count.
// Where there is no row, the last one is read again: an mma's columns do not touch each other, and
// lanes with nothing to read would part from those that have, 28 of them for one row of x.
template <Coding coding, typename X, int n_tiles>
__device__ inline void add_tile(Sums<n_tiles>& sums, const TileCodes<coding>& codes,
                                const QuantisedSegment& segment, const ColumnMap& map, int tile,
                                const X* x, int last_row, int used, int lane) {
  using T = typename Operand<X>::Type;
  constexpr int kGroup = facts_of(coding).group;
  StepSums<coding> whole[kGroup == kTileCols ? n_tiles : 1];
#pragma unroll
  for (int pair = 0; pair < kTileSteps / 2; ++pair) {
    ptx::Fragment4 a[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int step = 2 * pair + h, group = step * 16 / kGroup;
      a[h] = codes.template fragment<T>(step, codes.zero(0, group), codes.zero(1, group));
    }
#pragma unroll
    for (int j = 0; j < n_tiles; ++j) {
      if (j >= used) continue;
      int offset = min(8 * j + lane / 4, last_row) * map.cols;
      asm volatile("" : "+r"(offset));  // or all rows' places are kept in registers
      const X* row = x + offset;
      const Eight<X> columns = read_pair<kGroup>(row, map, tile, pair, lane % 4);
      StepSums<coding> own;
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int step = 2 * pair + h, group = step * 16 / kGroup;
        StepSums<coding>& step_sums = kGroup == kTileCols ? whole[j] : own;
        step_sums.add(a[h], columns, step);
        if ((step + 1) * 16 % kGroup == 0) {
          step_sums.end_group(sums.x[j], codes, segment, group);
        }
      }
    }
  }
}

// --- the end

template <int n_tiles>
struct FewShared {
  // Of each warp; the 17th keeps lanes of a warp off each other's banks.
  float sums[2 * kFewSlices][8 * n_tiles][kTileRows + 1];
};

// --- the kernel

// Tiles that a warp has in flight; what registers allow.
template <Coding coding>
constexpr int ring_depth(int n_tiles) {
  const bool bytes = facts_of(coding).bits == 8;
  if (n_tiles == 1) return bytes ? 2 : coding == Coding::q5_1 ? 3 : 4;
  const bool many = TileCodes<coding>::kHasMinima || coding == Coding::q6_k;
  return bytes || many ? 1 : 2;
}

template <Coding coding, typename X, int n_tiles>
__global__ void __launch_bounds__(2 * kFewSlices * 32)
    few_rows_kernel(const __grid_constant__ FewRowsArgs args) {
  ptx::let_successor_start();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int slice = warp % kFewSlices;
  // Whose rows: of the unit's segment, where gated of the second one for the second eight warps.
  int64_t row_tile = blockIdx.x;
  int which = warp / kFewSlices;
  if (!args.epilogue.gated) {
    while (row_tile >= args.segments[which].row_tiles) {
      row_tile -= args.segments[which++].row_tiles;
    }
  }
  const QuantisedSegment& segment = args.segments[which];

  // Phase 1: weights on their way.
  constexpr int kDepth = ring_depth<coding>(n_tiles);
  TileCodes<coding> ring[kDepth];
  const int64_t begin = segment.col_tiles * slice / kFewSlices;
  const int64_t end = segment.col_tiles * (slice + 1) / kFewSlices;
#pragma unroll
  for (int d = 0; d < kDepth; ++d) {
    if (begin + d < end) ring[d].load(segment, row_tile, begin + d, lane);
  }

  // Phase 2: sums over this warp's slice.
  ptx::wait_for_predecessor();
  const int64_t live = live_rows(args.epilogue);
  const int64_t first_row = int64_t(blockIdx.y) * 8 * n_tiles;
  if (first_row >= live) return;
  const int64_t rows_here = live - first_row < 8 * n_tiles ? live - first_row : 8 * n_tiles;
  const int used = int((rows_here + 7) / 8);
  const X* x = static_cast<const X*>(args.x) + first_row * args.cols;
  const ColumnMap map{segment.columns, int(segment.lead), int(args.cols),
                      segment.columns == nullptr && segment.lead % 8 == 0 && args.cols % 8 == 0};
  Sums<n_tiles> sums;
  for (int64_t tile = begin; tile < end; tile += kDepth) {
#pragma unroll
    for (int d = 0; d < kDepth; ++d) {
      if (tile + d < end) {
        add_tile<coding, X, n_tiles>(sums, ring[d], segment, map, int(tile) + d, x,
                                     int(rows_here) - 1, used, lane);
        if (tile + d + kDepth < end) ring[d].load(segment, row_tile, tile + d + kDepth, lane);
      }
    }
  }

  // Phase 3: the slices' sums in order.
  auto& shared = shared_memory<FewShared<n_tiles>>();
#pragma unroll
  for (int j = 0; j < n_tiles; ++j) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      shared.sums[warp][8 * j + 2 * t + i % 2][g + 8 * (i / 2)] = sums.x[j][i];
    }
  }
  __syncthreads();
  const bool gated = args.epilogue.gated;
  const QuantisedSegment& first = args.segments[gated ? 0 : which];
  for (int at = threadIdx.x; at < rows_here * kTileRows; at += blockDim.x) {
    const int n = at / kTileRows, r = at % kTileRows;
    const int64_t row = row_tile * kTileRows + r;
    if (row >= first.rows) continue;
    const auto total = [&](int from) {
      float sum = 0;
      for (int s = 0; s < kFewSlices; ++s) sum += shared.sums[from + s][n][r];
      return sum;
    };
    store(args.epilogue, first_row + n, first.row_begin + row, total(0),
          gated ? total(kFewSlices) : 0.0f);
  }
}

// A step serves one row of x and thirty-two alike where memory bounds it; more rows take turns.
template <Coding coding, typename X, int n_tiles>
void launch_few_rows(const FewRowsArgs& args, int row_tiles, cudaStream_t stream) {
  const auto turns = unsigned(ceil_div(args.epilogue.rows, 8 * n_tiles));
  launch(few_rows_kernel<coding, X, n_tiles>, dim3(unsigned(row_tiles), turns),
         dim3(unsigned(kFewSlices * 32 * (args.epilogue.gated ? 2 : 1))),
         sizeof(FewShared<n_tiles>), stream, args);
}

template <Coding coding>
void launch_few(const FewRowsArgs& args, DType x_type, int row_tiles, cudaStream_t stream) {
  const bool one = args.epilogue.rows <= 8;
  if (x_type == DType::f32) {
    launch_few_rows<coding, float, 1>(args, row_tiles, stream);
  } else if (x_type == DType::bf16) {
    one ? launch_few_rows<coding, __nv_bfloat16, 1>(args, row_tiles, stream)
        : launch_few_rows<coding, __nv_bfloat16, 4>(args, row_tiles, stream);
  } else {
    one ? launch_few_rows<coding, __half, 1>(args, row_tiles, stream)
        : launch_few_rows<coding, __half, 4>(args, row_tiles, stream);
  }
}

}  // namespace chorus::kernels::cuda
