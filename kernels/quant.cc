// Blocks to floats, one function a type, in the order of elements. Speed matters little here: the
// fast paths work on packed integers and only gather an embedding's rows through this file.
#include "kernels/quant.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "kernels/half.h"
#include "kernels/rounding.h"

namespace chorus::kernels {
namespace {

constexpr int kElementsMax = 256;

template <class T>
T element(const std::byte* data, int64_t index) {
  T value;  // a checkpoint's arrays stand anywhere in the file
  std::memcpy(&value, data + index * static_cast<int64_t>(sizeof(T)), sizeof(T));
  return value;
}

uint8_t nibble_of(uint32_t word, int place) {
  return static_cast<uint8_t>((word >> (4 * place)) & 15);
}

void expand(const BlockQ8_0& block, float* out) {
  const float scale = f16_to_f32(block.scale);
  for (int i = 0; i < 32; ++i) out[i] = static_cast<float>(block.quants[i]) * scale;
}

void expand(const BlockQ4_0& block, float* out) {
  const float scale = f16_to_f32(block.scale);
  for (int i = 0; i < 16; ++i) {
    out[i] = static_cast<float>((block.nibbles[i] & 15) - 8) * scale;
    out[16 + i] = static_cast<float>((block.nibbles[i] >> 4) - 8) * scale;
  }
}

void expand(const BlockQ4_1& block, float* out) {
  const float scale = f16_to_f32(block.scale);
  const float minimum = f16_to_f32(block.minimum);
  for (int i = 0; i < 16; ++i) {
    out[i] = static_cast<float>(block.nibbles[i] & 15) * scale + minimum;
    out[16 + i] = static_cast<float>(block.nibbles[i] >> 4) * scale + minimum;
  }
}

// The five bits of element i.
template <class Block>
int five_bits(const Block& block, int i) {
  const int nibble = i < 16 ? block.nibbles[i] & 15 : block.nibbles[i - 16] >> 4;
  return nibble | ((block.fifth_bits[i / 8] >> (i % 8)) & 1) << 4;
}

void expand(const BlockQ5_0& block, float* out) {
  const float scale = f16_to_f32(block.scale);
  for (int i = 0; i < 32; ++i) out[i] = static_cast<float>(five_bits(block, i) - 16) * scale;
}

void expand(const BlockQ5_1& block, float* out) {
  const float scale = f16_to_f32(block.scale);
  const float minimum = f16_to_f32(block.minimum);
  for (int i = 0; i < 32; ++i) out[i] = static_cast<float>(five_bits(block, i)) * scale + minimum;
}

// Q4_K and Q5_K; fifth_bit(part, i) is 0 or 16.
template <class Block, class FifthBit>
void expand_parts(const Block& block, const FifthBit& fifth_bit, float* out) {
  const float scale = f16_to_f32(block.scale);
  const float minimum = f16_to_f32(block.minimum);
  for (int part = 0; part < 8; ++part) {
    const PartScaleK packed = part_scale_of(block.part_scales, part);
    const float part_scale = scale * static_cast<float>(packed.scale);
    const float part_minimum = minimum * static_cast<float>(packed.minimum);
    const uint8_t* nibbles = block.nibbles + part / 2 * 32;
    const int shift = part % 2 * 4;
    for (int i = 0; i < 32; ++i) {
      const int q = ((nibbles[i] >> shift) & 15) | fifth_bit(part, i);
      out[part * 32 + i] = part_scale * static_cast<float>(q) - part_minimum;
    }
  }
}
void expand(const BlockQ4_K& block, float* out) {
  expand_parts(
      block, [](int, int) { return 0; }, out);
}
void expand(const BlockQ5_K& block, float* out) {
  const auto bit = [&](int part, int i) { return ((block.fifth_bits[i] >> part) & 1) << 4; };
  expand_parts(block, bit, out);
}

void expand(const BlockQ6_K& block, float* out) {
  const float scale = f16_to_f32(block.scale);
  for (int i = 0; i < 256; ++i) {
    const int half = i / 128, quarter = i / 32 % 4, at = i % 32;
    const int low = (block.low_bits[64 * half + 32 * (quarter % 2) + at] >> (quarter / 2 * 4)) & 15;
    const int high = (block.high_bits[32 * half + at] >> (2 * quarter)) & 3;
    const float part_scale = scale * static_cast<float>(block.part_scales[i / 16]);
    out[i] = part_scale * static_cast<float>((low | high << 4) - 32);
  }
}

template <class Block>
void expand_range(const std::byte* row, int64_t begin, int64_t end, float* out) {
  constexpr int64_t kElements = Block::kElements;
  float whole[kElementsMax];
  for (int64_t at = begin; at < end;) {
    const int64_t first = at / kElements * kElements;
    const int64_t next = std::min(first + kElements, end);
    Block block;  // rows stand anywhere in the file: no aligned access
    std::memcpy(&block, row + first / kElements * static_cast<int64_t>(sizeof(Block)),
                sizeof(Block));
    if (next - at == kElements) {
      expand(block, out + (at - begin));
    } else {
      expand(block, whole);
      std::copy(whole + (at - first), whole + (next - first), out + (at - begin));
    }
    at = next;
  }
}

template <float (*convert)(uint16_t)>
void convert_range(const std::byte* row, int64_t begin, int64_t end, float* out) {
  for (int64_t i = begin; i < end; ++i) {
    uint16_t half = 0;
    std::memcpy(&half, row + 2 * i, 2);
    out[i - begin] = convert(half);
  }
}

}  // namespace

int64_t block_elements(WeightType type) {
  switch (type) {
    case WeightType::f32:
    case WeightType::f16:
    case WeightType::bf16:
      return 1;
    case WeightType::q8_0:
    case WeightType::q4_0:
    case WeightType::q4_1:
    case WeightType::q5_0:
    case WeightType::q5_1:
      return 32;
    case WeightType::q4_k:
    case WeightType::q5_k:
    case WeightType::q6_k:
      return 256;
    case WeightType::f8_e4m3:
    case WeightType::i8:
    case WeightType::u8:
      return 1;
    case WeightType::i4_gptq:
    case WeightType::i4_awq:
    case WeightType::i4_packed:
      return kWordCodes;
  }
  assert(false);
  return 0;
}

int64_t block_bytes(WeightType type) {
  switch (type) {
    case WeightType::f32:
      return 4;
    case WeightType::f16:
    case WeightType::bf16:
      return 2;
    case WeightType::q8_0:
      return sizeof(BlockQ8_0);
    case WeightType::q4_0:
      return sizeof(BlockQ4_0);
    case WeightType::q4_1:
      return sizeof(BlockQ4_1);
    case WeightType::q5_0:
      return sizeof(BlockQ5_0);
    case WeightType::q5_1:
      return sizeof(BlockQ5_1);
    case WeightType::q4_k:
      return sizeof(BlockQ4_K);
    case WeightType::q5_k:
      return sizeof(BlockQ5_K);
    case WeightType::q6_k:
      return sizeof(BlockQ6_K);
    case WeightType::f8_e4m3:
    case WeightType::i8:
    case WeightType::u8:
      return 1;
    case WeightType::i4_gptq:
    case WeightType::i4_awq:
    case WeightType::i4_packed:
      return sizeof(uint32_t);
  }
  assert(false);
  return 0;
}

int64_t row_bytes(WeightType type, int64_t cols) {
  assert(cols % block_elements(type) == 0);
  return cols / block_elements(type) * block_bytes(type);
}

bool has_scales(WeightType type) {
  switch (type) {
    case WeightType::f8_e4m3:
    case WeightType::i8:
    case WeightType::u8:
    case WeightType::i4_gptq:
    case WeightType::i4_awq:
    case WeightType::i4_packed:
      return true;
    case WeightType::f32:
    case WeightType::f16:
    case WeightType::bf16:
    case WeightType::q8_0:
    case WeightType::q4_0:
    case WeightType::q4_1:
    case WeightType::q5_0:
    case WeightType::q5_1:
    case WeightType::q4_k:
    case WeightType::q5_k:
    case WeightType::q6_k:
      return false;
  }
  assert(false);
  return false;
}

void dequantize_row(WeightType type, const std::byte* row, int64_t cols_begin, int64_t cols_end,
                    float* out) {
  switch (type) {
    case WeightType::f32:
      std::memcpy(out, row + 4 * cols_begin, static_cast<size_t>(4 * (cols_end - cols_begin)));
      return;
    case WeightType::f16:
      return convert_range<f16_to_f32>(row, cols_begin, cols_end, out);
    case WeightType::bf16:
      return convert_range<bf16_to_f32>(row, cols_begin, cols_end, out);
    case WeightType::q8_0:
      return expand_range<BlockQ8_0>(row, cols_begin, cols_end, out);
    case WeightType::q4_0:
      return expand_range<BlockQ4_0>(row, cols_begin, cols_end, out);
    case WeightType::q4_1:
      return expand_range<BlockQ4_1>(row, cols_begin, cols_end, out);
    case WeightType::q5_0:
      return expand_range<BlockQ5_0>(row, cols_begin, cols_end, out);
    case WeightType::q5_1:
      return expand_range<BlockQ5_1>(row, cols_begin, cols_end, out);
    case WeightType::q4_k:
      return expand_range<BlockQ4_K>(row, cols_begin, cols_end, out);
    case WeightType::q5_k:
      return expand_range<BlockQ5_K>(row, cols_begin, cols_end, out);
    case WeightType::q6_k:
      return expand_range<BlockQ6_K>(row, cols_begin, cols_end, out);
    case WeightType::f8_e4m3:
    case WeightType::i8:
    case WeightType::u8:
    case WeightType::i4_gptq:
    case WeightType::i4_awq:
    case WeightType::i4_packed:
      break;  // the row alone does not say its scales
  }
  assert(false);
}

int64_t group_of(const WeightPart& part, int64_t col) {
  const WeightScales& scales = part.scales;
  if (scales.group_of_col == nullptr) return col / scales.group_cols;
  return element<int32_t>(scales.group_of_col, col);
}

float group_scale(const WeightPart& part, int64_t row, int64_t group) {
  const WeightScales& scales = part.scales;
  const int64_t at = row / scales.group_rows * scales.row_stride + group * scales.col_stride;
  float value = 0;
  dequantize_row(scales.type, scales.scales, at, at + 1, &value);
  return value;
}

int group_zero(const WeightPart& part, int64_t row, int64_t group) {
  const WeightScales& scales = part.scales;
  if (scales.zeros == nullptr) return 8;
  const int64_t row_words = ceil_div(part.source_rows, kWordCodes);
  const int64_t word = part.type == WeightType::i4_packed
                           ? row / kWordCodes * scales.row_stride + group
                           : group * row_words + row / kWordCodes;
  const int nibble = static_cast<int>(row % kWordCodes);
  const int place = part.type == WeightType::i4_awq ? awq_nibble(nibble) : nibble;
  return nibble_of(element<uint32_t>(scales.zeros, word), place) + scales.zero_add;
}

void read_codes(const WeightPart& part, int64_t row, Range cols, uint8_t* out) {
  const auto word = [&](int64_t at) { return element<uint32_t>(part.data, at); };
  for (int64_t c = cols.begin; c < cols.end; ++c) {
    const int in_word = static_cast<int>(c % kWordCodes);
    uint8_t& code = out[c - cols.begin];
    switch (part.type) {
      case WeightType::f8_e4m3:
      case WeightType::i8:
        code = element<uint8_t>(part.data, row * part.source_cols + c);
        break;
      case WeightType::u8:
        code = element<uint8_t>(part.data, row * part.source_cols + c) ^ 0x80;
        break;
      case WeightType::i4_packed:
        code = nibble_of(word((row * part.source_cols + c) / kWordCodes), in_word);
        break;
      case WeightType::i4_gptq:
        code = nibble_of(word(c / kWordCodes * part.source_rows + row), in_word);
        break;
      case WeightType::i4_awq:
        code = nibble_of(word((c * part.source_rows + row) / kWordCodes),
                         awq_nibble(static_cast<int>(row % kWordCodes)));
        break;
      default:
        assert(false);
    }
  }
}

void dequantize_row(const WeightPart& part, int64_t row, Range cols, float* out) {
  const int64_t stored = stored_row(row, part.order, part.head_dim);
  if (!has_scales(part.type)) {
    dequantize_row(part.type, part.data + stored * row_bytes(part.type, part.source_cols),
                   cols.begin, cols.end, out);
    return;
  }
  constexpr int64_t kCols = 256;  // at a time
  uint8_t codes[kCols];
  for (int64_t begin = cols.begin; begin < cols.end; begin += kCols) {
    const Range some = {begin, std::min(begin + kCols, cols.end)};
    read_codes(part, stored, some, codes);
    int64_t group = -1;
    float scale = 0;
    int zero = 0;
    for (int64_t c = some.begin; c < some.end; ++c) {
      if (const int64_t own = group_of(part, c); own != group) {
        group = own;
        scale = group_scale(part, stored, group);
        if (!has_bytes(part.type)) zero = group_zero(part, stored, group);
      }
      const uint8_t code = codes[c - begin];
      const int number = has_bytes(part.type) ? static_cast<int8_t>(code) : code - zero;
      out[c - cols.begin] = scale * (part.type == WeightType::f8_e4m3 ? e4m3_to_f32(code)
                                                                      : static_cast<float>(number));
    }
  }
}

}  // namespace chorus::kernels
