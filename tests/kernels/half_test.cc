#include "kernels/half.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>

using namespace chorus::kernels;

namespace {

float with_bits(uint32_t bits) {
  float value = 0;
  std::memcpy(&value, &bits, 4);
  return value;
}

bool f16_is_nan(uint16_t half) {
  return (half & 0x7fff) > 0x7c00;
}

// The nearest multiple of the spacing at |x|, by the current rounding mode: to even on ties.
double nearest(double x, int mantissa_bits, int exponent_least) {
  if (x == 0) return x;
  const int exponent = std::max(std::ilogb(x), exponent_least);
  return std::ldexp(std::nearbyint(std::ldexp(x, mantissa_bits - exponent)),
                    exponent - mantissa_bits);
}

double expected_f16(float x) {
  const double rounded = nearest(x, 10, -14);
  return std::fabs(rounded) >= 65536 ? std::copysign(INFINITY, rounded) : rounded;
}

}  // namespace

TEST_CASE("every f16 survives the way to f32 and back") {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    if (f16_is_nan(half)) {
      REQUIRE(std::isnan(f16_to_f32(half)));
      REQUIRE(f16_is_nan(f32_to_f16(f16_to_f32(half))));
      continue;
    }
    REQUIRE(f32_to_f16(f16_to_f32(half)) == half);
  }
  CHECK(f16_to_f32(0x3c00) == 1);
  CHECK(f16_to_f32(0x0001) == std::ldexp(1.0F, -24));
  CHECK(f16_to_f32(0x7bff) == 65504);
  CHECK(std::signbit(f16_to_f32(0x8000)));
}

TEST_CASE("f32 rounds to the nearest f16, ties to even") {
  std::mt19937 random(3);
  for (int i = 0; i < 2000000; ++i) {
    // Exponents around f16's range, and among them exact ties.
    uint32_t bits = (random() & 0x807fffffU) | ((95 + random() % 50) << 23);
    if (i % 3 == 0) bits &= 0xfffff000U;
    const float x = with_bits(bits);
    REQUIRE(static_cast<double>(f16_to_f32(f32_to_f16(x))) == expected_f16(x));
  }
  CHECK(f32_to_f16(65519.996F) == 0x7bff);
  CHECK(f32_to_f16(65520.0F) == 0x7c00);
  CHECK(f32_to_f16(-std::numeric_limits<float>::infinity()) == 0xfc00);
  CHECK(f16_is_nan(f32_to_f16(with_bits(0x7f800001))));
}

TEST_CASE("f32 rounds to the nearest bf16, ties to even") {
  std::mt19937 random(4);
  for (int i = 0; i < 500000; ++i) {
    uint32_t bits = (random() & 0x807fffffU) | ((1 + random() % 250) << 23);
    if (i % 3 == 0) bits &= 0xffff8000U;
    const float x = with_bits(bits);
    REQUIRE(static_cast<double>(bf16_to_f32(f32_to_bf16(x))) == nearest(x, 7, -126));
  }
  CHECK(f32_to_bf16(std::numeric_limits<float>::max()) == 0x7f80);
  CHECK(std::isnan(bf16_to_f32(f32_to_bf16(with_bits(0x7f800001)))));
}
