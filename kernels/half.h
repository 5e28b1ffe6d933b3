// Conversions between f32 and the two 16-bit formats, f16 (IEEE binary16) and bf16 (the upper half
// of an f32), and from e4m3 (8 bits, no infinity, NaN is 0x7f). To f32 they are exact; from f32
// they round to the nearest, ties to even, as the hardware's instructions do, including subnormal
// numbers, overflow to infinity and quiet NaNs.
//
// The functions are static on purpose: files compiled for one instruction set include this header,
// and a copy compiled for AVX-512 must not become the one that the linker keeps for everybody. For
// the same reason nothing of the standard library's templates is used here.
#pragma once

#include <cstdint>

namespace chorus::kernels {

static constexpr float f16_to_f32(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const uint32_t exponent = (half >> 10) & 31u;
  const uint32_t mantissa = half & 0x3ffu;
  uint32_t bits = 0;
  if (exponent == 31) {
    bits = 0x7f800000u | (mantissa << 13) | (mantissa != 0 ? 0x400000u : 0u);
  } else if (exponent != 0) {
    bits = ((exponent + 112) << 23) | (mantissa << 13);
  } else {  // zero or subnormal: mantissa * 2^-24
    bits = __builtin_bit_cast(uint32_t, static_cast<float>(mantissa) * 0x1p-24f);
  }
  return __builtin_bit_cast(float, bits | sign);
}

static constexpr uint16_t f32_to_f16(float value) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, value);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  uint32_t half = 0;
  if (magnitude > 0x7f800000u) {  // NaN
    half = 0x7e00u | ((magnitude >> 13) & 0x3ffu);
  } else if (magnitude >= 0x47800000u) {  // 65536 and more; from 65520 on the last case carries
    half = 0x7c00u;
  } else if (magnitude < 0x38800000u) {
    // Below the smallest normal f16. The last bit of 0.5f is worth 2^-24, as a subnormal f16's is,
    // so the addition rounds to it.
    const float aligned = __builtin_bit_cast(float, magnitude) + 0.5f;
    half = __builtin_bit_cast(uint32_t, aligned) - 0x3f000000u;
  } else {
    half = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  }
  return static_cast<uint16_t>(half | sign);
}

static constexpr float bf16_to_f32(uint16_t half) {
  return __builtin_bit_cast(float, static_cast<uint32_t>(half) << 16);
}

static constexpr uint16_t f32_to_bf16(float value) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

static constexpr float e4m3_to_f32(uint8_t code) {
  if ((code & 0x7fu) == 0x7fu) return __builtin_nanf("");
  // The bits where f16 has them, whose exponent's bias is 15 instead of 7.
  const auto half = static_cast<uint16_t>((code & 0x80u) << 8 | (code & 0x7fu) << 7);
  return f16_to_f32(half) * 256.0f;
}

}  // namespace chorus::kernels
