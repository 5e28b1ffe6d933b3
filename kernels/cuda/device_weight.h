// A weight in device memory. Plain types stay row-major: decode reads them with 16-byte loads
// straight into mma fragments, TMA cuts boxes out of them, cuBLASLt takes them as they are.
// Quantised ones keep their bits, in planes ordered as mma fragments want them
// (quantised_layout.h).
#pragma once

#include <cassert>
#include <cstdint>
#include <vector>

#include "kernels/view.h"
#include "kernels/weight.h"

namespace chorus::kernels::cuda {

enum class WeightFormat : uint8_t { f32, bf16, f16, quantised };

// Plain weights' types; the kernels read x in the same. Not for quantised ones, nor for integers.
inline DType type_of(WeightFormat format) {
  assert(format != WeightFormat::quantised);
  return format == WeightFormat::bf16  ? DType::bf16
         : format == WeightFormat::f16 ? DType::f16
                                       : DType::f32;
}
inline WeightFormat format_of(DType type) {
  assert(type == DType::bf16 || type == DType::f16 || type == DType::f32);
  return type == DType::bf16  ? WeightFormat::bf16
         : type == DType::f16 ? WeightFormat::f16
                              : WeightFormat::f32;
}

// How a quantised segment's codes and scales are kept; one kernel each.
enum class Coding : uint8_t {
  q8_0,  // GGUF's, see kernels/quant.h
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q4_k,
  q5_k,
  q6_k,
  i4_by_32,   // scale * (code - zero), a scale and a zero for 32 columns of a row
  i4_by_128,  // the same for 128
  e4m3,       // scale * e4m3, a scale for 128 columns of a row or of 16 rows
  i8,         // the same with integers
};

// Rows of one coding. Planes are cut into tiles of 16 rows and 128 columns, in rows of tiles;
// quantised_layout.h says what a tile holds.
struct QuantisedSegment {
  Coding coding = Coding::q8_0;
  int64_t row_begin = 0, rows = 0;  // of the weight; the last tile is padded
  int64_t row_tiles = 0, col_tiles = 0;
  const uint8_t* codes = nullptr;
  const uint8_t* high_bits = nullptr;  // the bits above four of q5 and q6
  const uint8_t* scales = nullptr;
  const uint8_t* block_scales = nullptr;  // f16 of the K types' blocks of 256 columns
  // Column c of the tiles is input column c - lead or, where there is a list, columns[c]; one that
  // is outside the input, or negative, counts as zero.
  int64_t lead = 0;
  const int32_t* columns = nullptr;
  bool bf16_scales = false;  // i4: bf16 instead of f16
  // e4m3, i8: f32 scales from one row tile, column tile, row to the next; 0 where they share one.
  int64_t scale_row_tile_stride = 0, scale_col_tile_stride = 0, scale_row_stride = 0;
};

struct DeviceWeight final : PackedWeight {
  WeightFormat format = WeightFormat::bf16;
  void* data = nullptr;  // [rows, stride] of `format`; owned by the Ops that made it
  int64_t stride = 0;    // elements from one row to the next: a multiple of 16 bytes, zero-padded
  std::vector<QuantisedSegment> segments;  // instead, where quantised: pointers into `data`
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
