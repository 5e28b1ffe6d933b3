#include "shard/weights/quantisation.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <cstring>
#include <stdexcept>

#include "kernels/rounding.h"
#include "modelfile/error.h"

namespace chorus::weights {
namespace {

using kernels::WeightScales;
using kernels::WeightType;
using modelfile::Config;
using modelfile::FileError;
using modelfile::Tensor;
using modelfile::TensorType;

constexpr int64_t kWordCodes = 8;  // 4-bit codes in an I32

[[noreturn]] void unsupported(const Config& config, std::string_view key, std::string_view value,
                              std::string_view read) {
  throw FileError(FileError::Kind::unsupported,
                  fmt::format("{}: quantization_config.{} is {}, which Chorus does not read; {} it "
                              "does",
                              config.source(), key, value, read));
}

std::string path(std::string_view key) {
  return "quantization_config." + std::string(key);
}

std::optional<int64_t> integer(const Config& config, std::string_view key) {
  return config.find_integer(path(key), "");
}
std::string text(const Config& config, std::string_view key, std::string_view fallback) {
  return config.find_text(path(key), "").value_or(std::string(fallback));
}
bool flag(const Config& config, std::string_view key) {
  return config.find_flag(path(key), "").value_or(false);
}

void expect_four_bits(const Config& config, std::string_view key) {
  const int64_t bits = integer(config, key).value_or(0);
  if (bits != 4) unsupported(config, key, std::to_string(bits), "4");
}

// -1, or nothing at all, is a group a row.
int64_t group_size(const Config& config, std::string_view key) {
  const int64_t size = integer(config, key).value_or(-1);
  if (size == -1) return 0;
  if (size <= 0 || size % kWordCodes != 0) {
    unsupported(config, key, std::to_string(size), "-1 and multiples of 8");
  }
  return size;
}

Quantisation read_gptq(const Config& config) {
  expect_four_bits(config, "bits");
  const std::string format = text(config, "checkpoint_format", "gptq");
  if (format != "gptq" && format != "gptq_v2") {
    unsupported(config, "checkpoint_format", format, "gptq and gptq_v2");
  }
  if (flag(config, "is_marlin_format")) {
    unsupported(config, "is_marlin_format", "true", "the folder it was made from");
  }
  return {.method = QuantMethod::gptq,
          .group_cols = group_size(config, "group_size"),
          .zeros_minus_one = format == "gptq",
          .sorted = flag(config, "desc_act")};
}

Quantisation read_awq(const Config& config) {
  expect_four_bits(config, config.find_integer(path("w_bit"), "") ? "w_bit" : "bits");
  const std::string version = text(config, "version", "gemm");
  if (version != "gemm" && version != "GEMM") unsupported(config, "version", version, "gemm");
  return {
      .method = QuantMethod::awq,
      .group_cols = group_size(
          config, config.find_integer(path("q_group_size"), "") ? "q_group_size" : "group_size")};
}

// Rows and columns that share a scale; where the key is absent, there are no blocks.
void set_block(Quantisation& quantisation, const Config& config, std::string_view key) {
  const std::vector<double> sizes = config.find_numbers(path(key), "");
  if (sizes.empty()) return;
  const auto is_size = [](double size) { return size >= 1 && size <= 1 << 20; };
  if (sizes.size() != 2 || !is_size(sizes[0]) || !is_size(sizes[1])) {
    unsupported(config, key, "no pair of sizes", "[128, 128]");
  }
  quantisation.block_rows = static_cast<int64_t>(sizes[0]);
  quantisation.block_cols = static_cast<int64_t>(sizes[1]);
}

Quantisation read_fp8(const Config& config) {
  const std::string format = text(config, "fmt", "e4m3");
  if (format != "e4m3" && format != "float8_e4m3fn") unsupported(config, "fmt", format, "e4m3");
  Quantisation quantisation{.method = QuantMethod::fp8};
  set_block(quantisation, config, "weight_block_size");
  return quantisation;
}

Quantisation read_compressed_tensors(const Config& config) {
  if (!config.find_text(path("config_groups.group_0.weights.type"), "")) {
    unsupported(config, "config_groups", "without group_0.weights", "one group of linear layers");
  }
  if (config.find_text(path("config_groups.group_1.weights.type"), "")) {
    unsupported(config, "config_groups", "more than one", "one group of linear layers");
  }
  const std::string weights = "config_groups.group_0.weights.";
  const std::string format = text(config, "format", "");
  Quantisation quantisation{.method = QuantMethod::compressed_tensors};
  const bool packed = format == "pack-quantized", integers = packed || format == "int-quantized";
  if (!integers && format != "float-quantized" && format != "naive-quantized") {
    unsupported(config, "format", format, "pack-quantized, int-quantized and float-quantized");
  }
  const int64_t bits = integer(config, weights + "num_bits").value_or(0);
  const std::string type = text(config, weights + "type", "");
  if (type != (integers ? "int" : "float") || (bits != 8 && !(packed && bits == 4))) {
    unsupported(config, weights + "type", fmt::format("{} of {} bits", type, bits),
                packed     ? "int of 4 or 8 bits"
                : integers ? "int of 8 bits"
                           : "float of 8 bits");
  }
  if (!integers) {
    set_block(quantisation, config, weights + "block_structure");
    return quantisation;
  }
  quantisation.bits = bits;
  quantisation.group_cols = group_size(config, weights + "group_size");
  quantisation.sorted = text(config, weights + "actorder", "") == "group";
  const std::string strategy = text(config, weights + "strategy", "channel");
  if (bits == 8 && strategy != "tensor" && strategy != "channel" && strategy != "group") {
    unsupported(config, weights + "strategy", strategy, "tensor, channel and group");
  }
  if (bits == 8 && quantisation.sorted) {
    unsupported(config, weights + "actorder", "group", "4 bits so, and 8 bits without it,");
  }
  if (bits == 8 && !config.find_flag(path(weights + "symmetric"), "").value_or(true)) {
    unsupported(config, weights + "symmetric", "false", "8 bits with true");
  }
  return quantisation;
}

// --- tensors

using Find = std::function<const Tensor*(const std::string&)>;

std::string text_of(const std::vector<int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

[[noreturn]] void wrong(const Tensor& tensor, std::string_view expected) {
  throw FileError(FileError::Kind::corrupt,
                  fmt::format("tensor {} is {} {}, expected {}", tensor.name,
                              modelfile::name_of(tensor.type), text_of(tensor.shape), expected));
}

void expect(const Tensor& tensor, TensorType type, const std::vector<int64_t>& shape) {
  if (tensor.type == type && tensor.shape == shape) return;
  wrong(tensor, fmt::format("{} {}", modelfile::name_of(type), text_of(shape)));
}

const Tensor& required(const Find& find, const std::string& name, const Tensor& beside) {
  const Tensor* tensor = find(name);
  if (tensor == nullptr) {
    throw FileError(
        FileError::Kind::corrupt,
        fmt::format("tensor {} is missing, which {} needs beside it", name, beside.name));
  }
  return *tensor;
}

WeightType scale_type(const Tensor& tensor) {
  switch (tensor.type) {
    case TensorType::f32:
      return WeightType::f32;
    case TensorType::f16:
      return WeightType::f16;
    case TensorType::bf16:
      return WeightType::bf16;
    default:
      wrong(tensor, "scales in f32, f16 or bf16");
  }
}

void expect_shape(const Tensor& tensor, const std::vector<int64_t>& shape) {
  if (tensor.shape != shape) wrong(tensor, "shape " + text_of(shape));
}

int64_t groups_of(int64_t cols, int64_t group) {
  return group == 0 ? 1 : kernels::ceil_div(cols, group);
}

// A group for each column, each a group that there are scales for.
const std::byte* checked_groups(const Tensor& tensor, int64_t cols, int64_t groups) {
  expect(tensor, TensorType::i32, {cols});
  for (int64_t c = 0; c < cols; ++c) {
    int32_t group = 0;
    if (tensor.data.empty()) break;  // headers alone were read
    std::memcpy(&group, tensor.data.data() + 4 * c, 4);
    if (group < 0 || group >= groups) {
      throw FileError(FileError::Kind::corrupt,
                      fmt::format("tensor {} puts column {} in group {}, there are {}", tensor.name,
                                  c, group, groups));
    }
  }
  return tensor.data.data();
}

const Tensor& words(const Tensor& tensor) {
  if (tensor.type != TensorType::i32 || tensor.shape.size() != 2) {
    wrong(tensor, "a matrix of i32");
  }
  return tensor;
}

// GPTQ and AWQ: scales and zeros are [groups, rows].
ScaledMatrix by_group(const Quantisation& quantisation, const std::string& layer,
                      const Tensor& codes, const Find& find) {
  const bool gptq = quantisation.method == QuantMethod::gptq;
  words(codes);
  ScaledMatrix matrix{.data = codes.data.data(),
                      .type = gptq ? WeightType::i4_gptq : WeightType::i4_awq,
                      .rows = codes.shape[1] * (gptq ? 1 : kWordCodes),
                      .cols = codes.shape[0] * (gptq ? kWordCodes : 1)};
  if (matrix.rows % kWordCodes != 0) wrong(codes, "a number of rows that 8 divides");
  const int64_t groups = groups_of(matrix.cols, quantisation.group_cols);
  const Tensor& scales = required(find, layer + ".scales", codes);
  const Tensor& zeros = required(find, layer + ".qzeros", codes);
  expect_shape(scales, {groups, matrix.rows});
  expect(zeros, TensorType::i32, {groups, matrix.rows / kWordCodes});
  matrix.scales = {
      .scales = scales.data.data(),
      .type = scale_type(scales),
      .group_cols = quantisation.group_cols == 0 ? matrix.cols : quantisation.group_cols,
      .row_stride = 1,
      .col_stride = matrix.rows,
      .zeros = zeros.data.data(),
      .zero_add = quantisation.zeros_minus_one ? 1 : 0};
  if (gptq && quantisation.sorted) {
    matrix.scales.group_of_col =
        checked_groups(required(find, layer + ".g_idx", codes), matrix.cols, groups);
  }
  return matrix;
}

// What compressed-tensors says beside codes in words of how many there are.
void check_shape(const std::string& layer, const ScaledMatrix& matrix, const Tensor& codes,
                 const Find& find) {
  const Tensor* shape = find(layer + ".weight_shape");
  if (shape == nullptr) return;
  const bool wide = shape->type == TensorType::i64;
  expect(*shape, wide ? TensorType::i64 : TensorType::i32, {2});
  std::array<int64_t, 2> sizes{};
  for (size_t i = 0; i < 2 && !shape->data.empty(); ++i) {
    std::memcpy(&sizes[i], shape->data.data() + i * (wide ? 8 : 4), wide ? 8 : 4);
  }
  if (!shape->data.empty() && (sizes[0] != matrix.rows || sizes[1] != matrix.cols)) {
    throw FileError(FileError::Kind::corrupt,
                    fmt::format("tensor {} says [{}, {}], {} has codes for [{}, {}]", shape->name,
                                sizes[0], sizes[1], codes.name, matrix.rows, matrix.cols));
  }
}

// compressed-tensors' 4 bits: everything is [rows, ...].
ScaledMatrix packed(const Quantisation& quantisation, const std::string& layer, const Tensor& codes,
                    const Find& find) {
  words(codes);
  ScaledMatrix matrix{.data = codes.data.data(),
                      .type = WeightType::i4_packed,
                      .rows = codes.shape[0],
                      .cols = codes.shape[1] * kWordCodes};
  const int64_t groups = groups_of(matrix.cols, quantisation.group_cols);
  const Tensor& scales = required(find, layer + ".weight_scale", codes);
  expect_shape(scales, {matrix.rows, groups});
  matrix.scales = {
      .scales = scales.data.data(),
      .type = scale_type(scales),
      .group_cols = quantisation.group_cols == 0 ? matrix.cols : quantisation.group_cols,
      .row_stride = groups,
      .col_stride = 1};
  check_shape(layer, matrix, codes, find);
  if (const Tensor* zeros = find(layer + ".weight_zero_point"); zeros != nullptr) {
    expect(*zeros, TensorType::i32, {kernels::ceil_div(matrix.rows, kWordCodes), groups});
    matrix.scales.zeros = zeros->data.data();
  }
  const Tensor* group_of = find(layer + ".weight_g_idx");
  if (group_of == nullptr && quantisation.sorted) {
    required(find, layer + ".weight_g_idx", codes);
  }
  if (group_of != nullptr) {
    matrix.scales.group_of_col = checked_groups(*group_of, matrix.cols, groups);
  }
  return matrix;
}

// Integers of 8 bits, as they are or with 128 added in words of four: one scale, one a row, or one
// for some columns of a row.
ScaledMatrix integers(const Quantisation& quantisation, const std::string& layer,
                      const Tensor& codes, const Find& find) {
  if (codes.shape.size() != 2) wrong(codes, "a matrix");
  const bool in_words = codes.type == TensorType::i32;
  ScaledMatrix matrix{.data = codes.data.data(),
                      .type = in_words ? WeightType::u8 : WeightType::i8,
                      .rows = codes.shape[0],
                      .cols = codes.shape[1] * (in_words ? 4 : 1)};
  for (const char* beside : {".weight_zero_point", ".weight_g_idx"}) {
    if (find(layer + beside) == nullptr) continue;
    throw FileError(FileError::Kind::unsupported,
                    fmt::format("tensor {}{}: 8-bit codes around another zero than 0, or in groups "
                                "out of order, are not read",
                                layer, beside));
  }
  check_shape(layer, matrix, codes, find);
  const int64_t groups = groups_of(matrix.cols, quantisation.group_cols);
  const Tensor& scales = required(find, layer + ".weight_scale", codes);
  const bool one = scales.shape.empty() || scales.shape == std::vector<int64_t>{1};
  const bool a_row = scales.shape == std::vector<int64_t>{matrix.rows};
  if (groups > 1 || !(one || a_row)) expect_shape(scales, {matrix.rows, groups});
  matrix.scales = {
      .scales = scales.data.data(),
      .type = scale_type(scales),
      .group_cols = std::max<int64_t>(groups == 1 ? matrix.cols : quantisation.group_cols, 1),
      .row_stride = one ? 0 : groups,
      .col_stride = groups == 1 ? 0 : 1};
  return matrix;
}

// fp8: one scale, one a row, or one a block.
ScaledMatrix bytes(const Quantisation& quantisation, const std::string& layer, const Tensor& codes,
                   const Find& find) {
  if (codes.shape.size() != 2) wrong(codes, "a matrix");
  ScaledMatrix matrix{.data = codes.data.data(),
                      .type = WeightType::f8_e4m3,
                      .rows = codes.shape[0],
                      .cols = codes.shape[1]};
  const Tensor* found = find(layer + ".weight_scale_inv");
  const Tensor& scales = found != nullptr ? *found : required(find, layer + ".weight_scale", codes);
  matrix.scales = {.scales = scales.data.data(),
                   .type = scale_type(scales),
                   .group_cols = std::max<int64_t>(matrix.cols, 1)};
  const auto& shape = scales.shape;
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  if (quantisation.block_rows > 0 && shape.size() == 2) {
    const int64_t col_groups = groups_of(matrix.cols, quantisation.block_cols);
    expect_shape(scales, {groups_of(matrix.rows, quantisation.block_rows), col_groups});
    matrix.scales.group_rows = quantisation.block_rows;
    matrix.scales.group_cols = quantisation.block_cols;
    matrix.scales.row_stride = col_groups;
    matrix.scales.col_stride = 1;
  } else if (count == matrix.rows && shape.size() <= 2 && !shape.empty() &&
             shape[0] == matrix.rows) {
    matrix.scales.row_stride = 1;
  } else if (count != 1) {
    wrong(scales, fmt::format("one scale or one for each of {} rows", matrix.rows));
  }
  return matrix;
}

}  // namespace

std::string_view name_of(QuantMethod method) {
  switch (method) {
    case QuantMethod::none:
      return "none";
    case QuantMethod::gptq:
      return "gptq";
    case QuantMethod::awq:
      return "awq";
    case QuantMethod::fp8:
      return "fp8";
    case QuantMethod::compressed_tensors:
      return "compressed-tensors";
  }
  return "";
}

Quantisation read_quantisation(const Config& config) {
  if (config.format() == modelfile::Format::gguf) return {};
  const std::string method = text(config, "quant_method", "");
  if (method.empty()) return {};
  if (method == "gptq") return read_gptq(config);
  if (method == "awq") return read_awq(config);
  if (method == "fp8") return read_fp8(config);
  if (method == "compressed-tensors") return read_compressed_tensors(config);
  unsupported(config, "quant_method", method, "gptq, awq, fp8 and compressed-tensors");
}

std::optional<ScaledMatrix> find_scaled(const Quantisation& quantisation, const std::string& weight,
                                        const Find& find) {
  constexpr std::string_view kSuffix = ".weight";
  if (quantisation.method == QuantMethod::none || !weight.ends_with(kSuffix)) return std::nullopt;
  const std::string layer = weight.substr(0, weight.size() - kSuffix.size());
  switch (quantisation.method) {
    case QuantMethod::none:
      break;
    case QuantMethod::gptq:
    case QuantMethod::awq:
      if (const Tensor* codes = find(layer + ".qweight")) {
        return by_group(quantisation, layer, *codes, find);
      }
      return std::nullopt;
    case QuantMethod::compressed_tensors:
      if (const Tensor* codes = find(layer + ".weight_packed")) {
        if (quantisation.bits == 8) return integers(quantisation, layer, words(*codes), find);
        return packed(quantisation, layer, *codes, find);
      }
      if (const Tensor* codes = find(weight); codes != nullptr && codes->type == TensorType::i8) {
        return integers(quantisation, layer, *codes, find);
      }
      [[fallthrough]];
    case QuantMethod::fp8:
      if (const Tensor* codes = find(weight);
          codes != nullptr && codes->type == TensorType::f8_e4m3) {
        return bytes(quantisation, layer, *codes, find);
      }
      return std::nullopt;
  }
  return std::nullopt;
}

void check_quantize(std::string_view wanted, const modelfile::Model& model) {
  if (wanted.empty()) return;
  const auto refuse = [&](const std::string& what) {
    throw std::invalid_argument(fmt::format("--quantize {}: {}", wanted, what));
  };
  const QuantMethod method = read_quantisation(model.config()).method;
  const bool marlin = wanted == "marlin";  // TGI's kernels for gptq and awq
  if (wanted == name_of(method)) return;
  if (marlin && (method == QuantMethod::gptq || method == QuantMethod::awq)) return;
  if (method != QuantMethod::none) {
    refuse(fmt::format("the checkpoint is quantised by {}; leave the flag away or name that",
                       name_of(method)));
  }
  if (model.config().format() == modelfile::Format::gguf) {
    refuse("a GGUF file is served in its own types; leave the flag away");
  }
  refuse(
      "the checkpoint is not quantised, and Chorus does not quantise while loading; choose a "
      "quantised checkpoint or leave the flag away");
}

}  // namespace chorus::weights
