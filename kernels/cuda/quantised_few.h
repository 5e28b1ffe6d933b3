// The kernel of matmul_quantised for few rows of x, for one coding; each coding is compiled in a
// file of its own group.
//
// out[n][r] = sum over k of W[r][k] x[n][k]. Weights are the 16-row operand of mma.m16n8k16, rows
// of x the 8-column one. A piece of work is 16 rows of W (32 where gated: 16 gate rows, 16 up rows)
// for up to 8 or 32 rows of x, by eight warps each: each warp takes an eighth of the tiles along k.
// The eight sums are added in order by way of shared memory: a row's bits depend on the row alone,
// however many there are.
//
// Blocks stay and take one piece after the other. Each warp streams its codes through a ring of
// registers that is filled for the next piece while this one ends: a piece is a few tiles a warp,
// so that a block for each would spend most of its time starting and ending. Pieces of one row tile
// stand together, for L2 to serve all but the first.
//
// x of 8 rows, of f32 of any number, is copied to shared memory once, where it fits: read anew for
// each 16 rows of W it would be more bytes from L2 than the codes are. (8B in 4 bits on an H200,
// when it was: 26 % of the read ceiling at 8 rows.)
//
// Bound: the bytes of codes and scales. For one row of x the instructions that make operands (about
// three a pair of codes) take half of the issue slots that memory leaves.
#pragma once

#include <algorithm>

#include "kernels/cuda/epilogue.h"
#include "kernels/cuda/plan.h"
#include "kernels/cuda/quantised_codes.h"
#include "kernels/rounding.h"

namespace chorus::kernels::cuda {

inline constexpr int kFewSlices = 8;    // of k, a warp each
inline constexpr int kSegmentsMax = 4;  // of one launch

struct FewRowsArgs {
  QuantisedSegment segments[kSegmentsMax];  // of one coding; gated: the gate's and the up's
  int segment_count = 0;
  int row_tiles = 0;        // of all segments; gated: of the gate's
  const void* x = nullptr;  // [epilogue.rows, cols]
  int64_t cols = 0;
  int shared_stride = 0;  // elements from row to row of x in shared memory; 0: it is not there
  Epilogue epilogue = {};
};

// Launches for one coding; `x_type` is bf16, f16 or f32.
using LaunchFew = void(const FewRowsArgs& args, DType x_type, const DeviceLimits& limits,
                       cudaStream_t stream);
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

// The rows of x of a piece of work, wherever they are.
template <typename X>
struct XRows {
  const X* data;
  int stride, last;  // elements from row to row; the last row that counts
};

// One tile's share of the sums; of the tiles of rows of x the first `used` have some that count.
// Where there is no row, the last one is read again: an mma's columns do not touch each other, and
// lanes with nothing to read would part from those that have, 28 of them for one row of x.
template <Coding coding, typename X, int n_tiles>
__device__ inline void add_tile(Sums<n_tiles>& sums, const TileCodes<coding>& codes,
                                const QuantisedSegment& segment, const ColumnMap& map, int tile,
                                const XRows<X>& x, int used, int lane) {
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
      int offset = min(8 * j + lane / 4, x.last) * x.stride;
      asm volatile("" : "+r"(offset));  // or all rows' places are kept in registers
      const Eight<X> columns = read_pair<kGroup>(x.data + offset, map, tile, pair, lane % 4);
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

// A warp's; the 17th keeps its lanes off each other's banks.
template <int n_tiles>
using WarpSums = float[8 * n_tiles][kTileRows + 1];

// Shared memory: sums of each warp, of this piece and of the one before it, which may still be
// read; then x, where it is there.
template <int n_tiles>
constexpr int sums_bytes(bool gated) {
  return 2 * kFewSlices * (gated ? 2 : 1) * int(sizeof(WarpSums<n_tiles>));
}

// --- the kernel

// Tiles that a warp has in flight; what registers allow.
template <Coding coding>
constexpr int ring_depth(int n_tiles) {
  const bool bytes = facts_of(coding).bits == 8;
  if (n_tiles == 1) return bytes ? 2 : coding == Coding::q5_1 ? 3 : 4;
  const bool many = TileCodes<coding>::kHasMinima || coding == Coding::q6_k;
  return bytes || many ? 1 : 2;
}

// A warp's part of a piece of work: tiles [begin, end) of a row tile of a segment.
struct Piece {
  int which = 0, row_tile = 0, begin = 0, end = 0, first_row = 0;
};
__device__ inline Piece piece_at(const FewRowsArgs& args, int index, int turns, int turn_rows,
                                 int warp) {
  if (index >= args.row_tiles * turns) return {};
  // Of the piece's segment, where gated of the second one for the second eight warps.
  Piece piece{.which = warp / kFewSlices,
              .row_tile = index / turns,
              .first_row = index % turns * turn_rows};
  if (!args.epilogue.gated) {
    while (piece.row_tile >= args.segments[piece.which].row_tiles) {
      piece.row_tile -= int(args.segments[piece.which++].row_tiles);
    }
  }
  const int tiles = int(args.segments[piece.which].col_tiles), slice = warp % kFewSlices;
  piece.begin = tiles * slice / kFewSlices;
  piece.end = tiles * (slice + 1) / kFewSlices;
  return piece;
}

// Begins to copy the live rows of x; cols is a multiple of 16 bytes.
template <typename X>
__device__ inline void stage_x(const FewRowsArgs& args, int live, X* to) {
  constexpr int kPiece = 16 / int(sizeof(X));
  const int pieces = int(args.cols) / kPiece;
  for (int i = int(threadIdx.x); i < live * pieces; i += int(blockDim.x)) {
    const int row = i / pieces, column = i % pieces * kPiece;
    ptx::copy_async_16(to + row * args.shared_stride + column,
                       static_cast<const X*>(args.x) + row * args.cols + column);
  }
  ptx::commit_copies();
}

template <Coding coding, typename X, int n_tiles>
__global__ void __launch_bounds__(2 * kFewSlices * 32)
    few_rows_kernel(const __grid_constant__ FewRowsArgs args) {
  constexpr int kDepth = ring_depth<coding>(n_tiles), kTurnRows = 8 * n_tiles;
  ptx::let_successor_start();
  ptx::wait_for_predecessor();
  auto* const sums_of = &shared_memory<WarpSums<n_tiles>>();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int live = int(live_rows(args.epilogue)), turns = (live + kTurnRows - 1) / kTurnRows;
  const bool gated = args.epilogue.gated, staged = args.shared_stride > 0;
  X* const staged_x =
      reinterpret_cast<X*>(reinterpret_cast<char*>(sums_of) + sums_bytes<n_tiles>(gated));
  if (staged) stage_x(args, live, staged_x);

  Piece now = piece_at(args, int(blockIdx.x), turns, kTurnRows, warp);
  TileCodes<coding> ring[kDepth];
#pragma unroll
  for (int d = 0; d < kDepth; ++d) {
    if (now.begin + d < now.end) {
      ring[d].load(args.segments[now.which], now.row_tile, now.begin + d, lane);
    }
  }
  if (staged) {
    ptx::wait_copies<0>();
    __syncthreads();
  }

  const int warps = int(blockDim.x) / 32;
  int buffer = 0;  // of the sums: 0 or `warps`
  for (int index = int(blockIdx.x); index < args.row_tiles * turns; index += int(gridDim.x)) {
    const Piece next = piece_at(args, index + int(gridDim.x), turns, kTurnRows, warp);
    const QuantisedSegment& segment = args.segments[now.which];
    const int rows_here = min(live - now.first_row, kTurnRows), used = (rows_here + 7) / 8;
    XRows<X> x{staged_x + now.first_row * args.shared_stride, args.shared_stride, rows_here - 1};
    if (!staged) {
      x.data = static_cast<const X*>(args.x) + now.first_row * args.cols;
      x.stride = int(args.cols);
    }
    const ColumnMap map{segment.columns, int(segment.lead), int(args.cols),
                        segment.columns == nullptr && segment.lead % 8 == 0 && args.cols % 8 == 0};
    Sums<n_tiles> sums;
    bool last = false;
    for (int lap = now.begin; !last; lap += kDepth) {
      last = lap + kDepth >= now.end;
      const Piece ahead = last ? next : now;
      const int from = last ? next.begin : lap + kDepth;
#pragma unroll
      for (int d = 0; d < kDepth; ++d) {
        if (lap + d < now.end) {
          add_tile<coding, X, n_tiles>(sums, ring[d], segment, map, lap + d, x, used, lane);
        }
        if (from + d < ahead.end) {
          ring[d].load(args.segments[ahead.which], ahead.row_tile, from + d, lane);
        }
      }
    }

    // The slices' sums in order.
    auto* const slices = sums_of + buffer;
    buffer = warps - buffer;
#pragma unroll
    for (int j = 0; j < n_tiles; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        slices[warp][8 * j + 2 * t + i % 2][g + 8 * (i / 2)] = sums.x[j][i];
      }
    }
    __syncthreads();
    const QuantisedSegment& first = args.segments[gated ? 0 : now.which];
    for (int at = int(threadIdx.x); at < rows_here * kTileRows; at += int(blockDim.x)) {
      const int n = at / kTileRows, r = at % kTileRows;
      const int64_t row = int64_t(now.row_tile) * kTileRows + r;
      if (row >= first.rows) continue;
      const auto total = [&](int from) {
        float sum = 0;
        for (int s = 0; s < kFewSlices; ++s) sum += slices[from + s][n][r];
        return sum;
      };
      store(args.epilogue, now.first_row + n, first.row_begin + row, total(0),
            gated ? total(kFewSlices) : 0.0f);
    }
    now = next;
  }
}

// A step serves one row of x and thirty-two alike where memory bounds it; more rows take turns.
// As many blocks as find registers: 16 warps a multiprocessor.
template <Coding coding, typename X, int n_tiles>
void launch_few_rows(FewRowsArgs args, const DeviceLimits& limits, cudaStream_t stream) {
  const int at_once = args.epilogue.gated ? 1 : 2;
  const int64_t pieces = args.row_tiles * ceil_div(args.epilogue.rows, 8 * n_tiles);
  const int64_t blocks = int64_t{limits.multiprocessors} * at_once;
  int64_t shared_bytes = sums_bytes<n_tiles>(args.epilogue.gated);
  // Rows begin half of the banks apart, so that two of them are read at once.
  const int64_t stride_bytes = round_up(args.cols * int64_t{sizeof(X)}, 128) + 64;
  const int64_t staged = shared_bytes + args.epilogue.rows * stride_bytes;
  if (n_tiles == 1 && args.cols % 8 == 0 &&
      staged + 1024 <= shared_bytes_max(limits.capability) / at_once) {
    args.shared_stride = int(stride_bytes / int64_t{sizeof(X)});
    shared_bytes = staged;
  }
  launch(few_rows_kernel<coding, X, n_tiles>, dim3(unsigned(std::min(pieces, blocks))),
         dim3(unsigned(kFewSlices * 32 * (args.epilogue.gated ? 2 : 1))), size_t(shared_bytes),
         stream, args);
}

template <Coding coding>
void launch_few(const FewRowsArgs& args, DType x_type, const DeviceLimits& limits,
                cudaStream_t stream) {
  const bool one = args.epilogue.rows <= 8;
  if (x_type == DType::f32) {
    launch_few_rows<coding, float, 1>(args, limits, stream);
  } else if (x_type == DType::bf16) {
    one ? launch_few_rows<coding, __nv_bfloat16, 1>(args, limits, stream)
        : launch_few_rows<coding, __nv_bfloat16, 4>(args, limits, stream);
  } else {
    one ? launch_few_rows<coding, __half, 1>(args, limits, stream)
        : launch_few_rows<coding, __half, 4>(args, limits, stream);
  }
}

}  // namespace chorus::kernels::cuda
