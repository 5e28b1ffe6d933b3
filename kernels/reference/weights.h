// Weights of the reference backend: the source's own bytes, turned into floats row by row whenever
// they are used, and vectors in f32. The source must outlive them.
#pragma once

#include <memory>
#include <vector>

#include "kernels/weight.h"

namespace chorus::kernels::reference {

class MatrixWeight final : public PackedWeight {
 public:
  explicit MatrixWeight(std::vector<WeightPart> stacked);
  // out[0 .. cols) = row `row`.
  void read_row(int64_t row, float* out) const;

 private:
  std::vector<WeightPart> parts_;
};

class VectorWeight final : public PackedWeight {
 public:
  explicit VectorWeight(const VectorDescription& description);
  std::vector<float> values;
};

// A weight that this backend made, as what it is; null stays null.
const MatrixWeight* matrix(const Weight& weight);
const VectorWeight* vector(const Weight& weight);

}  // namespace chorus::kernels::reference
