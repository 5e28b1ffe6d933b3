#include "kernels/cuda/repack_plan.h"

#include <algorithm>
#include <cassert>

#include "kernels/quant.h"
#include "kernels/rounding.h"

namespace chorus::kernels::cuda {
namespace {

// A part's columns from the last border of `unit` on, so that groups begin where tiles do.
void keep_order(PartPlan& plan, int64_t unit) {
  const Range& cols = plan.part->cols;
  const int64_t first = cols.begin / unit * unit;
  plan.segment.lead = cols.begin - first;
  plan.segment.col_tiles = ceil_div(cols.end - first, kTileCols);
}

// GPTQ's act-order: columns of one group stand anywhere. They are brought together, and each
// group's are filled up to a multiple of 32.
void sort_by_group(PartPlan& plan) {
  const WeightPart& part = *plan.part;
  std::vector<std::vector<int32_t>> members;
  for (int64_t c = part.cols.begin; c < part.cols.end; ++c) {
    const auto group = static_cast<size_t>(group_of(part, c));
    if (group >= members.size()) members.resize(group + 1);
    members[group].push_back(static_cast<int32_t>(c - part.cols.begin));
  }
  const auto fill_up = [&](int64_t unit) {
    plan.columns.resize(static_cast<size_t>(round_up(std::ssize(plan.columns), unit)), -1);
  };
  bool by_128 = true;
  for (const std::vector<int32_t>& columns : members) {
    plan.columns.insert(plan.columns.end(), columns.begin(), columns.end());
    by_128 = by_128 && columns.size() % 128 == 0;
    fill_up(32);
  }
  fill_up(kTileCols);
  if (by_128) plan.segment.coding = Coding::i4_by_128;
  plan.segment.col_tiles = std::ssize(plan.columns) / kTileCols;
}

bool in_order(const WeightPart& part) {
  if (part.scales.group_of_col == nullptr) return true;
  for (int64_t c = 0; c < part.source_cols; ++c) {
    if (group_of(part, c) != c / part.scales.group_cols) return false;
  }
  return true;
}

void plan_i4(PartPlan& plan) {
  const WeightPart& part = *plan.part;
  plan.segment.bf16_scales = part.scales.type == WeightType::bf16;
  const int64_t group = part.scales.group_cols;
  const bool fits = group % 32 == 0 || group >= part.source_cols;  // a tile's 32 columns share one
  if (!fits || !in_order(part)) return sort_by_group(plan);
  const bool by_128 = group % 128 == 0 || group >= part.source_cols;
  if (by_128) plan.segment.coding = Coding::i4_by_128;
  keep_order(plan, by_128 ? 128 : 32);
}

void plan_bytes(PartPlan& plan) {
  const WeightPart& part = *plan.part;
  const WeightScales& scales = part.scales;
  keep_order(plan, kTileCols);
  const bool by_cols = scales.col_stride != 0;
  const bool by_rows = scales.row_stride != 0;
  const bool by_row =
      by_rows && (scales.group_rows % kTileRows != 0 || part.rows.begin % kTileRows != 0 ||
                  part.order != RowOrder::as_stored);  // a tile's rows stand in several groups
  const int64_t entry = by_row ? kTileRows : 1;        // of a tile
  plan.segment.scale_row_stride = by_row ? 1 : 0;
  plan.segment.scale_col_tile_stride = by_cols ? entry : 0;
  plan.segment.scale_row_tile_stride = by_rows ? entry * (by_cols ? plan.segment.col_tiles : 1) : 0;
}

bool has_coding(const WeightPart& part) {
  if (!has_scales(part.type)) return block_elements(part.type) > 1;
  const WeightScales& scales = part.scales;
  const bool whole_rows = scales.col_stride == 0 || scales.group_cols >= part.source_cols;
  if (has_bytes(part.type)) return whole_rows || scales.group_cols % kTileCols == 0;
  return whole_rows || scales.group_cols % 32 == 0 || scales.group_of_col != nullptr;
}

void plan_columns(PartPlan& plan) {
  const WeightType type = plan.part->type;
  plan.segment.coding = coding_of(type);
  if (!has_scales(type)) return keep_order(plan, block_elements(type));
  if (has_bytes(type)) return plan_bytes(plan);
  plan_i4(plan);
}

// Any column of a group says which it is; the first is none that was filled in, if any is.
void list_groups(PartPlan& plan) {
  const WeightPart& part = *plan.part;
  const int64_t first = part.cols.begin - plan.segment.lead, unit = plan.facts.group;
  int64_t least = part.source_cols, most = 0;
  for (int64_t c = 0; c < plan.segment.col_tiles * kTileCols; c += unit) {
    int64_t from = std::max(part.cols.begin, first + c);
    if (!plan.columns.empty()) {
      const int32_t column = plan.columns[static_cast<size_t>(c)];
      from = column < 0 ? part.cols.end : part.cols.begin + column;
    }
    const int64_t group = from < part.cols.end ? group_of(part, from) : -1;
    plan.groups.push_back(static_cast<int32_t>(group));
    if (group < 0) continue;
    least = std::min(least, group);
    most = std::max(most, group);
  }
  for (int32_t& group : plan.groups) {
    if (group >= 0) group -= static_cast<int32_t>(least);
  }
  plan.group_begin = least;
  plan.group_count = most - least + 1;
}

PartPlan plan_of(const WeightPart& part) {
  PartPlan plan;
  plan.part = &part;
  plan_columns(plan);
  plan.facts = facts_of(plan.segment.coding);
  plan.segment.rows = part.rows.size();
  plan.segment.row_tiles = ceil_div(plan.segment.rows, kTileRows);
  if (has_scales(part.type)) list_groups(plan);
  return plan;
}

int64_t scale_plane_bytes(const PartPlan& plan) {
  const QuantisedSegment& segment = plan.segment;
  if (plan.facts.scale_bytes > 0) {
    return segment.row_tiles * segment.col_tiles * kTileRows * plan.facts.scale_bytes;
  }
  return 4 * ((segment.row_tiles - 1) * segment.scale_row_tile_stride +
              (segment.col_tiles - 1) * segment.scale_col_tile_stride +
              (kTileRows - 1) * segment.scale_row_stride + 1);
}

// --- slices

constexpr int64_t kWordBytes = sizeof(uint32_t);

// Codes of columns [first, end) and rows [rows.begin, rows.end), which begin with a word.
Runs codes_of(const WeightPart& part, Range rows, int64_t first) {
  const int64_t end = part.cols.end;
  if (part.type == WeightType::i4_gptq) {
    return {.from = part.data + (first / kWordCodes * part.source_rows + rows.begin) * kWordBytes,
            .pitch = part.source_rows * kWordBytes,
            .bytes = rows.size() * kWordBytes,
            .count = ceil_div(end - first, kWordCodes)};
  }
  if (part.type == WeightType::i4_awq) {
    const int64_t pitch = part.source_rows / kWordCodes * kWordBytes;
    return {.from = part.data + first * pitch + rows.begin / kWordCodes * kWordBytes,
            .pitch = pitch,
            .bytes = ceil_div(rows.size(), kWordCodes) * kWordBytes,
            .count = end - first};
  }
  const int64_t pitch = row_bytes(part.type, part.source_cols);
  return {.from = part.data + rows.begin * pitch + row_bytes(part.type, first),
          .pitch = pitch,
          .bytes = row_bytes(part.type, round_up(end - first, block_elements(part.type))),
          .count = rows.size()};
}

void take(RepackSlice& slice, Runs& runs) {
  runs.at = slice.bytes;
  runs.staged_pitch = round_up(runs.bytes, 16);
  slice.bytes += runs.count * runs.staged_pitch;
}

// Scales of the groups that `rows` stand in: those that lie closer together, of a row or of a
// column, are a run.
void add_scales(RepackSlice& slice, const PartPlan& plan, Range rows) {
  const WeightScales& scales = plan.part->scales;
  const int64_t element = block_bytes(scales.type);
  const Range row_groups = {rows.begin / scales.group_rows, (rows.end - 1) / scales.group_rows + 1};
  const auto elements_to = [](int64_t stride, int64_t count) { return (count - 1) * stride + 1; };
  slice.scales.from = scales.scales + element * (row_groups.begin * scales.row_stride +
                                                 plan.group_begin * scales.col_stride);
  slice.scale_row_step = scales.row_stride * element;
  slice.scale_col_step = scales.col_stride * element;
  const bool one_for_cols = scales.col_stride == 0, one_for_rows = scales.row_stride == 0;
  if (one_for_cols || (!one_for_rows && scales.col_stride >= scales.row_stride)) {
    slice.scales.pitch = slice.scale_col_step;
    slice.scales.bytes = elements_to(scales.row_stride, row_groups.size()) * element;
    slice.scales.count = one_for_cols ? 1 : plan.group_count;
    take(slice, slice.scales);
    if (!one_for_cols) slice.scale_col_step = slice.scales.staged_pitch;
  } else {
    slice.scales.pitch = slice.scale_row_step;
    slice.scales.bytes = elements_to(scales.col_stride, plan.group_count) * element;
    slice.scales.count = one_for_rows ? 1 : row_groups.size();
    take(slice, slice.scales);
    if (!one_for_rows) slice.scale_row_step = slice.scales.staged_pitch;
  }
}

// Zeros are words of eight rows: [rows / 8, groups], or GPTQ's and AWQ's [groups, rows / 8].
void add_zeros(RepackSlice& slice, const PartPlan& plan, Range rows) {
  const WeightPart& part = *plan.part;
  if (part.scales.zeros == nullptr) return;
  Runs& zeros = slice.zeros;
  const Range words = {rows.begin / kWordCodes, ceil_div(rows.end, kWordCodes)};
  slice.zero_row_step = slice.zero_col_step = kWordBytes;
  if (part.type == WeightType::i4_packed) {
    zeros.pitch = part.scales.row_stride * kWordBytes;
    zeros.from = part.scales.zeros + words.begin * zeros.pitch + plan.group_begin * kWordBytes;
    zeros.bytes = plan.group_count * kWordBytes;
    zeros.count = words.size();
    take(slice, zeros);
    slice.zero_row_step = zeros.staged_pitch;
  } else {
    zeros.pitch = ceil_div(part.source_rows, kWordCodes) * kWordBytes;
    zeros.from = part.scales.zeros + plan.group_begin * zeros.pitch + words.begin * kWordBytes;
    zeros.bytes = words.size() * kWordBytes;
    zeros.count = plan.group_count;
    take(slice, zeros);
    slice.zero_col_step = zeros.staged_pitch;
  }
}

Runs one_run(const std::vector<int32_t>& list) {
  const int64_t bytes = std::ssize(list) * int64_t{sizeof(int32_t)};
  return {.from = reinterpret_cast<const std::byte*>(list.data()),
          .pitch = bytes,
          .bytes = bytes,
          .count = list.empty() ? 0 : 1};
}

RepackSlice slice_of(const PartPlan& plan, int64_t tile_begin, int64_t tiles) {
  const WeightPart& part = *plan.part;
  RepackSlice slice{.tile_begin = tile_begin, .tiles = tiles};
  Range rows = {part.rows.begin + tile_begin * kTileRows,
                std::min(part.rows.end, part.rows.begin + (tile_begin + tiles) * kTileRows)};
  if (part.order != RowOrder::as_stored) {  // rows change places within a head
    rows = {rows.begin / part.head_dim * part.head_dim, round_up(rows.end, part.head_dim)};
  }
  rows.begin = rows.begin / kWordCodes * kWordCodes;
  slice.row_begin = rows.begin;
  const int64_t unit = std::max(block_elements(part.type), kWordCodes);
  const int64_t first = part.cols.begin / unit * unit;
  slice.column_shift = part.cols.begin - plan.segment.lead - first;
  slice.col_begin = part.cols.begin - first;
  slice.col_end = part.cols.end - first;
  slice.codes = codes_of(part, rows, first);
  take(slice, slice.codes);
  if (has_scales(part.type)) {
    add_scales(slice, plan, rows);
    add_zeros(slice, plan, rows);
    slice.groups = one_run(plan.groups);
    take(slice, slice.groups);
  }
  if (tile_begin == 0) slice.columns = one_run(plan.columns);
  take(slice, slice.columns);
  return slice;
}

}  // namespace

bool has_codings(const WeightDescription& description) {
  return std::all_of(description.parts.begin(), description.parts.end(), has_coding);
}

RepackPlan plan_repack(const WeightDescription& description) {
  assert(!description.parts.empty());
  RepackPlan plan;
  plan.cols = description.parts.front().cols.size();
  const auto take_bytes = [&](int64_t size) {
    const int64_t at = plan.bytes;
    plan.bytes += round_up(size, 256);
    return at;
  };
  for (const WeightPart& part : description.parts) {
    assert(part.cols.size() == plan.cols);
    PartPlan& made = plan.parts.emplace_back(plan_of(part));
    QuantisedSegment& segment = made.segment;
    segment.row_begin = plan.rows;
    plan.rows += segment.rows;
    const int64_t tiles = segment.row_tiles * segment.col_tiles;
    const int64_t pairs = segment.row_tiles * ((segment.col_tiles + 1) / 2);
    made.at.codes = take_bytes(tiles * code_bytes(made.facts));
    made.at.high_bits = take_bytes(tiles * high_bytes(made.facts));
    made.at.scales = take_bytes(scale_plane_bytes(made));
    made.at.block_scales = take_bytes(pairs * kTileRows * made.facts.block_scale_bytes);
    made.at.columns = take_bytes(std::ssize(made.columns) * int64_t{sizeof(int32_t)});
  }
  return plan;
}

QuantisedSegment placed_at(const PartPlan& plan, const void* base) {
  const auto* bytes = static_cast<const uint8_t*>(base);
  QuantisedSegment segment = plan.segment;
  segment.codes = bytes + plan.at.codes;
  if (plan.facts.high > 0) segment.high_bits = bytes + plan.at.high_bits;
  segment.scales = bytes + plan.at.scales;
  if (plan.facts.block_scale_bytes > 0) segment.block_scales = bytes + plan.at.block_scales;
  if (!plan.columns.empty()) {
    segment.columns = reinterpret_cast<const int32_t*>(bytes + plan.at.columns);
  }
  return segment;
}

RepackSlice slice_from(const PartPlan& plan, int64_t tile_begin, int64_t bytes_max) {
  RepackSlice slice = slice_of(plan, tile_begin, plan.segment.row_tiles - tile_begin);
  while (slice.bytes > bytes_max && slice.tiles > 1) {
    slice = slice_of(plan, tile_begin, (slice.tiles + 1) / 2);
  }
  assert(slice.bytes <= bytes_max);
  return slice;
}

}  // namespace chorus::kernels::cuda
