// Random matrices in every weight type, and what their elements are, said a second time: in f64,
// element by element, from the words of the GGUF specification and not from kernels/quant.cc.
#pragma once

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/weight.h"
#include "tests/kernels/random_floats.h"

namespace chorus::tests {

using kernels::Range;
using kernels::WeightPart;
using kernels::WeightType;

struct TypeFacts {
  WeightType type;
  const char* name;
  int64_t elements, bytes;  // of a block
};
inline constexpr TypeFacts kTypes[] = {
    {WeightType::f32, "f32", 1, 4},       {WeightType::f16, "f16", 1, 2},
    {WeightType::bf16, "bf16", 1, 2},     {WeightType::q8_0, "q8_0", 32, 34},
    {WeightType::q4_0, "q4_0", 32, 18},   {WeightType::q4_1, "q4_1", 32, 20},
    {WeightType::q5_0, "q5_0", 32, 22},   {WeightType::q5_1, "q5_1", 32, 24},
    {WeightType::q4_k, "q4_k", 256, 144}, {WeightType::q5_k, "q5_k", 256, 176},
    {WeightType::q6_k, "q6_k", 256, 210},
};

inline double f16_value(const uint8_t* p) {
  const int bits = p[0] | p[1] << 8, exponent = bits >> 10 & 31, mantissa = bits & 1023;
  const double magnitude =
      exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

// Of Q4_K, whose nibbles are at `nibbles`, and with a fifth bit of Q5_K.
inline double part_element(const uint8_t* p, int i, const uint8_t* nibbles, int fifth_bit) {
  const uint8_t* packed = p + 4;
  const int part = i / 32;
  const int scale =
      part < 4 ? packed[part] & 63 : (packed[part + 4] & 15) + 16 * (packed[part - 4] / 64);
  const int minimum =
      part < 4 ? packed[part + 4] & 63 : packed[part + 4] / 16 + 16 * (packed[part] / 64);
  const uint8_t byte = nibbles[part / 2 * 32 + i % 32];
  const int q = (part % 2 == 0 ? byte & 15 : byte / 16) + 16 * fifth_bit;
  return f16_value(p) * scale * q - f16_value(p + 2) * minimum;
}

inline double q6_k_element(const uint8_t* p, int i) {
  const int half = i / 128, quarter = i / 32 % 4, at = i % 32;
  const uint8_t low = p[64 * half + 32 * (quarter & 1) + at];
  const int q =
      (quarter < 2 ? low & 15 : low / 16) + 16 * (p[128 + 32 * half + at] >> (2 * quarter) & 3);
  return f16_value(p + 208) * static_cast<int8_t>(p[192 + i / 16]) * (q - 32);
}

// Element i of a block.
inline double element(WeightType type, const uint8_t* p, int i) {
  const auto nibble = [&](const uint8_t* q) { return i < 16 ? q[i] & 15 : q[i - 16] / 16; };
  float value = 0;
  switch (type) {
    case WeightType::f32:
      std::memcpy(&value, p, 4);
      return value;
    case WeightType::f16:
      return f16_value(p);
    case WeightType::bf16:
      std::memcpy(reinterpret_cast<uint8_t*>(&value) + 2, p, 2);
      return value;
    case WeightType::q8_0:
      return f16_value(p) * static_cast<int8_t>(p[2 + i]);
    case WeightType::q4_0:
      return f16_value(p) * (nibble(p + 2) - 8);
    case WeightType::q4_1:
      return f16_value(p) * nibble(p + 4) + f16_value(p + 2);
    case WeightType::q5_0:
      return f16_value(p) * (nibble(p + 6) + 16 * (p[2 + i / 8] >> (i % 8) & 1) - 16);
    case WeightType::q5_1:
      return f16_value(p) * (nibble(p + 8) + 16 * (p[4 + i / 8] >> (i % 8) & 1)) + f16_value(p + 2);
    case WeightType::q4_k:
      return part_element(p, i, p + 16, 0);
    case WeightType::q5_k:
      return part_element(p, i, p + 48, p[16 + i % 32] >> (i / 32) & 1);
    case WeightType::q6_k:
      return q6_k_element(p, i);
    default:  // scales stand beside it: scaled_weights.h
      return NAN;
  }
}

struct SourceMatrix {
  TypeFacts facts;
  int64_t rows, cols;
  std::vector<uint8_t> bytes;

  double at(int64_t row, int64_t col) const {
    const int64_t block = (row * cols + col) / facts.elements;
    return element(facts.type, bytes.data() + block * facts.bytes,
                   static_cast<int>(col % facts.elements));
  }
  const std::byte* data() const { return reinterpret_cast<const std::byte*>(bytes.data()); }
  WeightPart part() const {
    return {.data = data(),
            .type = facts.type,
            .source_cols = cols,
            .rows = {0, rows},
            .cols = {0, cols}};
  }
};

// Random bits; scales, minima and half-precision elements get exponents that keep values in reach.
inline SourceMatrix random_matrix(const TypeFacts& facts, int64_t rows, int64_t cols,
                                  uint32_t seed) {
  std::mt19937 random(seed);
  SourceMatrix matrix{facts, rows, cols, {}};
  matrix.bytes.resize(static_cast<size_t>(rows * cols / facts.elements * facts.bytes));
  for (uint8_t& byte : matrix.bytes) byte = static_cast<uint8_t>(random());
  const auto tame = [](uint8_t* half) { half[1] = static_cast<uint8_t>(0x1c | (half[1] & 0x83)); };
  for (size_t i = 0; i < matrix.bytes.size(); i += static_cast<size_t>(facts.bytes)) {
    uint8_t* block = matrix.bytes.data() + i;
    switch (facts.type) {
      case WeightType::f32: {
        const float value = static_cast<float>(random() % 2001) / 1000.0F - 1;
        std::memcpy(block, &value, 4);
        break;
      }
      case WeightType::bf16:
        block[1] = static_cast<uint8_t>(0x3e | (block[1] & 0x81));
        break;
      case WeightType::q4_1:
      case WeightType::q5_1:
      case WeightType::q4_k:
      case WeightType::q5_k:
        tame(block);
        tame(block + 2);
        break;
      case WeightType::q6_k:
        tame(block + 208);
        break;
      case WeightType::f16:
      case WeightType::q8_0:
      case WeightType::q4_0:
      case WeightType::q5_0:
        tame(block);
        break;
      default:
        break;
    }
  }
  return matrix;
}

}  // namespace chorus::tests
