#include "kernels/cpu/packed_weight.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "kernels/half.h"
#include "kernels/quant.h"
#include "kernels/rounding.h"

namespace chorus::kernels {
namespace {

// What packing needs to know of a type; see the layouts in the header and GGUF's blocks below.
struct PackFormat {
  DotKind kind;
  Correction correction;
  int64_t source_cols, source_bytes;  // of a source block
  int64_t scale_bytes, scale_cols;    // packed scales of 16 rows: bytes per so many columns
  int64_t quant_bytes;                // packed quants of 16 rows and 32 columns
};

PackFormat format_of(WeightType type) {
  switch (type) {
    case WeightType::q8_0:
      return {DotKind::q8_0, Correction::offset128, 32, 34, 32, 32, 512};
    case WeightType::q4_0:
      return {DotKind::q4_0, Correction::offset8, 32, 18, 32, 32, 256};
    case WeightType::q4_1:
      return {DotKind::q4_1, Correction::minimum, 32, 20, 64, 32, 256};
    case WeightType::q5_0:
      return {DotKind::q5_0, Correction::offset16, 32, 22, 32, 32, 320};
    case WeightType::q5_1:
      return {DotKind::q5_1, Correction::minimum, 32, 24, 64, 32, 320};
    case WeightType::q4_k:
      return {DotKind::q4_k, Correction::minimum, 256, 144, 320, 256, 256};
    case WeightType::q5_k:
      return {DotKind::q5_k, Correction::minimum, 256, 176, 320, 256, 320};
    case WeightType::q6_k:
      return {DotKind::q6_k, Correction::offset32_halves, 256, 210, 288, 256, 384};
    case WeightType::f32:
      return {DotKind::f32, Correction::minimum, 1, 4, 0, 1, 64};
    case WeightType::f16:
      return {DotKind::f16, Correction::minimum, 1, 2, 0, 1, 32};
    case WeightType::bf16:
    case WeightType::f8_e4m3:  // what has scales beside it is packed as bf16
    case WeightType::i8:
    case WeightType::u8:
    case WeightType::i4_gptq:
    case WeightType::i4_awq:
    case WeightType::i4_packed:
      return {DotKind::bf16, Correction::minimum, 1, 2, 0, 1, 32};
  }
  assert(false);
  return {};
}

bool quantised(const PackFormat& format) {
  return format.source_cols > 1;
}

// One source block taken apart: unsigned weights, and its scales as stored.
struct SourceBlock {
  uint8_t quants[256];
  uint8_t scales[16], minima[8];
};

void split_nibbles(const uint8_t* bytes, int count, uint8_t* quants) {
  for (int i = 0; i < count; ++i) {
    quants[i] = bytes[i] & 15;
    quants[count + i] = bytes[i] >> 4;
  }
}

// The fifth bits of Q5_0 and Q5_1, then their nibbles.
void read_five_bits(const uint8_t* bits, SourceBlock& out) {
  uint32_t top;
  std::memcpy(&top, bits, 4);
  split_nibbles(bits + 4, 16, out.quants);
  for (int i = 0; i < 32; ++i) out.quants[i] |= static_cast<uint8_t>(((top >> i) & 1) << 4);
}

// What Q4_K and Q5_K begin with: 8 scales and 8 minima of 6 bits in 12 bytes.
void read_part_scales(const uint8_t* block, SourceBlock& out) {
  const uint8_t* packed = block + 4;
  for (int i = 0; i < 4; ++i) {
    out.scales[i] = packed[i] & 63;
    out.minima[i] = packed[4 + i] & 63;
    out.scales[4 + i] = static_cast<uint8_t>((packed[8 + i] & 15) | (packed[i] >> 6 << 4));
    out.minima[4 + i] = static_cast<uint8_t>((packed[8 + i] >> 4) | (packed[4 + i] >> 6 << 4));
  }
}

void read_q4_k(const uint8_t* block, SourceBlock& out) {
  read_part_scales(block, out);
  for (int i = 0; i < 4; ++i) split_nibbles(block + 16 + 32 * i, 32, out.quants + 64 * i);
}

void read_q5_k(const uint8_t* block, SourceBlock& out) {
  read_part_scales(block, out);
  const uint8_t* top = block + 16;
  for (int i = 0; i < 4; ++i) split_nibbles(block + 48 + 32 * i, 32, out.quants + 64 * i);
  for (int i = 0; i < 256; ++i) {
    out.quants[i] |= static_cast<uint8_t>(((top[i % 32] >> (i / 32)) & 1) << 4);
  }
}

void read_q6_k(const uint8_t* block, SourceBlock& out) {
  for (int half = 0; half < 2; ++half) {
    const uint8_t* low = block + 64 * half;
    const uint8_t* high = block + 128 + 32 * half;
    uint8_t* quants = out.quants + 128 * half;
    for (int i = 0; i < 32; ++i) {
      quants[i] = static_cast<uint8_t>((low[i] & 15) | ((high[i] & 3) << 4));
      quants[32 + i] = static_cast<uint8_t>((low[32 + i] & 15) | ((high[i] >> 2 & 3) << 4));
      quants[64 + i] = static_cast<uint8_t>((low[i] >> 4) | ((high[i] >> 4 & 3) << 4));
      quants[96 + i] = static_cast<uint8_t>((low[32 + i] >> 4) | ((high[i] >> 6) << 4));
    }
  }
  std::memcpy(out.scales, block + 192, 16);
}

void read_block(WeightType type, const uint8_t* block, SourceBlock& out) {
  switch (type) {
    case WeightType::q8_0:
      for (int i = 0; i < 32; ++i) out.quants[i] = block[2 + i] ^ 128;
      return;
    case WeightType::q4_0:
      split_nibbles(block + 2, 16, out.quants);
      return;
    case WeightType::q4_1:
      split_nibbles(block + 4, 16, out.quants);
      return;
    case WeightType::q5_0:
      read_five_bits(block + 2, out);
      return;
    case WeightType::q5_1:
      read_five_bits(block + 4, out);
      return;
    case WeightType::q4_k:
      read_q4_k(block, out);
      return;
    case WeightType::q5_k:
      read_q5_k(block, out);
      return;
    case WeightType::q6_k:
      read_q6_k(block, out);
      return;
    default:
      break;
  }
  assert(false);
}

// Writes one row's f16 scales and small scales of a source block into the group's.
void place_scales(WeightType type, const uint8_t* block, const SourceBlock& source, int lane,
                  uint8_t* scales) {
  switch (type) {
    case WeightType::q8_0:
    case WeightType::q4_0:
    case WeightType::q5_0:
      std::memcpy(scales + lane * 2, block, 2);
      return;
    case WeightType::q4_1:
    case WeightType::q5_1:
      std::memcpy(scales + lane * 2, block, 2);
      std::memcpy(scales + 32 + lane * 2, block + 2, 2);
      return;
    case WeightType::q4_k:
    case WeightType::q5_k:
      std::memcpy(scales + lane * 2, block, 2);
      std::memcpy(scales + 32 + lane * 2, block + 2, 2);
      for (int i = 0; i < 8; ++i) scales[64 + 16 * i + lane] = source.scales[i];
      for (int i = 0; i < 8; ++i) scales[192 + 16 * i + lane] = source.minima[i];
      return;
    case WeightType::q6_k:
      std::memcpy(scales + lane * 2, block + 208, 2);
      for (int i = 0; i < 16; ++i) scales[32 + 16 * i + lane] = source.scales[i];
      return;
    default:
      break;
  }
  assert(false);
}

// Writes 32 weights of one row; four columns at a time, a byte each in one word.
void place_quants(WeightType type, const uint8_t* weights, int lane, uint8_t* quants) {
  uint32_t kgroups[8];
  std::memcpy(kgroups, weights, 32);
  uint8_t* at = quants + lane * 4;
  if (type == WeightType::q8_0) {
    for (int j = 0; j < 8; ++j) std::memcpy(at + 64 * j, &kgroups[j], 4);
    return;
  }
  uint32_t top[2] = {};  // of five bits: one word; of six: one for each four kgroups
  for (int j = 0; j < 8; ++j) {
    const uint32_t upper = (kgroups[j] >> 4) & 0x03030303u;
    if (type == WeightType::q6_k) {
      top[j / 4] |= upper << (2 * (j % 4));
    } else {
      top[0] |= upper << j;
    }
  }
  for (int i = 0; i < 4; ++i) {
    const uint32_t both =
        (kgroups[2 * i] & 0x0f0f0f0fu) | ((kgroups[2 * i + 1] & 0x0f0f0f0fu) << 4);
    std::memcpy(at + 64 * i, &both, 4);
  }
  if (type == WeightType::q5_0 || type == WeightType::q5_1 || type == WeightType::q5_k) {
    std::memcpy(at + 256, &top[0], 4);
  }
  if (type == WeightType::q6_k) {
    std::memcpy(at + 256, &top[0], 4);
    std::memcpy(at + 320, &top[1], 4);
  }
}

struct SegmentSource {
  const WeightPart* part = nullptr;
  PackFormat format;
  int64_t first_col = 0;  // on a block's border
};

void pack_quantised_row(const SegmentSource& source, const uint8_t* row, int64_t cols, int lane,
                        uint8_t* scales, uint8_t* quants) {
  const PackFormat& format = source.format;
  const WeightType type = source.part->type;
  const uint8_t* block = row + source.first_col / format.source_cols * format.source_bytes;
  SourceBlock taken;
  for (int64_t col = 0; col < cols; col += format.source_cols) {
    read_block(type, block, taken);
    place_scales(type, block, taken, lane, scales + col / format.scale_cols * format.scale_bytes);
    for (int64_t i = 0; i < format.source_cols; i += kBlockCols) {
      place_quants(type, taken.quants + i, lane,
                   quants + (col + i) / kBlockCols * format.quant_bytes);
    }
    block += format.source_bytes;
  }
}

// One row of a part with scales beside it, as bf16.
void pack_rounded_row(const WeightPart& part, int64_t row, int lane, uint8_t* group) {
  std::vector<float> values(static_cast<size_t>(part.cols.size()));
  dequantize_row(part, part.rows.begin + row, part.cols, values.data());
  for (size_t c = 0; c < values.size(); ++c) {
    const uint16_t rounded = f32_to_bf16(values[c]);
    std::memcpy(group + (c * kLaneRows + static_cast<size_t>(lane)) * 2, &rounded, 2);
  }
}

// Rows of a group beyond the part's last stay zero: scales of zero.
void pack_group(const SegmentSource& source, const PackedSegment& segment, int64_t group) {
  const WeightPart& part = *source.part;
  auto* to = const_cast<uint8_t*>(segment.data) + group * segment.group_bytes;
  const int64_t stride = row_bytes(part.type, part.source_cols);
  for (int lane = 0; lane < kLaneRows; ++lane) {
    const int64_t row = group * kLaneRows + lane;
    if (row >= segment.rows) return;
    if (has_scales(part.type)) {
      pack_rounded_row(part, row, lane, to);
      continue;
    }
    const int64_t stored = stored_row(part.rows.begin + row, part.order, part.head_dim);
    const auto* from = reinterpret_cast<const uint8_t*>(part.data) + stored * stride;
    if (segment.quantised) {
      pack_quantised_row(source, from, segment.blocks * kBlockCols, lane, to,
                         to + segment.quants_offset);
    } else {
      const int64_t size = source.format.source_bytes;
      for (int64_t c = 0; c < segment.blocks; ++c) {
        std::memcpy(to + (c * kLaneRows + lane) * size, from + (part.cols.begin + c) * size, size);
      }
    }
  }
}

// The column range of the activations' blocks: whole blocks of the coarsest type.
Range padded_cols(const WeightDescription& description) {
  int64_t unit = 1;
  for (const WeightPart& part : description.parts) {
    unit = std::max(unit, format_of(part.type).source_cols);
  }
  const Range& cols = description.parts.front().cols;
  return {cols.begin / unit * unit, round_up(cols.end, unit)};
}

PackedSegment plan_segment(const WeightPart& part, const PackFormat& format, const Range& padded) {
  PackedSegment segment;
  segment.kind = format.kind;
  segment.quantised = quantised(format);
  segment.correction = format.correction;
  segment.rows = part.rows.size();
  segment.groups = ceil_div(segment.rows, kLaneRows);
  if (segment.quantised) {
    assert(part.source_cols % format.source_cols == 0);
    segment.blocks = padded.size() / kBlockCols;
    segment.quants_offset = round_up(padded.size() / format.scale_cols * format.scale_bytes, 64);
    segment.group_bytes = segment.quants_offset + segment.blocks * format.quant_bytes;
  } else {
    segment.blocks = part.cols.size();
    segment.group_bytes = segment.blocks * format.quant_bytes;
  }
  segment.group_bytes = round_up(segment.group_bytes, 64);
  return segment;
}

float float_at(const std::byte* data, WeightType type, int64_t index) {
  float value = 0;
  dequantize_row(type, data, index, index + 1, &value);
  return value;
}

}  // namespace

std::shared_ptr<const MatrixWeight> pack_matrix(const WeightDescription& description,
                                                Workers& workers) {
  assert(!description.parts.empty());
  auto weight = std::make_shared<MatrixWeight>();
  const Range padded = padded_cols(description);
  const Range cols = description.parts.front().cols;
  weight->cols = cols.size();
  weight->lead = cols.begin - padded.begin;
  weight->blocks = padded.size() / kBlockCols;
  std::vector<SegmentSource> sources;
  std::vector<int64_t> offsets;
  for (const WeightPart& part : description.parts) {
    assert(part.cols == cols);
    const PackFormat format = format_of(part.type);
    PackedSegment segment = plan_segment(part, format, padded);
    segment.row_begin = weight->rows;
    if (segment.quantised) {
      weight->any_quantised = true;
      weight->corrections[static_cast<int>(segment.correction)] = true;
    } else {
      weight->any_floats = true;
    }
    weight->rows += segment.rows;
    sources.push_back({&part, format, padded.begin});
    offsets.push_back(weight->bytes);
    weight->bytes += segment.groups * segment.group_bytes;
    weight->segments.push_back(segment);
  }
  weight->memory = Memory(weight->bytes);
  int64_t groups = 0;
  for (size_t i = 0; i < weight->segments.size(); ++i) {
    weight->segments[i].data = reinterpret_cast<uint8_t*>(weight->memory.data()) + offsets[i];
    groups += weight->segments[i].groups;
  }
  Phase packing;
  packing.chunks = [groups] { return groups; };
  packing.run = [&](int64_t group, int) {
    size_t i = 0;
    while (group >= weight->segments[i].groups) group -= weight->segments[i++].groups;
    pack_group(sources[i], weight->segments[i], group);
  };
  workers.run({packing});
  return weight;
}

std::shared_ptr<const VectorWeight> pack_vector(const VectorDescription& description) {
  auto weight = std::make_shared<VectorWeight>();
  for (const VectorDescription::Part& part : description.parts) {
    for (int64_t i = part.range.begin; i < part.range.end; ++i) {
      const int64_t stored = stored_row(i, part.order, part.head_dim);
      weight->values.push_back(float_at(part.data, part.type, stored) + description.add);
    }
  }
  weight->rows = static_cast<int64_t>(weight->values.size());
  weight->cols = 1;
  weight->bytes = weight->rows * 4;
  return weight;
}

std::shared_ptr<const TableWeight> refer_to_table(const WeightPart& part) {
  auto weight = std::make_shared<TableWeight>();
  weight->part = part;
  weight->rows = part.rows.size();
  weight->cols = part.cols.size();
  return weight;  // `bytes` stays 0: nothing is held beside the mapped file
}

}  // namespace chorus::kernels
