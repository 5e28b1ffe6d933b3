// The emulated twins of ptx.h. Layouts, with g = lane / 4 and t = lane % 4 (PTX manual, "Matrix
// fragments for mma.m16n8k16" and the following sections):
//   A, 16-bit: register r holds row g + 8 * (r % 2), columns 2t, 2t + 1 of half r / 2 of k.
//   B, 16-bit: register r holds k = 2t, 2t + 1 of half r, column g.
//   D: element i holds row g + 8 * (i / 2), column 2t + i % 2.
#include "kernels/cuda/ptx.h"

namespace chorus::kernels::cuda::ptx {
namespace {

struct Operands {
  float* d;
  const Fragment4* a;
  const Fragment2* b;
};

// Eight registers, eight numbers: the compiler makes of them what the CPU has.
typedef uint32_t Words __attribute__((vector_size(32), aligned(4)));
typedef float Floats __attribute__((vector_size(32), aligned(4)));

// The lower or upper halves of registers as f32.
template <typename Element>
[[gnu::always_inline]] inline Floats numbers(const Words& words, bool upper) {
  if constexpr (std::is_same_v<Element, __nv_bfloat16>) {
    return Floats(upper ? words & 0xffff0000u : words << 16);
  } else {
    // Exponent and mantissa to where f32 has them. The bias is 112 less; the largest exponent means
    // infinity or NaN, the least one that there is no leading 1: 2^-14 is added and taken away.
    const Words half = upper ? words >> 16 : words & 0xffff;
    const Words bits = (half & 0x7fff) << 13, exponent = bits & 0x0f800000;
    const Words special = Words(exponent == 0x0f800000) & 0x38000000;
    const Words tiny = Words(exponent == 0);
    const Floats small = Floats(bits + (113u << 23)) - Floats(Words{} + (113u << 23));
    const Words normal = bits + 0x38000000 + special;
    return Floats((Words(small) & tiny) | (normal & ~tiny) | (half & 0x8000) << 16);
  }
}

// The tensor core forms products exactly and adds them in wider precision, in an order NVIDIA does
// not document; f32 sums in order of k differ from it in the last bits only.
template <typename Element>
[[gnu::always_inline]] inline void multiply_lanes(void* const* lanes) {
  auto at = [&](int lane) { return static_cast<Operands*>(lanes[lane]); };
  uint32_t a_words[32][4], b_words[2][4][8];
  float d[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const int g = lane / 4, t = lane % 4;
    std::memcpy(a_words[lane], at(lane)->a->x, 16);
    for (int r = 0; r < 2; ++r) {
      b_words[r][t][g] = at(lane)->b->x[r];
      std::memcpy(&d[g + 8 * r][2 * t], at(lane)->d + 2 * r, 8);
    }
  }
  float a[2][32][4];  // by half of the register, lane, register
  for (int first = 0; first < 32; first += 2) {
    Words words;
    std::memcpy(&words, a_words[first], 32);
    for (int half = 0; half < 2; ++half) {
      const Floats both = numbers<Element>(words, half == 1);
      std::memcpy(a[half][first], &both, 32);
    }
  }
  Floats b[16];  // by k
  for (int k = 0; k < 16; ++k) {
    Words words;
    std::memcpy(&words, b_words[k / 8][k % 8 / 2], 32);
    b[k] = numbers<Element>(words, k % 2 == 1);
  }
  for (int low = 0; low < 2; ++low) {  // rows g, rows g + 8
    Floats sums[8];
    std::memcpy(sums, d[8 * low], sizeof sums);
    for (int k = 0; k < 16; ++k) {
      for (int g = 0; g < 8; ++g) {
        sums[g] += a[k % 2][g * 4 + k % 8 / 2][low + k / 8 * 2] * b[k];
      }
    }
    std::memcpy(d[8 * low], sums, sizeof sums);
  }
  for (int lane = 0; lane < 32; ++lane) {
    for (int r = 0; r < 2; ++r) {
      std::memcpy(at(lane)->d + 2 * r, &d[lane / 4 + 8 * r][2 * (lane % 4)], 8);
    }
  }
}
template <typename Element>
[[gnu::target("avx2")]] void multiply_avx2(void* const* lanes) {
  multiply_lanes<Element>(lanes);
}
// The same bits from both.
template <typename Element>
void multiply(void* const* lanes) {
  static const bool avx2 = __builtin_cpu_supports("avx2");
  avx2 ? multiply_avx2<Element>(lanes) : multiply_lanes<Element>(lanes);
}

template <bool transposed>
void load_matrices(void* const* lanes) {
  struct Operand {
    const uint16_t* row;
    Fragment4 result;
  };
  auto at = [&](int lane) { return static_cast<Operand*>(lanes[lane]); };
  for (int lane = 0; lane < 32; ++lane) {
    for (int m = 0; m < 4; ++m) {
      uint32_t pair[2];
      for (int i = 0; i < 2; ++i) {
        int row = lane / 4, column = lane % 4 * 2 + i;
        if (transposed) std::swap(row, column);
        pair[i] = at(m * 8 + row)->row[column];
      }
      at(lane)->result.x[m] = pair[0] | pair[1] << 16;
    }
  }
}

template <bool transposed>
Fragment4 ldmatrix(const void* row, Where where) {
  static const emulate::Step step = load_matrices<transposed>;
  if (reinterpret_cast<uintptr_t>(row) % 16 != 0)
    emulate::fail("ldmatrix row is not 16-byte aligned", where);
  emulate::note_read(row, 16);
  struct {
    const void* row;
    Fragment4 result;
  } operand{row, {}};
  emulate::meet_warp(~0u, &operand, step, false, where);
  return operand.result;
}

}  // namespace

Fragment4 ldmatrix_x4(const void* row, Where where) {
  return ldmatrix<false>(row, where);
}
Fragment4 ldmatrix_x4_transposed(const void* row, Where where) {
  return ldmatrix<true>(row, where);
}

template <typename T>
void mma_m16n8k16(float (&d)[4], const Fragment4& a, const Fragment2& b, Where where) {
  static const emulate::Step step = multiply<T>;
  Operands operands{d, &a, &b};
  emulate::meet_warp(~0u, &operands, step, false, where);
}
template void mma_m16n8k16<__nv_bfloat16>(float (&)[4], const Fragment4&, const Fragment2&, Where);
template void mma_m16n8k16<__half>(float (&)[4], const Fragment4&, const Fragment2&, Where);

}  // namespace chorus::kernels::cuda::ptx
