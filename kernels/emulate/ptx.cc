// The emulated twins of ptx.h. Layouts, with g = lane / 4 and t = lane % 4 (PTX manual, "Matrix
// fragments for mma.m16n8k16" and the following sections):
//   A, 16-bit: register r holds row g + 8 * (r % 2), columns 2t, 2t + 1 of half r / 2 of k.
//   B, 16-bit: register r holds k = 2t, 2t + 1 of half r, column g.
//   D: element i holds row g + 8 * (i / 2), column 2t + i % 2.
#include "kernels/cuda/ptx.h"

namespace chorus::kernels::cuda::ptx {
namespace {

// One element of a register that packs several.
template <typename T>
T element(uint32_t word, int index) {
  T value;
  std::memcpy(&value, reinterpret_cast<const char*>(&word) + index * sizeof(T), sizeof(T));
  return value;
}

struct Operands {
  float* d;
  const Fragment4* a;
  const Fragment2* b;
};

// The tensor core forms products exactly and adds them in wider precision, in an order NVIDIA does
// not document; f32 sums in order of k differ from it in the last bits only.
template <typename Element>
void multiply(void* const* lanes) {
  constexpr int k_size = 16, per_word = 2;
  auto at = [&](int lane) { return static_cast<Operands*>(lanes[lane]); };
  float a[16][k_size], b[k_size][8];
  for (int lane = 0; lane < 32; ++lane) {
    for (int r = 0; r < 4; ++r) {
      for (int i = 0; i < per_word; ++i) {
        int k = r / 2 * (k_size / 2) + lane % 4 * per_word + i;
        a[lane / 4 + 8 * (r % 2)][k] = float(element<Element>(at(lane)->a->x[r], i));
        if (r < 2)
          b[r * (k_size / 2) + lane % 4 * per_word + i][lane / 4] =
              float(element<Element>(at(lane)->b->x[r], i));
      }
    }
  }
  float d[16][8];
  auto each_result = [&](auto&& action) {
    for (int lane = 0; lane < 32; ++lane) {
      for (int i = 0; i < 4; ++i) {
        action(at(lane)->d[i], d[lane / 4 + 8 * (i / 2)][lane % 4 * 2 + i % 2]);
      }
    }
  };
  each_result([](float& lanes_own, float& sum) { sum = lanes_own; });
  for (int row = 0; row < 16; ++row) {
    for (int k = 0; k < k_size; ++k) {
      for (int column = 0; column < 8; ++column) d[row][column] += a[row][k] * b[k][column];
    }
  }
  each_result([](float& lanes_own, float& sum) { lanes_own = sum; });
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
