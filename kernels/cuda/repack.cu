// A block a tile, 64 threads: thread 32 h + lane makes the words of steps 4 h to 4 h + 3 that
// `lane` reads (quantised_layout.h), 32 codes of two rows, and stores them 16 bytes at a time; the
// first 16 threads then place a row's scales each. Codes are picked one by one from wherever the
// type has them: one function a type says where an element's code is, and the same loop serves them
// all.
//
// Bound: the bus brings the source at some 50 GB/s, 40 times slower than memory; picking costs some
// tens of instructions a code, which is a few milliseconds for 8 G codes on a large GPU.
#include "kernels/cuda/repack.h"

#include <cassert>

#include "kernels/cuda/device.h"
#include "kernels/cuda/ptx.h"
#include "kernels/half.h"
#include "kernels/quant.h"

namespace chorus::kernels::cuda {
namespace {

constexpr int kThreads = 64;

struct Source {
  RepackSlice slice;
  const uint8_t* staged;
  int64_t row_begin, rows_of_group;
  RowOrder order;
  int64_t head_dim;
  bool zeros;
  int zero_add;
  WeightType scale_type;
};

struct Planes {
  QuantisedSegment segment;
  CodingFacts facts;
  uint8_t *codes, *high_bits, *scales, *block_scales;
};

// --- where a type has its codes: of row `row` and column `col` of the slice

__device__ inline uint32_t code_of(const BlockQ8_0& block, int i) {
  return static_cast<uint8_t>(block.quants[i]);
}
__device__ inline uint32_t nibble_of_halves(const uint8_t* nibbles, int i) {
  return (nibbles[i % 16] >> (i / 16 * 4)) & 15u;
}
__device__ inline uint32_t fifth_bit_at(const uint8_t* bits, int i) {
  return ((bits[i / 8] >> (i % 8)) & 1u) << 4;
}
__device__ inline uint32_t nibble_of_parts(const uint8_t* nibbles, int i) {
  return (nibbles[i / 64 * 32 + i % 32] >> (i / 32 % 2 * 4)) & 15u;
}
__device__ inline uint32_t code_of(const BlockQ4_0& block, int i) {
  return nibble_of_halves(block.nibbles, i);
}
__device__ inline uint32_t code_of(const BlockQ4_1& block, int i) {
  return nibble_of_halves(block.nibbles, i);
}
__device__ inline uint32_t code_of(const BlockQ5_0& block, int i) {
  return nibble_of_halves(block.nibbles, i) | fifth_bit_at(block.fifth_bits, i);
}
__device__ inline uint32_t code_of(const BlockQ5_1& block, int i) {
  return nibble_of_halves(block.nibbles, i) | fifth_bit_at(block.fifth_bits, i);
}
__device__ inline uint32_t code_of(const BlockQ4_K& block, int i) {
  return nibble_of_parts(block.nibbles, i);
}
__device__ inline uint32_t code_of(const BlockQ5_K& block, int i) {
  return nibble_of_parts(block.nibbles, i) | ((block.fifth_bits[i % 32] >> (i / 32)) & 1u) << 4;
}
__device__ inline uint32_t code_of(const BlockQ6_K& block, int i) {
  const int half = i / 128, quarter = i / 32 % 4, at = i % 32;
  const uint32_t low = block.low_bits[64 * half + 32 * (quarter % 2) + at] >> (quarter / 2 * 4);
  const uint32_t high = block.high_bits[32 * half + at] >> (2 * quarter);
  return (low & 15u) | (high & 3u) << 4;
}

template <WeightType>
struct BlockOf {};
template <>
struct BlockOf<WeightType::q8_0> {
  using Type = BlockQ8_0;
};
template <>
struct BlockOf<WeightType::q4_0> {
  using Type = BlockQ4_0;
};
template <>
struct BlockOf<WeightType::q4_1> {
  using Type = BlockQ4_1;
};
template <>
struct BlockOf<WeightType::q5_0> {
  using Type = BlockQ5_0;
};
template <>
struct BlockOf<WeightType::q5_1> {
  using Type = BlockQ5_1;
};
template <>
struct BlockOf<WeightType::q5_k> {
  using Type = BlockQ5_K;
};
template <>
struct BlockOf<WeightType::q4_k> {
  using Type = BlockQ4_K;
};
template <>
struct BlockOf<WeightType::q6_k> {
  using Type = BlockQ6_K;
};

__device__ inline const uint8_t* run_of(const Source& source, const Runs& runs, int64_t i) {
  return source.staged + runs.at + i * runs.staged_pitch;
}

__device__ inline uint32_t nibble_at(const uint8_t* run, int word, int place) {
  return (reinterpret_cast<const uint32_t*>(run)[word] >> (4 * place)) & 15u;
}

template <WeightType type>
__device__ inline uint32_t code_at(const Source& source, int row, int col) {
  const Runs& codes = source.slice.codes;
  constexpr int kWord = static_cast<int>(kWordCodes);
  if constexpr (has_bytes(type)) {
    return run_of(source, codes, row)[col] ^ (type == WeightType::u8 ? 0x80u : 0u);
  } else if constexpr (type == WeightType::i4_packed) {
    return nibble_at(run_of(source, codes, row), col / kWord, col % kWord);
  } else if constexpr (type == WeightType::i4_gptq) {
    return nibble_at(run_of(source, codes, col / kWord), row, col % kWord);
  } else if constexpr (type == WeightType::i4_awq) {
    return nibble_at(run_of(source, codes, col), row / kWord, awq_nibble(row % kWord));
  } else {
    using Block = typename BlockOf<type>::Type;
    const auto* blocks = reinterpret_cast<const Block*>(run_of(source, codes, row));
    return code_of(blocks[col / Block::kElements], col % Block::kElements);
  }
}

// Row of the slice that stands in row `row` of the segment, or -1.
__device__ inline int row_in_slice(const Source& source, const Planes& to, int64_t row) {
  if (row >= to.segment.rows) return -1;
  return static_cast<int>(stored_row(source.row_begin + row, source.order, source.head_dim) -
                          source.slice.row_begin);
}

// Column of the slice that stands in column `col` of the tiles; outside the wanted ones for none.
__device__ inline int col_in_slice(const Source& source, const Planes& to, int64_t col) {
  if (to.segment.columns == nullptr) return static_cast<int>(source.slice.column_shift + col);
  const int32_t listed = to.segment.columns[col];
  return listed < 0 ? -1 : static_cast<int>(source.slice.col_begin) + listed;
}

// --- planes

template <WeightType type>
__device__ inline void place_codes(const Source& source, const Planes& to, int64_t row_tile,
                                   int64_t col_tile) {
  constexpr CodingFacts kFacts = facts_of(coding_of(type));
  constexpr int kWords = kFacts.bits;  // eight codes a step, four steps
  const int half = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int g = lane / 4, t = lane % 4;
  const int rows[2] = {row_in_slice(source, to, row_tile * kTileRows + g),
                       row_in_slice(source, to, row_tile * kTileRows + g + 8)};
  uint32_t low[kWords] = {}, high[2] = {};
#pragma unroll
  for (int at = 0; at < 16; ++at) {
    const int s = at / 4, k = at / 2 % 2, e = at % 2;  // k: the half of the registers
    const int64_t in_tiles =
        col_tile * kTileCols + column_in_tile(kFacts.group, 4 * half + s, t, 2 * k, e);
    const int col = col_in_slice(source, to, in_tiles);
    if (col < source.slice.col_begin || col >= source.slice.col_end) continue;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      if (rows[r] < 0) continue;
      const int i = r + 2 * k;
      const uint32_t code = code_at<type>(source, rows[r], col);
      if constexpr (kFacts.bits == 4) {
        low[s] |= (code & 15u) << (4 * (i + 4 * e));
      } else {
        low[2 * s + k] |= code << (8 * (r + 2 * e));
      }
      if constexpr (kFacts.high == 1) high[0] |= (code >> 4) << (4 * s + i + 16 * e);
      if constexpr (kFacts.high == 2) {
        high[s / 2] |= (code >> 4) << (8 * (s % 2) + 2 * i + 16 * e);
      }
    }
  }
  const int64_t tile = row_tile * to.segment.col_tiles + col_tile;
  auto* codes = reinterpret_cast<uint4*>(to.codes + tile * code_bytes(kFacts));
#pragma unroll
  for (int q = 0; q < kWords / 4; ++q) {
    codes[(half * (kWords / 4) + q) * 32 + lane] =
        make_uint4(low[4 * q], low[4 * q + 1], low[4 * q + 2], low[4 * q + 3]);
  }
  auto* words = reinterpret_cast<uint32_t*>(to.high_bits + tile * high_bytes(kFacts));
  if constexpr (kFacts.high == 1) words[lane * 2 + half] = high[0];
  if constexpr (kFacts.high == 2) {
    words[lane * 4 + half * 2] = high[0];
    words[lane * 4 + half * 2 + 1] = high[1];
  }
}

__device__ inline void put(uint8_t* to, int i, uint16_t value) {
  reinterpret_cast<uint16_t*>(to)[i] = value;
}

// Scales of a small block, the i-th of its tile.
template <class Block>
__device__ inline void place_block(const Block& block, int i, uint8_t* to) {
  put(to, i, block.scale);
}
template <class Block>
__device__ inline void place_with_minimum(const Block& block, int i, uint8_t* to) {
  put(to, 2 * i, block.scale);
  put(to, 2 * i + 1, block.minimum);
}
__device__ inline void place_block(const BlockQ4_1& block, int i, uint8_t* to) {
  place_with_minimum(block, i, to);
}
__device__ inline void place_block(const BlockQ5_1& block, int i, uint8_t* to) {
  place_with_minimum(block, i, to);
}

// Those of half a block of the K types, and with the first half the block's own.
template <class Block>  // BlockQ4_K, BlockQ5_K
__device__ inline void place_half_block(const Block& block, int half, uint8_t* to,
                                        uint8_t* block_to) {
  for (int p = 0; p < 4; ++p) {
    const PartScaleK scale = part_scale_of(block.part_scales, 4 * half + p);
    to[2 * p] = scale.scale;
    to[2 * p + 1] = scale.minimum;
  }
  if (half != 0) return;
  put(block_to, 0, block.scale);
  put(block_to, 1, block.minimum);
}
__device__ inline void place_half_block(const BlockQ6_K& block, int half, uint8_t* to,
                                        uint8_t* block_to) {
  for (int p = 0; p < 8; ++p) to[p] = static_cast<uint8_t>(block.part_scales[8 * half + p]);
  if (half == 0) put(block_to, 0, block.scale);
}

__device__ inline float scale_at(const Source& source, int row, int group) {
  const RepackSlice& slice = source.slice;
  const int64_t row_group =
      (slice.row_begin + row) / source.rows_of_group - slice.row_begin / source.rows_of_group;
  const uint8_t* at = run_of(source, slice.scales, 0) + row_group * slice.scale_row_step +
                      group * slice.scale_col_step;
  switch (source.scale_type) {
    case WeightType::f16:
      return f16_to_f32(*reinterpret_cast<const uint16_t*>(at));
    case WeightType::bf16:
      return bf16_to_f32(*reinterpret_cast<const uint16_t*>(at));
    default:
      return *reinterpret_cast<const float*>(at);
  }
}

template <WeightType type>
__device__ inline int zero_at(const Source& source, int row, int group) {
  if (!source.zeros) return 8;
  const RepackSlice& slice = source.slice;
  constexpr int kWord = static_cast<int>(kWordCodes);
  const uint8_t* at = run_of(source, slice.zeros, 0) + row / kWord * slice.zero_row_step +
                      group * slice.zero_col_step;
  const int place = type == WeightType::i4_awq ? awq_nibble(row % kWord) : row % kWord;
  return static_cast<int>(nibble_at(at, 0, place)) + source.zero_add;
}

// Of row `in_tile` of a tile.
template <WeightType type>
__device__ inline void place_scales(const Source& source, const Planes& to, int64_t row_tile,
                                    int64_t col_tile, int in_tile) {
  const QuantisedSegment& segment = to.segment;
  const int row = row_in_slice(source, to, row_tile * kTileRows + in_tile);
  if (row < 0) return;
  const auto* groups = reinterpret_cast<const int32_t*>(run_of(source, source.slice.groups, 0));
  uint8_t* scales = to.scales + ((row_tile * segment.col_tiles + col_tile) * kTileRows + in_tile) *
                                    to.facts.scale_bytes;
  if constexpr (requires { typename BlockOf<type>::Type; }) {
    using Block = typename BlockOf<type>::Type;
    const auto* blocks = reinterpret_cast<const Block*>(run_of(source, source.slice.codes, row));
    if constexpr (Block::kElements == 256) {
      const int64_t pair = row_tile * ((segment.col_tiles + 1) / 2) + col_tile / 2;
      place_half_block(blocks[col_tile / 2], static_cast<int>(col_tile % 2), scales,
                       to.block_scales + (pair * kTileRows + in_tile) * to.facts.block_scale_bytes);
    } else {
      constexpr int kBlocks = kTileCols / Block::kElements;
      for (int i = 0; i < kBlocks; ++i) {
        const int64_t block = col_tile * kBlocks + i;
        if (block * Block::kElements < source.slice.col_end) place_block(blocks[block], i, scales);
      }
    }
  } else if constexpr (has_bytes(type)) {
    // One of those that share a scale writes it.
    if (in_tile != 0 && segment.scale_row_stride == 0) return;
    if (col_tile != 0 && segment.scale_col_tile_stride == 0) return;
    if (row_tile != 0 && segment.scale_row_tile_stride == 0) return;
    reinterpret_cast<float*>(
        to.scales)[row_tile * segment.scale_row_tile_stride +
                   col_tile * segment.scale_col_tile_stride + in_tile * segment.scale_row_stride] =
        scale_at(source, row, groups[col_tile]);
  } else {
    const int count = kTileCols / to.facts.group;
    for (int i = 0; i < count; ++i) {
      const int32_t group = groups[col_tile * count + i];
      if (group < 0) continue;
      const float scale = scale_at(source, row, group);
      put(scales, 2 * i, segment.bf16_scales ? f32_to_bf16(scale) : f32_to_f16(scale));
      put(scales, 2 * i + 1, static_cast<uint16_t>(zero_at<type>(source, row, group)));
    }
  }
}

template <WeightType type>
__global__ void __launch_bounds__(kThreads) repack_kernel(Source source, Planes to) {
  ptx::let_successor_start();
  ptx::wait_for_predecessor();
  const int64_t row_tile = source.slice.tile_begin + blockIdx.x / to.segment.col_tiles;
  const int64_t col_tile = blockIdx.x % to.segment.col_tiles;
  place_codes<type>(source, to, row_tile, col_tile);
  if (threadIdx.x < kTileRows) {
    place_scales<type>(source, to, row_tile, col_tile, static_cast<int>(threadIdx.x));
  }
}

template <WeightType type>
void launch_repack(const Source& source, const Planes& to, cudaStream_t stream) {
  const auto blocks = static_cast<unsigned>(source.slice.tiles * to.segment.col_tiles);
  launch(repack_kernel<type>, dim3(blocks), dim3(kThreads), 0, stream, source, to);
}

}  // namespace

void repack(const PartPlan& plan, const RepackSlice& slice, const void* staged, void* weight,
            cudaStream_t stream) {
  const WeightPart& part = *plan.part;
  const Source source{.slice = slice,
                      .staged = static_cast<const uint8_t*>(staged),
                      .row_begin = part.rows.begin,
                      .rows_of_group = part.scales.group_rows,
                      .order = part.order,
                      .head_dim = part.head_dim,
                      .zeros = part.scales.zeros != nullptr,
                      .zero_add = part.scales.zero_add,
                      .scale_type = part.scales.type};
  auto* bytes = static_cast<uint8_t*>(weight);
  const Planes to{.segment = placed_at(plan, weight),
                  .facts = plan.facts,
                  .codes = bytes + plan.at.codes,
                  .high_bits = bytes + plan.at.high_bits,
                  .scales = bytes + plan.at.scales,
                  .block_scales = bytes + plan.at.block_scales};
  switch (part.type) {
    case WeightType::q8_0:
      return launch_repack<WeightType::q8_0>(source, to, stream);
    case WeightType::q4_0:
      return launch_repack<WeightType::q4_0>(source, to, stream);
    case WeightType::q4_1:
      return launch_repack<WeightType::q4_1>(source, to, stream);
    case WeightType::q5_0:
      return launch_repack<WeightType::q5_0>(source, to, stream);
    case WeightType::q5_1:
      return launch_repack<WeightType::q5_1>(source, to, stream);
    case WeightType::q4_k:
      return launch_repack<WeightType::q4_k>(source, to, stream);
    case WeightType::q5_k:
      return launch_repack<WeightType::q5_k>(source, to, stream);
    case WeightType::q6_k:
      return launch_repack<WeightType::q6_k>(source, to, stream);
    case WeightType::f8_e4m3:
      return launch_repack<WeightType::f8_e4m3>(source, to, stream);
    case WeightType::i8:
      return launch_repack<WeightType::i8>(source, to, stream);
    case WeightType::u8:
      return launch_repack<WeightType::u8>(source, to, stream);
    case WeightType::i4_gptq:
      return launch_repack<WeightType::i4_gptq>(source, to, stream);
    case WeightType::i4_awq:
      return launch_repack<WeightType::i4_awq>(source, to, stream);
    case WeightType::i4_packed:
      return launch_repack<WeightType::i4_packed>(source, to, stream);
    case WeightType::f32:
    case WeightType::f16:
    case WeightType::bf16:
      break;
  }
  assert(!"has_codings says no");
}

}  // namespace chorus::kernels::cuda
