#include "shard/weights/loader.h"

#include <fmt/format.h>

#include <cassert>
#include <cstring>
#include <memory>

#include "kernels/quant.h"

namespace chorus::weights {
namespace {

using kernels::Range;
using kernels::WeightType;
using modelfile::FileError;
using modelfile::Tensor;
using modelfile::TensorType;

WeightType weight_type(const Tensor& tensor) {
  switch (tensor.type) {
    case TensorType::f32:
      return WeightType::f32;
    case TensorType::f16:
      return WeightType::f16;
    case TensorType::bf16:
      return WeightType::bf16;
    case TensorType::q8_0:
      return WeightType::q8_0;
    case TensorType::q4_0:
      return WeightType::q4_0;
    case TensorType::q4_1:
      return WeightType::q4_1;
    case TensorType::q5_0:
      return WeightType::q5_0;
    case TensorType::q5_1:
      return WeightType::q5_1;
    case TensorType::q4_k:
      return WeightType::q4_k;
    case TensorType::q5_k:
      return WeightType::q5_k;
    case TensorType::q6_k:
      return WeightType::q6_k;
    case TensorType::f8_e4m3:
    case TensorType::i8:
    case TensorType::i32:
    case TensorType::i64:
      break;
  }
  throw FileError(
      FileError::Kind::unsupported,
      fmt::format("tensor {} is {}, which is read as the matrix of a linear layer alone, "
                  "as config.json's quantization_config describes it",
                  tensor.name, modelfile::name_of(tensor.type)));
}

void expect_size(const Tensor& tensor, std::string_view what, int64_t got, int64_t expected) {
  if (got == expected) return;
  throw FileError(FileError::Kind::corrupt,
                  fmt::format("tensor {} has {} {}, the model's configuration says {}", tensor.name,
                              got, what, expected));
}

// The elements [cols, rows) of a row-major matrix with `stride` columns, as [rows, cols].
std::shared_ptr<const std::byte[]> transposed(const std::byte* data, int64_t size, int64_t stride,
                                              Range rows, Range cols) {
  const std::shared_ptr<std::byte[]> copy(
      new std::byte[static_cast<size_t>(rows.size() * cols.size() * size)]);
  for (int64_t col = cols.begin; col < cols.end; ++col) {
    const std::byte* from = data + (col * stride + rows.begin) * size;
    std::byte* to = copy.get() + (col - cols.begin) * size;
    for (int64_t row = 0; row < rows.size(); ++row) {
      std::memcpy(to + row * cols.size() * size, from + row * size, static_cast<size_t>(size));
    }
  }
  return copy;
}

}  // namespace

const Tensor* find_tensor(const modelfile::Model& model, const std::string& name) {
  const Tensor* tensor = model.find(name);
  if (tensor == nullptr) tensor = model.find("language_model." + name);
  constexpr std::string_view kModel = "model.";
  if (tensor == nullptr && name.starts_with(kModel)) {
    tensor = model.find("model.language_model." + name.substr(kModel.size()));
  }
  return tensor;
}

struct Loader::Matrix {
  const std::byte* data = nullptr;
  WeightType type = WeightType::f32;
  int64_t rows = 0, cols = 0;
  bool transposed = false;  // `data` holds the columns as rows
};

Loader::Loader(kernels::Ops& ops, const modelfile::Model& model, const ModelShape& shape,
               const Partition& partition)
    : ops_(ops),
      model_(model),
      shape_(shape),
      partition_(partition),
      quantisation_(read_quantisation(model.config())) {}

bool Loader::gguf() const {
  return model_.config().format() == modelfile::Format::gguf;
}

kernels::RowOrder Loader::order_of(const Source& source) const {
  return gguf() ? source.gguf_order : source.safetensors_order;
}

const Tensor* Loader::find(const TensorEntry& entry, const Source& source, int layer,
                           int64_t expert) const {
  const std::string name =
      fmt::format(fmt::runtime(gguf() ? source.gguf : source.safetensors), layer, expert);
  const Tensor* tensor = find_tensor(model_, name);
  if (tensor == nullptr && !entry.optional) {
    throw FileError(FileError::Kind::corrupt,
                    fmt::format("{}: tensor {} is missing", model_.path().string(), name));
  }
  return tensor;
}

// `experts`: 0 where the tensor is no expert's.
Loader::Matrix Loader::matrix_of(const Source& source, const Tensor& tensor, int64_t expert,
                                 int64_t experts) const {
  const auto dimensions = static_cast<int64_t>(tensor.shape.size());
  const bool stacked = experts > 0 && dimensions == 3;
  if (!stacked) expect_size(tensor, "dimensions", dimensions, 2);
  if (stacked) expect_size(tensor, "experts", tensor.shape[0], experts);
  Matrix matrix{.data = tensor.data.data(),
                .type = weight_type(tensor),
                .rows = tensor.shape[stacked ? 1 : 0],
                .cols = tensor.shape[stacked ? 2 : 1],
                .transposed = !gguf() && source.safetensors_transposed};
  if (stacked) matrix.data += expert * matrix.rows * kernels::row_bytes(matrix.type, matrix.cols);
  if (matrix.transposed) std::swap(matrix.rows, matrix.cols);
  return matrix;
}

Range Loader::rows_of(const Source& source, const Tensor& tensor, int64_t rows) const {
  const Fused& fused = gguf() ? source.gguf_fused : source.safetensors_fused;
  const auto wanted = [&](Range range, int64_t whole) {
    expect_size(tensor, "rows", rows, fused.rows > 0 ? fused.rows : whole);
    return Range{fused.first_row + range.begin, fused.first_row + range.end};
  };
  const auto heads = [&](Range range, int64_t count) {
    return wanted({range.begin * shape_.head_dim, range.end * shape_.head_dim},
                  count * shape_.head_dim);
  };
  switch (source.split) {
    case Split::query_heads:
      return heads(partition_.heads, shape_.heads);
    case Split::kv_heads:
      return heads(partition_.kv_heads, shape_.kv_heads);
    case Split::ffn:
      return wanted(partition_.ffn, shape_.ffn);
    case Split::expert_ffn:
      return wanted(partition_.expert_ffn, shape_.expert_ffn);
    case Split::vocabulary:
      return wanted(partition_.vocab, shape_.vocab);
    case Split::none:
    case Split::heads_input:
    case Split::ffn_input:
    case Split::expert_ffn_input:
      return {0, rows};
  }
  return {0, rows};
}

Range Loader::cols_of(const Source& source, const Tensor& tensor, int64_t cols) const {
  switch (source.split) {
    case Split::heads_input:
      expect_size(tensor, "columns", cols, shape_.heads * shape_.head_dim);
      return {partition_.heads.begin * shape_.head_dim, partition_.heads.end * shape_.head_dim};
    case Split::ffn_input:
      expect_size(tensor, "columns", cols, shape_.ffn);
      return partition_.ffn;
    case Split::expert_ffn_input:
      expect_size(tensor, "columns", cols, shape_.expert_ffn);
      return partition_.expert_ffn;
    case Split::none:
    case Split::query_heads:
    case Split::kv_heads:
    case Split::ffn:
    case Split::expert_ffn:
    case Split::vocabulary:
      return {0, cols};
  }
  return {0, cols};
}

kernels::WeightPart Loader::part_of(const Source& source, const Tensor& tensor,
                                    const Matrix& matrix) const {
  kernels::WeightPart part{.data = matrix.data,
                           .type = matrix.type,
                           .source_cols = matrix.cols,
                           .rows = rows_of(source, tensor, matrix.rows),
                           .cols = cols_of(source, tensor, matrix.cols),
                           .order = order_of(source),
                           .head_dim = shape_.head_dim};
  if (!matrix.transposed) return part;
  assert(part.order == kernels::RowOrder::as_stored);
  if (matrix.type != WeightType::f32 && matrix.type != WeightType::f16 &&
      matrix.type != WeightType::bf16) {
    throw FileError(FileError::Kind::unsupported,
                    fmt::format("tensor {} is transposed and of type {}, which Chorus does not "
                                "read; F32, F16 and BF16 it does",
                                tensor.name, modelfile::name_of(tensor.type)));
  }
  part.owner =
      transposed(matrix.data, kernels::block_bytes(matrix.type), matrix.rows, part.rows, part.cols);
  part.data = part.owner.get();
  part.source_cols = part.cols.size();
  part.rows = {0, part.rows.size()};
  part.cols = {0, part.cols.size()};
  return part;
}

// Nothing where the tensor is plain, or there is none.
std::optional<kernels::WeightPart> Loader::scaled_part(const Source& source, int layer,
                                                       int64_t expert) const {
  const std::string name = fmt::format(fmt::runtime(source.safetensors), layer, expert);
  const auto scaled = find_scaled(
      quantisation_, name, [this](const std::string& other) { return find_tensor(model_, other); });
  if (!scaled) return std::nullopt;
  const Tensor shape{
      .name = name, .type = TensorType::f32, .shape = {scaled->rows, scaled->cols}, .data = {}};
  kernels::WeightPart part = part_of(source, shape,
                                     {.data = scaled->data,
                                      .type = scaled->type,
                                      .rows = scaled->rows,
                                      .cols = scaled->cols,
                                      .transposed = source.safetensors_transposed});
  part.source_rows = scaled->rows;
  part.scales = scaled->scales;
  return part;
}

kernels::Weight Loader::load(const TensorEntry& entry, int layer) {
  kernels::WeightDescription matrix;
  kernels::VectorDescription vector;
  vector.add = gguf() ? 0 : entry.safetensors_add;
  for (const Source& source : entry.parts) {
    if (auto part = scaled_part(source, layer, 0)) {
      matrix.parts.push_back(std::move(*part));
      continue;
    }
    const Tensor* tensor = find(entry, source, layer, 0);
    if (tensor == nullptr) return nullptr;
    if (tensor->shape.size() == 1) {
      vector.parts.push_back({.data = tensor->data.data(),
                              .type = weight_type(*tensor),
                              .range = rows_of(source, *tensor, tensor->shape[0]),
                              .order = order_of(source),
                              .head_dim = shape_.head_dim});
    } else {
      matrix.parts.push_back(part_of(source, *tensor, matrix_of(source, *tensor, 0, 0)));
    }
  }
  if (!matrix.parts.empty() && !vector.parts.empty()) {
    throw FileError(FileError::Kind::corrupt, "parts of one weight are matrix and vector");
  }
  return matrix.parts.empty() ? ops_.prepare_vector(vector) : ops_.prepare(matrix);
}

std::vector<kernels::Weight> Loader::load_experts(const TensorEntry& entry, int layer,
                                                  int64_t experts) {
  std::vector<kernels::Weight> weights;
  for (int64_t expert = 0; expert < experts; ++expert) {
    kernels::WeightDescription matrix;
    for (const Source& source : entry.parts) {
      if (auto part = scaled_part(source, layer, expert)) {
        matrix.parts.push_back(std::move(*part));
        continue;
      }
      const Tensor& tensor = *find(entry, source, layer, expert);
      matrix.parts.push_back(part_of(source, tensor, matrix_of(source, tensor, expert, experts)));
    }
    weights.push_back(ops_.prepare(matrix));
  }
  return weights;
}

kernels::Weight Loader::load_table(const TensorEntry& entry) {
  const Tensor* tensor = find(entry, entry.parts.front(), 0, 0);
  expect_size(*tensor, "dimensions", static_cast<int64_t>(tensor->shape.size()), 2);
  expect_size(*tensor, "rows", tensor->shape[0], shape_.vocab);
  return ops_.prepare_table({.data = tensor->data.data(),
                             .type = weight_type(*tensor),
                             .source_cols = tensor->shape[1],
                             .rows = {0, tensor->shape[0]},
                             .cols = {0, tensor->shape[1]}});
}

}  // namespace chorus::weights
