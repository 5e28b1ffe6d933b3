// Quantised Hugging Face folders: config.json's quantization_config says how, and a linear layer X
// has, instead of X.weight in a plain type,
//
//   gptq                X.qweight, X.qzeros, X.scales, X.g_idx
//   awq                 X.qweight, X.qzeros, X.scales
//   fp8                 X.weight in F8_E4M3, and X.weight_scale_inv (blocks) or X.weight_scale
//   compressed-tensors  the same with X.weight_scale; X.weight in I8 and X.weight_scale; or
//                       X.weight_packed (4 or 8 bits), X.weight_scale and, of 4 bits,
//                       X.weight_zero_point or X.weight_g_idx where they are needed
//
// A layer that the checkpoint left alone has a plain X.weight: what is there decides. Scales of
// activations are not read: activations stay in the type that a backend multiplies in.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "kernels/weight.h"
#include "modelfile/model.h"

namespace chorus::weights {

enum class QuantMethod : uint8_t { none, gptq, awq, fp8, compressed_tensors };
std::string_view name_of(QuantMethod method);  // as quant_method has it; "none"

struct Quantisation {
  QuantMethod method = QuantMethod::none;
  int64_t bits = 4;        // of integer codes
  int64_t group_cols = 0;  // of these; 0: a row is one group
  int64_t block_rows = 0;  // of fp8's scales; 0: by row or for all
  int64_t block_cols = 0;
  bool zeros_minus_one = false;  // GPTQ's first format
  bool sorted = false;           // GPTQ's desc_act
};

// From the model's configuration. Throws FileError(unsupported) where a method, a format or a
// number of bits is not read, naming the key and what is read.
Quantisation read_quantisation(const modelfile::Config& config);

// A tensor's bytes as a matrix, with the scales beside it.
struct ScaledMatrix {
  const std::byte* data = nullptr;
  kernels::WeightType type = kernels::WeightType::f8_e4m3;
  int64_t rows = 0, cols = 0;
  kernels::WeightScales scales = {};
};

// The matrix that has the name `weight` ("….weight") where it is plain. Nothing where it is plain
// or not there. Throws FileError naming the tensor that is missing, or has another type or shape
// than the others and the configuration ask for. `find` gives tensors by name, or null.
std::optional<ScaledMatrix> find_scaled(
    const Quantisation& quantisation, const std::string& weight,
    const std::function<const modelfile::Tensor*(const std::string&)>& find);

// What --quantize asks for, against what the checkpoint is: throws std::invalid_argument saying
// what to do instead. Empty asks for nothing.
void check_quantize(std::string_view wanted, const modelfile::Model& model);

}  // namespace chorus::weights
