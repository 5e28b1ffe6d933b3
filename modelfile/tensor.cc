#include "modelfile/tensor.h"

#include <cassert>

namespace chorus::modelfile {
namespace {

struct Layout {
  std::string_view name;
  int64_t elements;
  int64_t bytes;
};

// The blocks of ggml, by field: q8_0 = f16 scale + 32 int8; q4_0 = f16 scale + 16; q4_1 = f16
// scale, f16 minimum + 16; q5_0 and q5_1 = those + 4 (fifth bits); q4_k = two f16 + 12 (6-bit
// scales and minima) + 128; q5_k = that + 32 (fifth bits); q6_k = 128 (low bits) + 64 (high bits) +
// 16 scales + f16.
Layout layout_of(TensorType type) {
  switch (type) {
    case TensorType::f32:
      return {"f32", 1, 4};
    case TensorType::f16:
      return {"f16", 1, 2};
    case TensorType::bf16:
      return {"bf16", 1, 2};
    case TensorType::q8_0:
      return {"q8_0", 32, 34};
    case TensorType::q4_0:
      return {"q4_0", 32, 18};
    case TensorType::q4_1:
      return {"q4_1", 32, 20};
    case TensorType::q5_0:
      return {"q5_0", 32, 22};
    case TensorType::q5_1:
      return {"q5_1", 32, 24};
    case TensorType::q4_k:
      return {"q4_k", 256, 144};
    case TensorType::q5_k:
      return {"q5_k", 256, 176};
    case TensorType::q6_k:
      return {"q6_k", 256, 210};
    case TensorType::f8_e4m3:
      return {"f8_e4m3", 1, 1};
    case TensorType::i8:
      return {"i8", 1, 1};
    case TensorType::i32:
      return {"i32", 1, 4};
    case TensorType::i64:
      return {"i64", 1, 8};
  }
  assert(!"a value outside the enum");
  return {};
}

}  // namespace

std::string_view name_of(TensorType type) {
  return layout_of(type).name;
}
int64_t block_elements(TensorType type) {
  return layout_of(type).elements;
}
int64_t block_bytes(TensorType type) {
  return layout_of(type).bytes;
}

}  // namespace chorus::modelfile
