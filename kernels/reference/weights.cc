#include "kernels/reference/weights.h"

#include <cassert>

#include "kernels/quant.h"

namespace chorus::kernels::reference {

MatrixWeight::MatrixWeight(std::vector<WeightPart> stacked) : parts_(std::move(stacked)) {
  assert(!parts_.empty());
  cols = parts_.front().cols.size();
  for (const WeightPart& part : parts_) {
    assert(part.cols == parts_.front().cols);
    rows += part.rows.size();
    bytes += part.rows.size() * row_bytes(part.type, part.source_cols);
  }
}

void MatrixWeight::read_row(int64_t row, float* out) const {
  assert(row >= 0 && row < rows);
  size_t idx = 0;
  while (row >= parts_[idx].rows.size()) row -= parts_[idx++].rows.size();
  const WeightPart& part = parts_[idx];
  dequantize_row(part, part.rows.begin + row, part.cols, out);
}

VectorWeight::VectorWeight(const VectorDescription& description) {
  for (const VectorDescription::Part& part : description.parts) {
    for (int64_t i = part.range.begin; i < part.range.end; ++i) {
      const int64_t stored = stored_row(i, part.order, part.head_dim);
      float value = 0;
      dequantize_row(part.type, part.data, stored, stored + 1, &value);
      values.push_back(value + description.add);
    }
  }
  rows = static_cast<int64_t>(values.size());
  cols = 1;
  bytes = rows * 4;
}

const MatrixWeight* matrix(const Weight& weight) {
  const auto* typed = dynamic_cast<const MatrixWeight*>(weight.get());
  assert((typed == nullptr) == (weight == nullptr));
  return typed;
}

const VectorWeight* vector(const Weight& weight) {
  const auto* typed = dynamic_cast<const VectorWeight*>(weight.get());
  assert((typed == nullptr) == (weight == nullptr));
  return typed;
}

}  // namespace chorus::kernels::reference
