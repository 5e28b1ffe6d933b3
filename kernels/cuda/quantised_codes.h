// A lane's part of a tile of quantised weights: from memory into registers, and from there into
// mma operands. Codes are small integers (or e4m3), which bf16 and f16 hold exactly; scales are
// applied to f32 sums over a group's columns, so that no weight is ever rounded.
//
// Codes become floats by bits: a number 128 + q of bf16 (1024 + q of f16) has q in its lowest
// mantissa bits, so `or` makes it and one subtraction takes the 128, and the zero with it, away.
#pragma once

#include "kernels/cuda/device.h"
#include "kernels/cuda/ptx.h"
#include "kernels/cuda/quantised_layout.h"

namespace chorus::kernels::cuda {

// --- pairs of 16-bit floats in a word

template <typename T>
struct PairOf;
template <>
struct PairOf<__nv_bfloat16> {
  using Type = __nv_bfloat162;
  using Raw = __nv_bfloat162_raw;
};
template <>
struct PairOf<__half> {
  using Type = __half2;
  using Raw = __half2_raw;
};

template <typename T>
__device__ inline typename PairOf<T>::Type pair_of(uint32_t word) {
  typename PairOf<T>::Raw raw;
  memcpy(&raw, &word, 4);
  return raw;
}
template <typename Pair>
__device__ inline uint32_t word_of(const Pair& pair) {
  uint32_t word;
  memcpy(&word, &pair, 4);
  return word;
}

template <typename T>
__device__ inline uint32_t difference(uint32_t a, uint32_t b) {
  return word_of(__hsub2(pair_of<T>(a), pair_of<T>(b)));
}
template <typename T>
__device__ inline uint32_t product(uint32_t a, uint32_t b) {
  return word_of(__hmul2(pair_of<T>(a), pair_of<T>(b)));
}

__device__ inline float f16_bits(uint32_t bits) {
  __half_raw raw;
  raw.x = static_cast<unsigned short>(bits);
  return __half2float(__half(raw));
}
__device__ inline float bf16_bits(uint32_t bits) {
  return __int_as_float(static_cast<int>(bits << 16));
}

// --- memory

template <int words>
__device__ inline void read_words(const uint8_t* from, uint32_t* to) {
  if constexpr (words % 4 == 0) {
    for (int i = 0; i < words / 4; ++i) {
      const uint4 four = reinterpret_cast<const uint4*>(from)[i];
      to[4 * i] = four.x;
      to[4 * i + 1] = four.y;
      to[4 * i + 2] = four.z;
      to[4 * i + 3] = four.w;
    }
  } else if constexpr (words == 2) {
    const uint2 two = *reinterpret_cast<const uint2*>(from);
    to[0] = two.x;
    to[1] = two.y;
  } else {
    static_assert(words == 1);
    to[0] = *reinterpret_cast<const uint32_t*>(from);
  }
}

template <Coding coding>
struct TileCodes {
  static constexpr CodingFacts kFacts = facts_of(coding);
  static constexpr int kLowWords = 2 * kFacts.bits;
  static constexpr int kHighWords = 2 * kFacts.high;
  static constexpr int kScaleWords = kFacts.scale_bytes == 0 ? 1 : kFacts.scale_bytes / 4;

  uint32_t low[kLowWords];
  uint32_t high[kHighWords == 0 ? 1 : kHighWords];
  uint32_t scales[2][kScaleWords] = {};  // of rows g and g + 8
  uint32_t block_scales[2];

  __device__ void load(const QuantisedSegment& segment, int64_t row_tile, int64_t col_tile,
                       int lane) {
    const int64_t tile = row_tile * segment.col_tiles + col_tile;
    const uint8_t* codes = segment.codes + tile * code_bytes(kFacts) + lane * 16;
#pragma unroll
    for (int i = 0; i < kLowWords / 4; ++i) {
      const uint4 four = ptx::load_streaming_16(codes + 512 * i);
      low[4 * i] = four.x;
      low[4 * i + 1] = four.y;
      low[4 * i + 2] = four.z;
      low[4 * i + 3] = four.w;
    }
    if constexpr (kHighWords > 0) {
      read_words<kHighWords>(segment.high_bits + tile * high_bytes(kFacts) + lane * 4 * kHighWords,
                             high);
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int row = lane / 4 + 8 * r;
      if constexpr (kFacts.scale_bytes == 0) {
        read_words<1>(segment.scales + 4 * (row_tile * segment.scale_row_tile_stride +
                                            col_tile * segment.scale_col_tile_stride +
                                            row * segment.scale_row_stride),
                      scales[r]);
      } else {
        read_words<kScaleWords>(segment.scales + (tile * kTileRows + row) * kFacts.scale_bytes,
                                scales[r]);
      }
      if constexpr (kFacts.block_scale_bytes > 0) {
        const int64_t block = row_tile * ((segment.col_tiles + 1) / 2) + col_tile / 2;
        const uint8_t* at =
            segment.block_scales + (block * kTileRows + row) * kFacts.block_scale_bytes;
        if constexpr (kFacts.block_scale_bytes == 4) {
          read_words<1>(at, &block_scales[r]);
        } else {
          block_scales[r] = *reinterpret_cast<const uint16_t*>(at);
        }
      }
    }
  }

  // Scales and minima beside them; and those that the blocks' own are multiplied by.
  static constexpr bool kHalfMinima = coding == Coding::q4_1 || coding == Coding::q5_1;
  static constexpr bool kPartMinima = coding == Coding::q4_k || coding == Coding::q5_k;
  static constexpr bool kHasMinima = kHalfMinima || kPartMinima;

  // Of row g + 8 r and one of the tile's groups of columns.
  __device__ float scale(const QuantisedSegment& segment, int r, int group) const {
    if constexpr (coding == Coding::q8_0 || coding == Coding::q4_0 || coding == Coding::q5_0) {
      return f16_bits(scales[r][group / 2] >> (16 * (group % 2)) & 0xffff);
    } else if constexpr (kHalfMinima) {
      return f16_bits(scales[r][group] & 0xffff);
    } else if constexpr (kPartMinima) {
      const uint32_t part = scales[r][group / 2] >> (16 * (group % 2)) & 0xff;
      return f16_bits(block_scales[r] & 0xffff) * static_cast<float>(part);
    } else if constexpr (coding == Coding::q6_k) {
      const int part = static_cast<int8_t>(scales[r][group / 4] >> (8 * (group % 4)) & 0xff);
      return f16_bits(block_scales[r]) * static_cast<float>(part);
    } else if constexpr (kFacts.scale_bytes == 0) {
      return __int_as_float(static_cast<int>(scales[r][0]));
    } else {
      const uint32_t bits = scales[r][group] & 0xffff;
      return segment.bf16_scales ? bf16_bits(bits) : f16_bits(bits);
    }
  }
  __device__ float minimum(int r, int group) const {
    if constexpr (kHalfMinima) {
      return f16_bits(scales[r][group] >> 16);
    } else {
      static_assert(kPartMinima);
      const uint32_t part = scales[r][group / 2] >> (16 * (group % 2) + 8) & 0xff;
      return -f16_bits(block_scales[r] >> 16) * static_cast<float>(part);
    }
  }
  // What stands for zero among the codes.
  __device__ uint32_t zero(int r, int group) const {
    if constexpr (coding == Coding::q4_0) return 8;
    if constexpr (coding == Coding::q5_0) return 16;
    if constexpr (coding == Coding::q6_k) return 32;
    if constexpr (coding == Coding::i4_by_32 || coding == Coding::i4_by_128) {
      return scales[r][group] >> 16;
    }
    return 0;
  }

  // Codes minus zeros as operands of one step; T is the operands' type.
  template <typename T>
  __device__ ptx::Fragment4 fragment(int step, uint32_t zero_0, uint32_t zero_1) const {
    constexpr bool bf16 = std::is_same_v<T, __nv_bfloat16>;
    constexpr uint32_t magic = bf16 ? 0x43004300u : 0x64006400u;  // 128, 1024
    ptx::Fragment4 a;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if constexpr (coding == Coding::e4m3) {
        // Exponent and mantissa to where T has them; the product mends the exponent's bias.
        const uint32_t word = low[2 * step + i / 2] << (i % 2 == 0 ? 8 : 0);
        const uint32_t sign = word & 0x80008000u;
        a.x[i] = bf16 ? product<T>((word >> 4 & 0x07f007f0u) | sign, 0x7b807b80u)   // 2^120
                      : product<T>((word >> 1 & 0x3f803f80u) | sign, 0x5c005c00u);  // 2^8
      } else if constexpr (kFacts.bits == 8) {
        const uint32_t word = low[2 * step + i / 2] >> (i % 2 == 0 ? 0 : 8);
        // bf16 has room for seven bits; the sign bit makes 128, which is taken away, a 256.
        a.x[i] = bf16 ? difference<T>((word & 0x007f007fu) | magic, (word & 0x00800080u) | magic)
                      : difference<T>((word & 0x00ff00ffu) ^ 0x64806480u, 0x64806480u);
      } else {
        uint32_t code = low[step] >> (4 * i) & 0x000f000fu;
        if constexpr (kFacts.high == 1) {
          const int at = 4 * (step % 4) + i;
          code |= (high[step / 4] >> at & 0x00010001u) << 4;
        } else if constexpr (kFacts.high == 2) {
          const int at = 8 * (step % 2) + 2 * i;
          code |= (high[step / 2] >> at & 0x00030003u) << 4;
        }
        a.x[i] = difference<T>(code | magic, magic + (i % 2 == 0 ? zero_0 : zero_1) * 0x00010001u);
      }
    }
    return a;
  }
};

}  // namespace chorus::kernels::cuda
