// Weights as the CPU backend holds them: groups of 16 rows interleaved, at the density of the
// source, so that one layout serves one row and many.
//
// A group is its scales, padded to 64 bytes, then its quants; both run over the columns in blocks
// of 32. A block's 8 kgroups (4 columns of 16 rows, 64 bytes) k0..k7 are packed as
//   q8_0  scales: f16 d[16]                    quants: k0..k7, a byte a weight, 128 added
//   q4_0  scales: f16 d[16]                    quants: 4 vectors, k(2i) low and k(2i + 1) high
//   q4_1  scales: f16 d[16], f16 m[16]         quants: as q4_0
//   q5_0  scales: as q4_0                      quants: as q4_0, then the fifth bits: bit j of k(j)
//   q5_1  scales: as q4_1                      quants: as q5_0
//   q4_k  as q4_0; scales per 256 columns: f16 d[16], dmin[16], then u8 scale[8][16], min[8][16]
//   q5_k  scales: as q4_k                      quants: as q5_0
//   q6_k  quants: as q4_0, then 2 vectors with the upper bits: bits 2 (j mod 4) of k(j);
//         scales per 256 columns: f16 d[16], then i8 scale[16][16]
// Float types have no scales: one vector of 16 rows a column.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/memory.h"
#include "kernels/cpu/workers.h"
#include "kernels/quant.h"
#include "kernels/weight.h"

namespace chorus::kernels {

// The rows of one part: one type.
struct PackedSegment {
  DotKind kind = DotKind::f32;
  bool quantised = false;
  Correction correction = Correction::minimum;  // where quantised
  int64_t row_begin = 0, rows = 0;              // of the whole weight
  int64_t groups = 0;
  int64_t blocks = 0;  // of 32 columns; columns where not quantised
  int64_t group_bytes = 0;
  int64_t quants_offset = 0;  // within a group
  const uint8_t* data = nullptr;
};

class MatrixWeight final : public PackedWeight {
 public:
  std::vector<PackedSegment> segments;
  bool any_quantised = false, any_floats = false;
  bool corrections[kCorrections] = {};  // asked for by some segment
  int64_t lead = 0;                     // columns of zeros before the slice's first
  int64_t blocks = 0;                   // of quantised activations
  Memory memory;
};

class VectorWeight final : public PackedWeight {
 public:
  std::vector<float> values;
};

// A table in the mapped file.
class TableWeight final : public PackedWeight {
 public:
  WeightPart part;
};

std::shared_ptr<const MatrixWeight> pack_matrix(const WeightDescription& description,
                                                Workers& workers);
std::shared_ptr<const VectorWeight> pack_vector(const VectorDescription& description);
std::shared_ptr<const TableWeight> refer_to_table(const WeightPart& part);

}  // namespace chorus::kernels
