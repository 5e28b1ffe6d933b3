// Random quantised weights in every way that a checkpoint may hold them.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/kernels/random_weights.h"
#include "tests/kernels/scaled_weights.h"

namespace chorus::tests {

// A part of a weight and what its elements are.
struct Source {
  std::string name;
  WeightPart part;
  std::function<double(int64_t row, int64_t col)> at;  // of the whole source
  std::shared_ptr<const void> owner;
};

inline Source blocks(WeightType type, int64_t rows, int64_t cols, uint32_t seed = 1) {
  for (const TypeFacts& facts : kTypes) {
    if (facts.type != type) continue;
    auto matrix = std::make_shared<SourceMatrix>(random_matrix(facts, rows, cols, seed));
    return {facts.name, matrix->part(), [matrix](int64_t r, int64_t c) { return matrix->at(r, c); },
            matrix};
  }
  return {};
}

inline Source scaled(const std::string& name, const ScaledShape& shape) {
  auto matrix = std::make_shared<ScaledMatrix>(shape);
  return {name, matrix->part(), [matrix](int64_t r, int64_t c) { return matrix->at(r, c); },
          matrix};
}

inline std::vector<Source> all_sources(int64_t rows, int64_t cols) {
  using enum WeightType;
  std::vector<Source> all;
  for (const auto type : {q8_0, q4_0, q4_1, q5_0, q5_1, q4_k, q5_k, q6_k})
    all.push_back(blocks(type, rows, cols));
  const auto add = [&](const char* name, ScaledShape shape) {
    shape.rows = rows;
    shape.cols = cols;
    all.push_back(scaled(name, shape));
  };
  add("fp8 per tensor", {.group_rows = 0, .group_cols = 0});
  add("fp8 per channel", {.group_cols = 0, .scale_type = bf16});
  add("fp8 by block", {.group_rows = 128});
  add("fp8 by small block", {.group_rows = 24});
  add("fp8 by a tile's rows", {.group_rows = 16});
  add("int8 per channel", {.type = i8, .group_cols = 0, .scale_type = bf16});
  add("int8 by 128", {.type = i8, .scale_type = f16});
  add("int8 packed", {.type = u8, .group_cols = 0});
  add("gptq by 128", {.type = i4_gptq, .scale_type = f16, .zeros = true});
  add("gptq by 32", {.type = i4_gptq, .group_cols = 32, .scale_type = f16, .zeros = true});
  add("gptq in act order",
      {.type = i4_gptq, .group_cols = 128, .scale_type = f16, .zeros = true, .act_order = true});
  add("gptq by 40, listed",
      {.type = i4_gptq, .group_cols = 40, .scale_type = f16, .zeros = true, .listed = true});
  add("gptq by row", {.type = i4_gptq, .group_cols = 0, .scale_type = f16});
  add("awq", {.type = i4_awq, .scale_type = f16, .zeros = true});
  add("packed", {.type = i4_packed, .group_cols = 64, .scale_type = bf16, .zeros = true});
  add("packed and symmetric", {.type = i4_packed, .scale_type = f16});
  return all;
}

}  // namespace chorus::tests
