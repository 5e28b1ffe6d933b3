// A tensor as it lies in a model's file: a name, an element type, a shape and mapped bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace chorus::modelfile {

// Element types of GGUF and safetensors that Chorus reads. Those with a q are GGUF's block formats;
// a block covers consecutive elements of one row. Integers hold what quantised safetensors are
// packed in: codes, zeros, groups and shapes.
enum class TensorType : uint8_t {
  f32,
  f16,
  bf16,
  q8_0,
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q4_k,
  q5_k,
  q6_k,
  f8_e4m3,
  i8,
  i32,
  i64,
};

std::string_view name_of(TensorType type);  // "q4_1"
int64_t block_elements(TensorType type);    // 1, 32 or 256
int64_t block_bytes(TensorType type);       // bytes of one block

struct Tensor {
  std::string name;
  TensorType type;
  std::vector<int64_t> shape;  // outermost first: [rows, columns] for a matrix
  // Mapped; lives as long as the Model it came from. Files may put it at any address, aligned or
  // not, so elements are read by memcpy.
  std::span<const std::byte> data;
};

}  // namespace chorus::modelfile
