// Plain descriptions of device memory: an element type and a matrix view.
#pragma once

#include <cstddef>
#include <cstdint>

namespace chorus::kernels {

enum class DType : uint8_t { f32, f16, bf16, e4m3, i32, u8 };  // e4m3: of fp8, finite

constexpr int64_t bytes_of(DType type) {
  switch (type) {
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::f16:
    case DType::bf16:
      return 2;
    case DType::e4m3:
    case DType::u8:
      return 1;
  }
  return 0;
}

// A row-major matrix in device memory, owned by the Ops that allocated it. `rows` is the capacity
// that operations are recorded for; how many of them hold something is a number in device memory
// that is read when the recorded list runs, so that one list serves every step.
struct View {
  void* data = nullptr;
  DType type = DType::f32;
  int64_t rows = 0;
  int64_t cols = 0;                    // elements a row; rows are contiguous
  const int32_t* live_rows = nullptr;  // device memory; nullptr: all rows are live
};

}  // namespace chorus::kernels
