// Quantised weights into the planes of quantised_layout.h, as the device's kernel does it, but on
// the host and a row at a time: its codes are read from the source into a plain array of the
// segment's columns, and scattered from there. It plans columns by the same rules as
// repack_plan.cc, so a wrong rule would not show here: quantised_test.cc holds products to f64 sums
// of the source.
#pragma once

#include <algorithm>
#include <cassert>
#include <cstring>
#include <vector>

#include "kernels/cuda/device_weight.h"
#include "kernels/cuda/quantised_layout.h"
#include "kernels/half.h"
#include "kernels/quant.h"
#include "kernels/rounding.h"

namespace chorus::tests::host_repack {

using namespace kernels;
using kernels::cuda::code_bytes;
using kernels::cuda::Coding;
using kernels::cuda::CodingFacts;
using kernels::cuda::column_in_tile;
using kernels::cuda::facts_of;
using kernels::cuda::high_bytes;
using kernels::cuda::kTileCols;
using kernels::cuda::kTileRows;
using kernels::cuda::kTileSteps;
using kernels::cuda::QuantisedSegment;

// What is made of a part.
struct Plan {
  const WeightPart* part = nullptr;
  QuantisedSegment segment;  // without pointers
  CodingFacts facts;
  // Source column of each of the tiles' columns, or -1.
  std::vector<int64_t> source_cols;
  bool sorted = false;  // by group: the segment needs its list of columns
  int64_t codes_at = 0, high_at = 0, scales_at = 0, block_scales_at = 0, columns_at = 0;
  int64_t scale_plane_bytes = 0;
};

// A part's columns from the last border of `unit` on, so that groups begin where tiles do.
inline void keep_order(Plan& plan, int64_t unit) {
  const Range& cols = plan.part->cols;
  const int64_t first = cols.begin / unit * unit;
  plan.segment.lead = cols.begin - first;
  plan.source_cols.assign(static_cast<size_t>(round_up(cols.end - first, kTileCols)), -1);
  for (int64_t c = cols.begin; c < cols.end; ++c) {
    plan.source_cols[static_cast<size_t>(c - first)] = c;
  }
}

// GPTQ's act-order: columns of one group stand anywhere. They are brought together, and each
// group's are filled up to a multiple of 32.
inline void sort_by_group(Plan& plan) {
  const WeightPart& part = *plan.part;
  std::vector<int64_t> order;
  for (int64_t c = part.cols.begin; c < part.cols.end; ++c) order.push_back(c);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return group_of(part, a) < group_of(part, b); });
  bool by_128 = true;
  for (size_t i = 0; i < order.size();) {
    const int64_t group = group_of(part, order[i]);
    const size_t begin = i;
    while (i < order.size() && group_of(part, order[i]) == group) {
      plan.source_cols.push_back(order[i++]);
    }
    by_128 = by_128 && (i - begin) % 128 == 0;
    plan.source_cols.resize(
        static_cast<size_t>(round_up(static_cast<int64_t>(plan.source_cols.size()), 32)), -1);
  }
  plan.segment.coding = by_128 ? Coding::i4_by_128 : Coding::i4_by_32;
  plan.source_cols.resize(
      static_cast<size_t>(round_up(static_cast<int64_t>(plan.source_cols.size()), kTileCols)), -1);
  plan.sorted = true;
}

inline bool in_order(const WeightPart& part) {
  if (part.scales.group_of_col == nullptr) return true;
  for (int64_t c = 0; c < part.source_cols; ++c) {
    if (group_of(part, c) != c / part.scales.group_cols) return false;
  }
  return true;
}

inline void plan_i4(Plan& plan) {
  const WeightPart& part = *plan.part;
  plan.segment.bf16_scales = part.scales.type == WeightType::bf16;
  const int64_t group = part.scales.group_cols;
  const bool fits = group % 32 == 0 || group >= part.source_cols;  // a tile's 32 columns share one
  if (!fits || !in_order(part)) return sort_by_group(plan);
  if (group % 128 == 0 || group >= part.source_cols) {
    plan.segment.coding = Coding::i4_by_128;
    keep_order(plan, 128);
  } else {
    plan.segment.coding = Coding::i4_by_32;
    keep_order(plan, 32);
  }
}

inline void plan_bytes(Plan& plan) {
  const WeightPart& part = *plan.part;
  const WeightScales& scales = part.scales;
  plan.segment.coding = part.type == WeightType::f8_e4m3 ? Coding::e4m3 : Coding::i8;
  keep_order(plan, 128);
  const int64_t col_tiles = static_cast<int64_t>(plan.source_cols.size()) / kTileCols;
  const bool by_cols = scales.col_stride != 0;
  const bool by_rows = scales.row_stride != 0;
  const bool by_row =
      by_rows && (scales.group_rows % kTileRows != 0 || part.rows.begin % kTileRows != 0 ||
                  part.order != RowOrder::as_stored);  // a tile's rows stand in several groups
  const int64_t entry = by_row ? kTileRows : 1;        // of a tile
  plan.segment.scale_row_stride = by_row ? 1 : 0;
  plan.segment.scale_col_tile_stride = by_cols ? entry : 0;
  plan.segment.scale_row_tile_stride = by_rows ? entry * (by_cols ? col_tiles : 1) : 0;
}

inline Plan plan_of(const WeightPart& part) {
  Plan plan;
  plan.part = &part;
  const auto blocks = [&](Coding coding) {
    plan.segment.coding = coding;
    keep_order(plan, block_elements(part.type));
  };
  switch (part.type) {
    case WeightType::q8_0:
      blocks(Coding::q8_0);
      break;
    case WeightType::q4_0:
      blocks(Coding::q4_0);
      break;
    case WeightType::q4_1:
      blocks(Coding::q4_1);
      break;
    case WeightType::q5_0:
      blocks(Coding::q5_0);
      break;
    case WeightType::q5_1:
      blocks(Coding::q5_1);
      break;
    case WeightType::q4_k:
      blocks(Coding::q4_k);
      break;
    case WeightType::q5_k:
      blocks(Coding::q5_k);
      break;
    case WeightType::q6_k:
      blocks(Coding::q6_k);
      break;
    case WeightType::i4_gptq:
    case WeightType::i4_awq:
    case WeightType::i4_packed:
      plan_i4(plan);
      break;
    case WeightType::f8_e4m3:
    case WeightType::i8:
    case WeightType::u8:
      plan_bytes(plan);
      break;
    case WeightType::f32:
    case WeightType::f16:
    case WeightType::bf16:
      assert(!"has_codings says no");
  }
  plan.facts = facts_of(plan.segment.coding);
  QuantisedSegment& segment = plan.segment;
  segment.rows = part.rows.size();
  segment.row_tiles = round_up(segment.rows, kTileRows) / kTileRows;
  segment.col_tiles = static_cast<int64_t>(plan.source_cols.size()) / kTileCols;
  const int64_t tiles = segment.row_tiles * segment.col_tiles;
  plan.scale_plane_bytes = tiles * kTileRows * plan.facts.scale_bytes;
  if (plan.facts.scale_bytes == 0) {
    plan.scale_plane_bytes = 4 * ((segment.row_tiles - 1) * segment.scale_row_tile_stride +
                                  (segment.col_tiles - 1) * segment.scale_col_tile_stride +
                                  (kTileRows - 1) * segment.scale_row_stride + 1);
  }
  return plan;
}

// --- codes of one row

template <class Block>
Block block_at(const uint8_t* bytes) {
  Block block;
  std::memcpy(&block, bytes, sizeof block);
  return block;
}

inline void codes_of(const BlockQ8_0& block, uint8_t* out) {
  std::memcpy(out, block.quants, 32);
}

inline void split_nibbles(const uint8_t* bytes, int count, uint8_t* out) {
  for (int i = 0; i < count; ++i) {
    out[i] = bytes[i] & 15;
    out[count + i] = bytes[i] >> 4;
  }
}

inline void codes_of(const BlockQ4_0& block, uint8_t* out) {
  split_nibbles(block.nibbles, 16, out);
}

inline void codes_of(const BlockQ4_1& block, uint8_t* out) {
  split_nibbles(block.nibbles, 16, out);
}

template <class Block>
void five_bits_of(const Block& block, uint8_t* out) {
  split_nibbles(block.nibbles, 16, out);
  for (int i = 0; i < 32; ++i) {
    out[i] = static_cast<uint8_t>(out[i] | ((block.fifth_bits[i / 8] >> (i % 8)) & 1) << 4);
  }
}
inline void codes_of(const BlockQ5_0& block, uint8_t* out) {
  five_bits_of(block, out);
}
inline void codes_of(const BlockQ5_1& block, uint8_t* out) {
  five_bits_of(block, out);
}

inline void codes_of(const BlockQ4_K& block, uint8_t* out) {
  for (int pair = 0; pair < 4; ++pair) {
    split_nibbles(block.nibbles + 32 * pair, 32, out + 64 * pair);
  }
}

inline void codes_of(const BlockQ5_K& block, uint8_t* out) {
  for (int pair = 0; pair < 4; ++pair) {
    split_nibbles(block.nibbles + 32 * pair, 32, out + 64 * pair);
  }
  for (int i = 0; i < 256; ++i) {
    out[i] = static_cast<uint8_t>(out[i] | ((block.fifth_bits[i % 32] >> (i / 32)) & 1) << 4);
  }
}

inline void codes_of(const BlockQ6_K& block, uint8_t* out) {
  for (int i = 0; i < 256; ++i) {
    const int half = i / 128, quarter = i / 32 % 4, at = i % 32;
    const int low = block.low_bits[64 * half + 32 * (quarter % 2) + at] >> (quarter / 2 * 4);
    const int high = block.high_bits[32 * half + at] >> (2 * quarter);
    out[i] = static_cast<uint8_t>((low & 15) | (high & 3) << 4);
  }
}

inline void codes_of(WeightType type, const uint8_t* block, uint8_t* out) {
  switch (type) {
    case WeightType::q8_0:
      return codes_of(block_at<BlockQ8_0>(block), out);
    case WeightType::q4_0:
      return codes_of(block_at<BlockQ4_0>(block), out);
    case WeightType::q4_1:
      return codes_of(block_at<BlockQ4_1>(block), out);
    case WeightType::q5_0:
      return codes_of(block_at<BlockQ5_0>(block), out);
    case WeightType::q5_1:
      return codes_of(block_at<BlockQ5_1>(block), out);
    case WeightType::q4_k:
      return codes_of(block_at<BlockQ4_K>(block), out);
    case WeightType::q5_k:
      return codes_of(block_at<BlockQ5_K>(block), out);
    case WeightType::q6_k:
      return codes_of(block_at<BlockQ6_K>(block), out);
    default:
      assert(false);
  }
}

inline const uint8_t* first_block(const WeightPart& part, int64_t stored) {
  const int64_t first = part.cols.begin / block_elements(part.type) * block_elements(part.type);
  return reinterpret_cast<const uint8_t*>(part.data) +
         stored * row_bytes(part.type, part.source_cols) + row_bytes(part.type, first);
}

// `codes` has room for the segment's columns and is zero; `whole` is memory to work in.
inline void read_row(const Plan& plan, int64_t stored, std::vector<uint8_t>& codes,
                     std::vector<uint8_t>& whole) {
  const WeightPart& part = *plan.part;
  if (!has_scales(part.type)) {
    const uint8_t* block = first_block(part, stored);
    const int64_t elements = block_elements(part.type);
    const int64_t count = part.cols.size() + plan.segment.lead;
    whole.resize(static_cast<size_t>(round_up(count, elements)));
    for (int64_t c = 0; c < count; c += elements) {
      codes_of(part.type, block, whole.data() + c);
      block += block_bytes(part.type);
    }
    std::copy(whole.begin() + plan.segment.lead, whole.begin() + count,
              codes.begin() + plan.segment.lead);
    return;
  }
  whole.resize(static_cast<size_t>(part.cols.size()));
  read_codes(part, stored, part.cols, whole.data());
  for (size_t c = 0; c < codes.size(); ++c) {
    const int64_t from = plan.source_cols[c];
    if (from >= 0) codes[c] = whole[static_cast<size_t>(from - part.cols.begin)];
  }
}

// --- into the planes

template <class T>
inline void or_into(uint8_t* bytes, T value) {
  T old;
  std::memcpy(&old, bytes, sizeof(T));
  old = static_cast<T>(old | value);
  std::memcpy(bytes, &old, sizeof(T));
}

// The codes of row `row` (of 16) of a tile.
inline void place_codes(const CodingFacts& facts, int row, const uint8_t* codes, uint8_t* low,
                        uint8_t* high) {
  for (int step = 0; step < kTileSteps; ++step) {
    for (int at = 0; at < 16; ++at) {
      const int t = at % 4, half = at / 4 % 2, e = at / 8;
      const int i = row / 8 + 2 * half, lane = row % 8 * 4 + t;
      const uint32_t code = codes[column_in_tile(facts.group, step, t, i, e)];
      if (facts.bits == 4) {
        uint8_t* word = low + step / 4 * 512 + lane * 16 + step % 4 * 4;
        or_into<uint32_t>(word, (code & 15) << (4 * (i + 4 * e)));
      } else {
        const int idx = 2 * step + i / 2;
        low[idx / 4 * 512 + lane * 16 + idx % 4 * 4 + i % 2 + 2 * e] = static_cast<uint8_t>(code);
      }
      if (facts.high == 1) {
        or_into<uint32_t>(high + lane * 8 + step / 4 * 4, (code >> 4)
                                                              << (4 * (step % 4) + i + 16 * e));
      } else if (facts.high == 2) {
        or_into<uint32_t>(high + lane * 16 + step / 2 * 4,
                          (code >> 4) << (8 * (step % 2) + 2 * i + 16 * e));
      }
    }
  }
}

inline void put_16(uint8_t* to, uint16_t value) {
  std::memcpy(to, &value, 2);
}

// The scales of one row: `at(tile)` is the row's place in a tile, `at_block(block)` its place in a
// pair of tiles.
template <class Place, class BlockPlace>
inline void place_block_scales(const Plan& plan, int64_t stored, const Place& at,
                               const BlockPlace& at_block) {
  const WeightPart& part = *plan.part;
  const uint8_t* from = first_block(part, stored);
  const int64_t elements = block_elements(part.type);
  const int64_t count = part.cols.size() + plan.segment.lead;
  for (int64_t c = 0; c < count; c += elements, from += block_bytes(part.type)) {
    uint8_t* to = at(c / kTileCols);
    const int64_t group = c % kTileCols / 32;
    switch (part.type) {
      case WeightType::q8_0:
      case WeightType::q4_0:
      case WeightType::q5_0:
        std::memcpy(to + 2 * group, from, 2);
        break;
      case WeightType::q4_1:
      case WeightType::q5_1:
        std::memcpy(to + 4 * group, from, 4);
        break;
      case WeightType::q4_k:
      case WeightType::q5_k: {
        const auto block = block_at<BlockQ4_K>(from);  // they begin alike
        std::memcpy(at_block(c / 256), from, 4);
        for (int p = 0; p < 8 && c / kTileCols + p / 4 < plan.segment.col_tiles; ++p) {
          const PartScaleK scale = part_scale_of(block.part_scales, p);
          uint8_t* pair = at(c / kTileCols + p / 4) + 2 * (p % 4);
          pair[0] = scale.scale;
          pair[1] = scale.minimum;
        }
        break;
      }
      case WeightType::q6_k: {
        const auto block = block_at<BlockQ6_K>(from);
        put_16(at_block(c / 256), block.scale);
        for (int half = 0; half < 2 && c / kTileCols + half < plan.segment.col_tiles; ++half) {
          std::memcpy(at(c / kTileCols + half), block.part_scales + 8 * half, 8);
        }
        break;
      }
      default:
        assert(false);
    }
  }
}

template <class Place>
inline void place_i4_scales(const Plan& plan, int64_t stored, const Place& at) {
  const WeightPart& part = *plan.part;
  const int64_t unit = plan.facts.group;
  for (int64_t c = 0; c < static_cast<int64_t>(plan.source_cols.size()); c += unit) {
    int64_t from = -1;  // any column of the group
    for (int64_t i = 0; i < unit && from < 0; ++i) {
      from = plan.source_cols[static_cast<size_t>(c + i)];
    }
    if (from < 0) continue;
    const int64_t group = group_of(part, from);
    const float scale = group_scale(part, stored, group);
    uint8_t* to = at(c / kTileCols) + c % kTileCols / unit * 4;
    put_16(to, plan.segment.bf16_scales ? f32_to_bf16(scale) : f32_to_f16(scale));
    put_16(to + 2, static_cast<uint16_t>(group_zero(part, stored, group)));
  }
}

// All of a segment's: several row tiles may share one, so no thread owns it.
inline void place_byte_scales(const Plan& plan, uint8_t* plane) {
  const WeightPart& part = *plan.part;
  const QuantisedSegment& segment = plan.segment;
  const int64_t first = part.cols.begin - segment.lead;
  for (int64_t row = 0; row < segment.rows; ++row) {
    const int64_t stored = stored_row(part.rows.begin + row, part.order, part.head_dim);
    for (int64_t tile = 0; tile < segment.col_tiles; ++tile) {
      const int64_t col = std::max(part.cols.begin, first + tile * kTileCols);
      const float scale = group_scale(part, stored, group_of(part, col));
      std::memcpy(plane + 4 * (row / kTileRows * segment.scale_row_tile_stride +
                               tile * segment.scale_col_tile_stride +
                               row % kTileRows * segment.scale_row_stride),
                  &scale, 4);
    }
  }
}

inline void place_row(const Plan& plan, int64_t row, uint8_t* bytes, std::vector<uint8_t>& codes,
                      std::vector<uint8_t>& whole) {
  const WeightPart& part = *plan.part;
  const QuantisedSegment& segment = plan.segment;
  const int64_t stored = stored_row(part.rows.begin + row, part.order, part.head_dim);
  const int64_t row_tile = row / kTileRows, in_tile = row % kTileRows;
  codes.assign(plan.source_cols.size(), 0);
  read_row(plan, stored, codes, whole);
  for (int64_t tile = 0; tile < segment.col_tiles; ++tile) {
    const int64_t idx = row_tile * segment.col_tiles + tile;
    place_codes(plan.facts, static_cast<int>(in_tile), codes.data() + tile * kTileCols,
                bytes + plan.codes_at + idx * code_bytes(plan.facts),
                bytes + plan.high_at + idx * high_bytes(plan.facts));
  }
  const auto at = [&](int64_t tile) {
    return bytes + plan.scales_at +
           ((row_tile * segment.col_tiles + tile) * kTileRows + in_tile) * plan.facts.scale_bytes;
  };
  const auto at_block = [&](int64_t block) {
    return bytes + plan.block_scales_at +
           ((row_tile * ((segment.col_tiles + 1) / 2) + block) * kTileRows + in_tile) *
               plan.facts.block_scale_bytes;
  };
  if (plan.facts.scale_bytes == 0) return;  // place_byte_scales
  if (has_scales(part.type)) {
    place_i4_scales(plan, stored, at);
  } else {
    place_block_scales(plan, stored, at, at_block);
  }
}

// The memory of the whole weight.
inline std::vector<uint8_t> repack(const std::vector<WeightPart>& parts) {
  std::vector<uint8_t> bytes;
  std::vector<uint8_t> codes, whole;
  for (const WeightPart& part : parts) {
    Plan plan = plan_of(part);
    const QuantisedSegment& segment = plan.segment;
    const auto take = [&](int64_t size) {
      const int64_t at = std::ssize(bytes);
      bytes.resize(static_cast<size_t>(at + round_up(size, 256)));
      return at;
    };
    const int64_t tiles = segment.row_tiles * segment.col_tiles;
    plan.codes_at = take(tiles * code_bytes(plan.facts));
    plan.high_at = take(tiles * high_bytes(plan.facts));
    plan.scales_at = take(plan.scale_plane_bytes);
    plan.block_scales_at = take(segment.row_tiles * ((segment.col_tiles + 1) / 2) * kTileRows *
                                plan.facts.block_scale_bytes);
    if (plan.sorted) {
      plan.columns_at = take(4 * segment.col_tiles * kTileCols);
      auto* columns = reinterpret_cast<int32_t*>(bytes.data() + plan.columns_at);
      for (size_t c = 0; c < plan.source_cols.size(); ++c) {
        const int64_t from = plan.source_cols[c];
        columns[c] = from < 0 ? -1 : static_cast<int32_t>(from - part.cols.begin);
      }
    }
    if (plan.facts.scale_bytes == 0) {
      place_byte_scales(plan, bytes.data() + plan.scales_at);
    }
    for (int64_t row = 0; row < segment.rows; ++row) {
      place_row(plan, row, bytes.data(), codes, whole);
    }
  }
  return bytes;
}

}  // namespace chorus::tests::host_repack
