// What becomes of quantised weights on the device: which coding, where the planes of
// quantised_layout.h stand in the weight's memory, and in which slices a part's bytes travel there.
// Host code without CUDA; repack.h has the kernel that writes the planes.
//
// A slice is a number of a segment's row tiles. What it needs of the source (codes, scales, zeros)
// is a few sets of equal runs of bytes, which are laid behind one another in a buffer, widened to
// whole blocks, words and heads. The codes of a type lie differently (rows of blocks, GPTQ's words
// of eight columns, AWQ's of eight rows), but each is a set of runs with one pitch.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/cuda/device_weight.h"
#include "kernels/cuda/quantised_layout.h"
#include "kernels/weight.h"

namespace chorus::kernels::cuda {

// Whether every part is quantised in a way that has a coding on the device. What has not (a weight
// with plain parts among them, groups of 16 columns) can still be dequantised.
bool has_codings(const WeightDescription& description);

// Bytes from the beginning of the weight's memory.
struct PlanesAt {
  int64_t codes = 0, high_bits = 0, scales = 0, block_scales = 0, columns = 0;
};

struct PartPlan {
  const WeightPart* part = nullptr;  // of the description
  QuantisedSegment segment;          // without pointers
  CodingFacts facts;
  PlanesAt at;
  // Input column of each of the tiles' columns, or -1; empty where they keep their order.
  std::vector<int32_t> columns;
  // Of types with scales beside them: the group of each facts.group columns of the tiles, counted
  // from group_begin, or -1 where they are padding.
  std::vector<int32_t> groups;
  int64_t group_begin = 0, group_count = 0;
};

struct RepackPlan {
  int64_t rows = 0, cols = 0, bytes = 0;
  std::vector<PartPlan> parts;
};

// Every part must have a coding. The description must live as long as the plan.
RepackPlan plan_repack(const WeightDescription& description);

// The segment of a part in a weight that stands at `base`, aligned to 256 bytes.
QuantisedSegment placed_at(const PartPlan& plan, const void* base);

// `count` runs of `bytes`, `pitch` apart in the source and `staged_pitch` in the buffer.
struct Runs {
  const std::byte* from = nullptr;
  int64_t pitch = 0, bytes = 0, count = 0;
  int64_t at = 0, staged_pitch = 0;  // multiples of 16
};

struct RepackSlice {
  int64_t tile_begin = 0, tiles = 0;  // of the segment's row tiles
  int64_t row_begin = 0;              // row of the source that stands first; a multiple of 8
  // Columns of the source are counted from the first one in the buffer: the tiles' column c is
  // column_shift + c or, where there is a list, col_begin + columns[c]; wanted are
  // [col_begin, col_end).
  int64_t column_shift = 0, col_begin = 0, col_end = 0;
  Runs codes = {}, scales = {}, zeros = {}, groups = {};
  // From one row of groups, and from one group of columns, to the next scale; the same of zeros,
  // where a row is a word of eight.
  int64_t scale_row_step = 0, scale_col_step = 0, zero_row_step = 0, zero_col_step = 0;
  Runs columns = {};  // the list, in the first slice
  int64_t bytes = 0;  // of the buffer
};

// As many row tiles from `tile_begin` on as `bytes_max` hold, one at least.
RepackSlice slice_from(const PartPlan& plan, int64_t tile_begin, int64_t bytes_max);

}  // namespace chorus::kernels::cuda
