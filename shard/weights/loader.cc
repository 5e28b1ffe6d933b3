#include "shard/weights/loader.h"

#include <fmt/format.h>

#include <cassert>

namespace chorus::weights {
namespace {

using kernels::Range;
using kernels::WeightType;
using modelfile::FileError;
using modelfile::Tensor;
using modelfile::TensorType;

WeightType weight_type(TensorType type) {
  switch (type) {
    case TensorType::f32:
      return WeightType::f32;
    case TensorType::f16:
      return WeightType::f16;
    case TensorType::bf16:
      return WeightType::bf16;
    case TensorType::q8_0:
      return WeightType::q8_0;
    case TensorType::q4_1:
      return WeightType::q4_1;
    case TensorType::q5_0:
      return WeightType::q5_0;
    case TensorType::q4_k:
      return WeightType::q4_k;
    case TensorType::q6_k:
      return WeightType::q6_k;
  }
  assert(!"unknown tensor type");
  return WeightType::f32;
}

void expect_size(const Tensor& tensor, std::string_view what, int64_t got, int64_t expected) {
  if (got == expected) return;
  throw FileError(FileError::Kind::corrupt,
                  fmt::format("tensor {} has {} {}, the model's configuration says {}", tensor.name,
                              got, what, expected));
}

}  // namespace

Loader::Loader(kernels::Ops& ops, const modelfile::Model& model, const ModelShape& shape,
               const Partition& partition)
    : ops_(ops), model_(model), shape_(shape), partition_(partition) {}

const Tensor* Loader::find(const TensorEntry& entry, const Source& source, int layer) const {
  const bool gguf = model_.config().format() == modelfile::Format::gguf;
  const std::string name =
      fmt::format(fmt::runtime(gguf ? source.gguf : source.safetensors), layer);
  const Tensor* tensor = model_.find(name);
  if (tensor == nullptr && !entry.optional) {
    throw FileError(FileError::Kind::corrupt,
                    fmt::format("{}: tensor {} is missing", model_.path().string(), name));
  }
  return tensor;
}

Range Loader::rows_of(const Source& source, const Tensor& tensor) const {
  const int64_t rows = tensor.shape[0];
  const auto heads = [&](Range range, int64_t count) {
    expect_size(tensor, "rows", rows, count * shape_.head_dim);
    return Range{range.begin * shape_.head_dim, range.end * shape_.head_dim};
  };
  switch (source.split) {
    case Split::query_heads:
      return heads(partition_.heads, shape_.heads);
    case Split::kv_heads:
      return heads(partition_.kv_heads, shape_.kv_heads);
    case Split::ffn:
      expect_size(tensor, "rows", rows, shape_.ffn);
      return partition_.ffn;
    case Split::vocabulary:
      expect_size(tensor, "rows", rows, shape_.vocab);
      return partition_.vocab;
    case Split::none:
    case Split::heads_input:
    case Split::ffn_input:
      return {0, rows};
  }
  return {0, rows};
}

Range Loader::cols_of(const Source& source, const Tensor& tensor) const {
  const int64_t cols = tensor.shape[1];
  switch (source.split) {
    case Split::heads_input:
      expect_size(tensor, "columns", cols, shape_.heads * shape_.head_dim);
      return {partition_.heads.begin * shape_.head_dim, partition_.heads.end * shape_.head_dim};
    case Split::ffn_input:
      expect_size(tensor, "columns", cols, shape_.ffn);
      return partition_.ffn;
    case Split::none:
    case Split::query_heads:
    case Split::kv_heads:
    case Split::ffn:
    case Split::vocabulary:
      return {0, cols};
  }
  return {0, cols};
}

kernels::Weight Loader::load(const TensorEntry& entry, int layer) {
  const bool gguf = model_.config().format() == modelfile::Format::gguf;
  kernels::WeightDescription matrix;
  kernels::VectorDescription vector;
  vector.add = gguf ? 0 : entry.safetensors_add;
  for (const Source& source : entry.parts) {
    const Tensor* tensor = find(entry, source, layer);
    if (tensor == nullptr) return nullptr;
    const auto order = gguf ? source.gguf_order : kernels::RowOrder::as_stored;
    const WeightType type = weight_type(tensor->type);
    if (tensor->shape.size() == 1) {
      vector.parts.push_back({.data = tensor->data.data(),
                              .type = type,
                              .range = rows_of(source, *tensor),
                              .order = order,
                              .head_dim = shape_.head_dim});
    } else if (tensor->shape.size() == 2) {
      matrix.parts.push_back({.data = tensor->data.data(),
                              .type = type,
                              .source_cols = tensor->shape[1],
                              .rows = rows_of(source, *tensor),
                              .cols = cols_of(source, *tensor),
                              .order = order,
                              .head_dim = shape_.head_dim});
    } else {
      throw FileError(FileError::Kind::corrupt,
                      fmt::format("tensor {} has {} dimensions instead of 1 or 2", tensor->name,
                                  tensor->shape.size()));
    }
  }
  if (!matrix.parts.empty() && !vector.parts.empty()) {
    throw FileError(FileError::Kind::corrupt, "parts of one weight are matrix and vector");
  }
  return matrix.parts.empty() ? ops_.prepare_vector(vector) : ops_.prepare(matrix);
}

kernels::Weight Loader::load_table(const TensorEntry& entry) {
  const Tensor* tensor = find(entry, entry.parts.front(), 0);
  expect_size(*tensor, "dimensions", static_cast<int64_t>(tensor->shape.size()), 2);
  expect_size(*tensor, "rows", tensor->shape[0], shape_.vocab);
  return ops_.prepare_table({.data = tensor->data.data(),
                             .type = weight_type(tensor->type),
                             .source_cols = tensor->shape[1],
                             .rows = {0, tensor->shape[0]},
                             .cols = {0, tensor->shape[1]}});
}

}  // namespace chorus::weights
