// How a tile of a quantised segment (16 rows, 128 columns) lies in its planes: in the order in
// which a warp's lanes turn it into A fragments of mma.m16n8k16, so that each lane reads its part
// of the codes with 16-byte loads and all lanes of a warp read 512 bytes in a row.
//
// A tile is 8 steps of k. In a step, lane 4 g + t holds eight elements: registers i = 0..3, each
// with two elements e = 0, 1, of row g + 8 * (i % 2) and of column column_in_tile(step, t, i, e).
// The columns of a step are chosen so that a lane's activations are contiguous and that no step's
// columns belong to two groups of scales.
//
//   codes, 4 bits  word `step` of a lane's 8: nibble i + 4 e. Words 0..3 of all lanes, then 4..7.
//   codes, 8 bits  words 2 step + i / 2 of a lane's 16: byte i % 2 + 2 e. Four words at a time.
//   high, 1 bit    word step / 4 of a lane's 2: bit 4 (step % 4) + i + 16 e.
//   high, 2 bits   word step / 2 of a lane's 4: bits from 8 (step % 2) + 2 i + 16 e.
//   scales         row after row: of each of the tile's groups of columns
//                    q8_0, q4_0, q5_0: f16 scale; q4_1, q5_1: f16 scale, f16 minimum; q4_k, q5_k:
//                    u8 scale, u8 minimum; q6_k: i8 scale; i4: u16 scale (f16 or bf16), u16 zero.
//                  e4m3 and i8 have f32 scales by the segment's strides.
//   block scales   of two tiles side by side, row after row: q4_k, q5_k: f16 scale, f16 minimum;
//                  q6_k: f16 scale.
#pragma once

#include <cassert>
#include <cstdint>

#include "kernels/cuda/device_weight.h"

namespace chorus::kernels::cuda {

inline constexpr int kTileRows = 16, kTileCols = 128, kTileSteps = 8;

struct CodingFacts {
  int bits;               // in the plane of codes
  int high;               // bits in the plane above
  int group;              // columns
  int scale_bytes;        // of a row's groups in a tile; 0: by strides
  int block_scale_bytes;  // of a row in two tiles
};

constexpr CodingFacts facts_of(Coding coding) {
  switch (coding) {
    case Coding::q8_0:
      return {8, 0, 32, 8, 0};
    case Coding::q4_0:
      return {4, 0, 32, 8, 0};
    case Coding::q4_1:
      return {4, 0, 32, 16, 0};
    case Coding::q5_0:
      return {4, 1, 32, 8, 0};
    case Coding::q5_1:
      return {4, 1, 32, 16, 0};
    case Coding::q4_k:
      return {4, 0, 32, 8, 4};
    case Coding::q5_k:
      return {4, 1, 32, 8, 4};
    case Coding::q6_k:
      return {4, 2, 16, 8, 2};
    case Coding::i4_by_32:
      return {4, 0, 32, 16, 0};
    case Coding::i4_by_128:
      return {4, 0, 128, 4, 0};
    case Coding::e4m3:
    case Coding::i8:
      return {8, 0, 128, 0, 0};
  }
  return {};
}

// What a checkpoint's type becomes. Codes of 4 bits become i4_by_128 where 128 columns share a
// scale: the two differ in their scales alone.
constexpr Coding coding_of(WeightType type) {
  switch (type) {
    case WeightType::q8_0:
      return Coding::q8_0;
    case WeightType::q4_0:
      return Coding::q4_0;
    case WeightType::q4_1:
      return Coding::q4_1;
    case WeightType::q5_0:
      return Coding::q5_0;
    case WeightType::q5_1:
      return Coding::q5_1;
    case WeightType::q4_k:
      return Coding::q4_k;
    case WeightType::q5_k:
      return Coding::q5_k;
    case WeightType::q6_k:
      return Coding::q6_k;
    case WeightType::f8_e4m3:
      return Coding::e4m3;
    case WeightType::i8:
    case WeightType::u8:
      return Coding::i8;
    case WeightType::i4_gptq:
    case WeightType::i4_awq:
    case WeightType::i4_packed:
      return Coding::i4_by_32;
    case WeightType::f32:
    case WeightType::f16:
    case WeightType::bf16:
      break;
  }
  assert(!"has_codings says no");
  return {};
}

// Bytes of a tile in its planes.
constexpr int code_bytes(const CodingFacts& facts) {
  return kTileRows * kTileCols * facts.bits / 8;
}
constexpr int high_bytes(const CodingFacts& facts) {
  return kTileRows * kTileCols * facts.high / 8;
}

constexpr int column_in_tile(int group, int step, int t, int i, int e) {
  return group >= 32 ? 32 * (step / 2) + 8 * t + 4 * (step % 2) + 2 * (i / 2) + e
                     : 16 * step + 4 * t + 2 * (i / 2) + e;
}

}  // namespace chorus::kernels::cuda
