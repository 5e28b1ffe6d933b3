// Elements of rows: f32, f16, bf16 or fp8 in memory, f32 in registers.
#pragma once

#include <stdexcept>
#include <string>

#include "kernels/cuda/device.h"
#include "kernels/view.h"

namespace chorus::kernels::cuda {

template <typename T>
struct Element {
  using type = T;
};

// Calls f(Element<T>) with the type that a view's elements have: no activations are fp8.
template <typename F>
void with_float_type(DType type, const char* operation, const F& f) {
  switch (type) {
    case DType::f32:
      return f(Element<float>());
    case DType::f16:
      return f(Element<__half>());
    case DType::bf16:
      return f(Element<__nv_bfloat16>());
    case DType::e4m3:
    case DType::i32:
    case DType::u8:
      break;
  }
  throw std::invalid_argument(std::string(operation) + ": not a type of floating-point numbers");
}

__device__ inline float to_float(float x) {
  return x;
}
__device__ inline float to_float(__half x) {
  return __half2float(x);
}
__device__ inline float to_float(__nv_bfloat16 x) {
  return __bfloat162float(x);
}

template <typename T>
__device__ inline T from_float(float x) {
  if constexpr (std::is_same_v<T, float>) {
    return x;
  } else if constexpr (std::is_same_v<T, __half>) {
    return __float2half_rn(x);
  } else if constexpr (std::is_same_v<T, __nv_fp8_e4m3>) {
    return __nv_fp8_e4m3(x);  // what is too large becomes 448
  } else {
    static_assert(std::is_same_v<T, __nv_bfloat16>);
    return __float2bfloat16_rn(x);
  }
}

// To be read after wait_for_predecessor().
__device__ inline bool is_live(int64_t row, const int32_t* live_rows) {
  return live_rows == nullptr || row < *live_rows;
}

// One element, where its type is known at run time only: f32, f16 or bf16.
__device__ inline float load_as_f32(const void* from, DType type, int64_t index) {
  if (type == DType::f32) return static_cast<const float*>(from)[index];
  if (type == DType::bf16) return to_float(static_cast<const __nv_bfloat16*>(from)[index]);
  return to_float(static_cast<const __half*>(from)[index]);
}
__device__ inline void store_as(void* to, DType type, int64_t index, float value) {
  if (type == DType::f32) {
    static_cast<float*>(to)[index] = value;
  } else if (type == DType::bf16) {
    static_cast<__nv_bfloat16*>(to)[index] = from_float<__nv_bfloat16>(value);
  } else {
    static_cast<__half*>(to)[index] = from_float<__half>(value);
  }
}

// `count` neighbours, moved by as few instructions as there are 16 bytes in them.
template <typename T, int count>
struct alignas(count * sizeof(T) < 16 ? count * sizeof(T) : 16) Pack {
  T x[count];
};

template <typename T, int count>
__device__ inline void load(float (&to)[count], const T* from) {
  const auto pack = *reinterpret_cast<const Pack<T, count>*>(from);
#pragma unroll
  for (int i = 0; i < count; ++i) to[i] = to_float(pack.x[i]);
}

template <typename T, int count>
__device__ inline void store(T* to, const float (&from)[count]) {
  Pack<T, count> pack;
#pragma unroll
  for (int i = 0; i < count; ++i) pack.x[i] = from_float<T>(from[i]);
  *reinterpret_cast<Pack<T, count>*>(to) = pack;
}

// The same at a row's end or in rows that do not begin at 16 bytes: only the first `left` elements
// are there; the others are read as zeros.
template <typename T, int count>
__device__ inline void load_some(float (&to)[count], const T* from, int64_t left) {
#pragma unroll
  for (int i = 0; i < count; ++i) to[i] = i < left ? to_float(from[i]) : 0.0F;
}

template <typename T, int count>
__device__ inline void store_some(T* to, const float (&from)[count], int64_t left) {
#pragma unroll
  for (int i = 0; i < count; ++i) {
    if (i < left) to[i] = from_float<T>(from[i]);
  }
}

// Can Pack<T, count> stand at any multiple of `count` of rows of `stride` elements from `data` on?
template <typename T, int count>
bool packs_fit(const T* data, int64_t stride) {
  return stride % count == 0 && reinterpret_cast<uintptr_t>(data) % alignof(Pack<T, count>) == 0;
}

}  // namespace chorus::kernels::cuda
