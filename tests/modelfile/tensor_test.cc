#include "modelfile/tensor.h"

#include <catch2/catch.hpp>

namespace chorus::modelfile {

TEST_CASE("each element type has a name and a block", "[modelfile]") {
  struct Row {
    TensorType type;
    const char* name;
    int64_t elements, bytes;
  };
  const Row rows[] = {{TensorType::f32, "f32", 1, 4},       {TensorType::f16, "f16", 1, 2},
                      {TensorType::bf16, "bf16", 1, 2},     {TensorType::q8_0, "q8_0", 32, 34},
                      {TensorType::q4_0, "q4_0", 32, 18},   {TensorType::q4_1, "q4_1", 32, 20},
                      {TensorType::q5_0, "q5_0", 32, 22},   {TensorType::q5_1, "q5_1", 32, 24},
                      {TensorType::q4_k, "q4_k", 256, 144}, {TensorType::q5_k, "q5_k", 256, 176},
                      {TensorType::q6_k, "q6_k", 256, 210}, {TensorType::f8_e4m3, "f8_e4m3", 1, 1},
                      {TensorType::i32, "i32", 1, 4},       {TensorType::i64, "i64", 1, 8},
                      {TensorType::i8, "i8", 1, 1}};
  for (const Row& row : rows) {
    CHECK(name_of(row.type) == row.name);
    CHECK(block_elements(row.type) == row.elements);
    CHECK(block_bytes(row.type) == row.bytes);
  }
}

}  // namespace chorus::modelfile
