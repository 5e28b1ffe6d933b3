// A weight in device memory. Plain types stay row-major: decode reads them with 16-byte loads
// straight into mma fragments, TMA cuts boxes out of them, cuBLASLt takes them as they are.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/weight.h"

namespace chorus::kernels::cuda {

enum class WeightFormat : uint8_t { f32, bf16, f16 };

struct DeviceWeight final : PackedWeight {
  WeightFormat format = WeightFormat::bf16;
  void* data = nullptr;  // [rows, stride] of `format`; owned by the Ops that made it
  int64_t stride = 0;    // elements from one row to the next: a multiple of 16 bytes, zero-padded
};

// f32 [cols] in device memory: norm weights and biases.
struct DeviceVector final : PackedWeight {
  const float* data = nullptr;
};

inline const DeviceWeight& matrix(const Weight& weight) {
  return static_cast<const DeviceWeight&>(*weight);
}
// nullptr for no vector.
inline const float* vector(const Weight& weight) {
  return weight ? static_cast<const DeviceVector&>(*weight).data : nullptr;
}

}  // namespace chorus::kernels::cuda
