// GGUF's quantised blocks, as they lie in a file (the GGUF specification names them; their layouts
// are those of ggml's block_q8_0, block_q4_0, block_q4_1, block_q5_0, block_q5_1, block_q4_K,
// block_q5_K and block_q6_K). A row is a whole number of blocks; numbers are little-endian; `scale`
// and `minimum` are f16 bits.
//
// An element of a small block is scale * q (+ minimum). The K types cut a block of 256 into parts
// with small integer scales of their own, which are multiplied by the block's f16 scale.
//
// And the codes with scales beside them of Hugging Face's quantised checkpoints (WeightScales):
//
//   f8_e4m3    a byte an element, row-major. x = scale * e4m3.
//   i8, u8     a byte an element, row-major; u8 has 128 added. x = scale * code. Words of four
//              codes, the first lowest (compressed-tensors), are the same bytes.
//   i4_packed  row-major, eight codes in a 32-bit word, the first lowest (compressed-tensors);
//              zeros: the same along the rows, [rows / 8, groups].
//   i4_gptq    words of eight columns, the first lowest: [cols / 8, rows]; zeros: words of eight
//              rows, [groups, rows / 8].
//   i4_awq     words of eight rows, [cols, rows / 8], zeros [groups, rows / 8]; row i of a word has
//              nibble {0, 4, 1, 5, 2, 6, 3, 7}[i].
// x = scale * (code - zero) of the 4-bit ones.
//
// Functions defined here are static for the reason that kernels/half.h gives.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/weight.h"

namespace chorus::kernels {

// 8 bits an element: x = scale * quants[i].
struct BlockQ8_0 {
  static constexpr int kElements = 32;
  uint16_t scale;
  int8_t quants[32];
};
static_assert(sizeof(BlockQ8_0) == 34);

// 4 bits an element: x = scale * (q - 8). Byte i holds element i in its low and element 16 + i in
// its high nibble.
struct BlockQ4_0 {
  static constexpr int kElements = 32;
  uint16_t scale;
  uint8_t nibbles[16];
};
static_assert(sizeof(BlockQ4_0) == 18);

// The same with an offset: x = scale * q + minimum.
struct BlockQ4_1 {
  static constexpr int kElements = 32;
  uint16_t scale;
  uint16_t minimum;
  uint8_t nibbles[16];
};
static_assert(sizeof(BlockQ4_1) == 20);

// 5 bits an element: x = scale * (q - 16). Nibbles as in Q4_1; bit i of `fifth_bits` (a 32-bit
// number, kept as bytes because the struct has an alignment of two) is the fifth bit of element i.
struct BlockQ5_0 {
  static constexpr int kElements = 32;
  uint16_t scale;
  uint8_t fifth_bits[4];
  uint8_t nibbles[16];
};
static_assert(sizeof(BlockQ5_0) == 22);

// The same with an offset: x = scale * q + minimum.
struct BlockQ5_1 {
  static constexpr int kElements = 32;
  uint16_t scale;
  uint16_t minimum;
  uint8_t fifth_bits[4];
  uint8_t nibbles[16];
};
static_assert(sizeof(BlockQ5_1) == 24);

// 4 bits an element, eight parts of 32: x = scale * part_scale * q - minimum * part_minimum. Parts
// 2j and 2j + 1 share nibbles[32j, 32j + 32): low nibbles the first, high ones the second. Part
// scales and minima have 6 bits each and share 12 bytes (part_scale_of below).
struct BlockQ4_K {
  static constexpr int kElements = 256;
  uint16_t scale;
  uint16_t minimum;
  uint8_t part_scales[12];
  uint8_t nibbles[128];
};
static_assert(sizeof(BlockQ4_K) == 144);

// The same with a fifth bit for each element: bit `part` of fifth_bits[i] is that of element i of
// the part.
struct BlockQ5_K {
  static constexpr int kElements = 256;
  uint16_t scale;
  uint16_t minimum;
  uint8_t part_scales[12];
  uint8_t fifth_bits[32];
  uint8_t nibbles[128];
};
static_assert(sizeof(BlockQ5_K) == 176);

struct PartScaleK {
  uint8_t scale = 0;
  uint8_t minimum = 0;
};
// Part 0..7. The first four stand in the low six bits of bytes 0..3 (scales) and 4..7 (minima);
// the others have their low four bits in bytes 8..11 (scale low nibble, minimum high nibble) and
// their upper two in the free top bits of bytes 0..7.
static constexpr PartScaleK part_scale_of(const uint8_t (&bytes)[12], int part) {
  if (part < 4) {
    return {static_cast<uint8_t>(bytes[part] & 63), static_cast<uint8_t>(bytes[part + 4] & 63)};
  }
  return {static_cast<uint8_t>((bytes[part + 4] & 15) | (bytes[part - 4] >> 6) << 4),
          static_cast<uint8_t>((bytes[part + 4] >> 4) | (bytes[part] >> 6) << 4)};
}

// 6 bits an element, sixteen parts of 16: x = scale * part_scales[part] * (q - 32). Each half of
// the block (128 elements) has 64 bytes of `low_bits` and 32 of `high_bits`: its element
// 32 * quarter + i has its low nibble in byte i + 32 * (quarter % 2) (low nibble for quarters 0, 1,
// high for 2, 3) and its upper two bits in byte i at bit 2 * quarter.
struct BlockQ6_K {
  static constexpr int kElements = 256;
  uint8_t low_bits[128];
  uint8_t high_bits[64];
  int8_t part_scales[16];
  uint16_t scale;
};
static_assert(sizeof(BlockQ6_K) == 210);

// Codes in a word of the 4-bit types, and the nibble of AWQ's row i.
inline constexpr int64_t kWordCodes = 8;
static constexpr int awq_nibble(int i) {
  return i % 2 * 4 + i / 2;
}

bool has_scales(WeightType type);  // beside it: WeightPart::scales
// Those of them with a byte an element.
static constexpr bool has_bytes(WeightType type) {
  return type == WeightType::f8_e4m3 || type == WeightType::i8 || type == WeightType::u8;
}

// Elements and bytes of a block; 1 and the element's size for the types without blocks. A block of
// the 4-bit types is a word of eight, wherever it stands.
int64_t block_elements(WeightType type);
int64_t block_bytes(WeightType type);
// `cols` is a multiple of block_elements.
int64_t row_bytes(WeightType type, int64_t cols);

// out[i] = element cols_begin + i of the row that starts at `row`, up to cols_end; any type, the
// cuts may fall inside a block. Computed as ggml does, so the values are the same bits.
void dequantize_row(WeightType type, const std::byte* row, int64_t cols_begin, int64_t cols_end,
                    float* out);

// The same of any part, also of those with scales beside them: element (row, cols.begin + i), where
// `row` counts in the order that the model wants.
void dequantize_row(const WeightPart& part, int64_t row, Range cols, float* out);

// Of a part with scales: what belongs to row `row` of the source.
int64_t group_of(const WeightPart& part, int64_t col);
float group_scale(const WeightPart& part, int64_t row, int64_t group);
int group_zero(const WeightPart& part, int64_t row, int64_t group);  // of the 4-bit types
// out[i] = the code of element (row, cols.begin + i); of u8 without the 128.
void read_codes(const WeightPart& part, int64_t row, Range cols, uint8_t* out);

// Where row `row` in the order that the model wants stands in the source: see RowOrder. A
// converted head has row i of the first half beside row i of the second.
static constexpr int64_t stored_row(int64_t row, RowOrder order, int64_t head_dim) {
  if (order == RowOrder::as_stored) return row;
  const int64_t head = row / head_dim * head_dim;
  const int64_t i = row - head;
  const int64_t half = head_dim / 2;
  return head + (i < half ? 2 * i : 2 * (i - half) + 1);
}

}  // namespace chorus::kernels
