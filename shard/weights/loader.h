// Reads the slice of a tensor that a rank holds and hands it to the backend.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "kernels/ops.h"
#include "modelfile/error.h"
#include "modelfile/model.h"
#include "shard/weights/partition.h"
#include "shard/weights/quantisation.h"
#include "shard/weights/tensor_table.h"

namespace chorus::weights {

// The tensor of that name, or the one that a multimodal model's folder has for it: its text part
// stands under "language_model." or, since transformers 4.52, "model.language_model.". Null where
// there is none.
const modelfile::Tensor* find_tensor(const modelfile::Model& model, const std::string& name);

class Loader {
 public:
  // All must outlive the loader; the model also whatever it prepared (tables stay mapped).
  Loader(kernels::Ops& ops, const modelfile::Model& model, const ModelShape& shape,
         const Partition& partition);

  // A matrix or, for 1-D tensors, a vector. `layer` fills the {} of the names. Null where the
  // entry is optional and absent; otherwise throws modelfile::FileError naming the tensor and what
  // is wrong with it (absent, shape, type).
  kernels::Weight load(const TensorEntry& entry, int layer = 0);
  // The matrices of `experts` experts.
  std::vector<kernels::Weight> load_experts(const TensorEntry& entry, int layer, int64_t experts);
  // The whole tensor as a table to gather rows from.
  kernels::Weight load_table(const TensorEntry& entry);

 private:
  struct Matrix;  // a tensor of two dimensions, or an expert's slice of one with three

  bool gguf() const;
  const modelfile::Tensor* find(const TensorEntry& entry, const Source& source, int layer,
                                int64_t expert) const;
  Matrix matrix_of(const Source& source, const modelfile::Tensor& tensor, int64_t expert,
                   int64_t experts) const;
  kernels::Range rows_of(const Source& source, const modelfile::Tensor& tensor, int64_t rows) const;
  kernels::Range cols_of(const Source& source, const modelfile::Tensor& tensor, int64_t cols) const;
  kernels::WeightPart part_of(const Source& source, const modelfile::Tensor& tensor,
                              const Matrix& matrix) const;
  std::optional<kernels::WeightPart> scaled_part(const Source& source, int layer,
                                                 int64_t expert) const;
  kernels::RowOrder order_of(const Source& source) const;

  kernels::Ops& ops_;
  const modelfile::Model& model_;
  ModelShape shape_;
  Partition partition_;
  Quantisation quantisation_;
};

}  // namespace chorus::weights
