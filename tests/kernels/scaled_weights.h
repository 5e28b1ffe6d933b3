// Random matrices of the types that have scales beside them, as Hugging Face's checkpoints lay them
// out, and what their elements are: said in f64 from the numbers they were made of, so that packing
// and unpacking are tested against each other.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/half.h"
#include "kernels/weight.h"

namespace chorus::tests {

using kernels::WeightPart;
using kernels::WeightType;

struct ScaledShape {
  WeightType type = WeightType::f8_e4m3;
  int64_t rows = 0, cols = 0;
  int64_t group_rows = 1, group_cols = 128;  // 0: one for all
  WeightType scale_type = WeightType::f32;
  bool zeros = false;      // of 4-bit types; without: 8
  bool act_order = false;  // GPTQ's g_idx, shuffled
  bool listed = false;     // a g_idx in order
  uint32_t seed = 1;
  float scale_min = 0.01F;  // scales are up to eleven times that
};

inline double e4m3_value(int code) {
  const int exponent = code >> 3 & 15, mantissa = code & 7;
  const double magnitude =
      exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
  return (code & 0x80) != 0 ? -magnitude : magnitude;
}

class ScaledMatrix {
 public:
  explicit ScaledMatrix(const ScaledShape& shape) : shape_(shape), random_(shape.seed) {
    row_groups_ = groups(shape.rows, shape.group_rows);
    col_groups_ = groups(shape.cols, shape.group_cols);
    for (int64_t c = 0; c < shape.cols; ++c) {
      group_of_.push_back(static_cast<int32_t>(shape.group_cols == 0 ? 0 : c / shape.group_cols));
    }
    if (shape.act_order) std::shuffle(group_of_.begin(), group_of_.end(), random_);
    make_scales();
    is_bytes() ? make_bytes() : make_nibbles();
  }

  double at(int64_t row, int64_t col) const {
    const int64_t group = group_of_[static_cast<size_t>(col)];
    const double scale = scale_at(row, group);
    const int code = codes_[static_cast<size_t>(row * shape_.cols + col)];
    if (shape_.type == WeightType::f8_e4m3) return scale * e4m3_value(code);
    if (shape_.type == WeightType::i8) return scale * (code - (code > 127 ? 256 : 0));
    if (shape_.type == WeightType::u8) return scale * (code - 128);
    return scale * (code - zero_at(row, group));
  }
  const ScaledShape& shape() const { return shape_; }
  const std::vector<uint32_t>& words() const { return words_; }
  const std::vector<uint8_t>& codes() const { return codes_; }
  const std::vector<uint8_t>& scale_bytes() const { return scale_bytes_; }
  const std::vector<uint32_t>& zero_words() const { return zero_words_; }
  const std::vector<int32_t>& group_of() const { return group_of_; }
  int64_t col_groups() const { return col_groups_; }

  WeightPart part() const {
    const bool gptq = shape_.type == WeightType::i4_gptq, awq = shape_.type == WeightType::i4_awq;
    const bool by_group = gptq || awq;  // scales [groups, rows]
    kernels::WeightScales scales{
        .scales = as_bytes(scale_bytes_.data()),
        .type = shape_.scale_type,
        .group_rows = shape_.group_rows == 0 ? 1 : shape_.group_rows,
        .group_cols = shape_.group_cols == 0 ? shape_.cols : shape_.group_cols,
        .row_stride = shape_.group_rows == 0 ? 0
                      : by_group             ? 1
                                             : col_groups_,
        .col_stride = shape_.group_cols == 0 ? 0
                      : by_group             ? shape_.rows
                                             : 1,
        .zeros = shape_.zeros ? as_bytes(zero_words_.data()) : nullptr,
        .zero_add = gptq ? 1 : 0,
        .group_of_col = shape_.act_order || shape_.listed ? as_bytes(group_of_.data()) : nullptr};
    return {.data = is_bytes() ? as_bytes(codes_.data()) : as_bytes(words_.data()),
            .type = shape_.type,
            .source_cols = shape_.cols,
            .rows = {0, shape_.rows},
            .cols = {0, shape_.cols},
            .source_rows = shape_.rows,
            .scales = scales};
  }

 private:
  template <class T>
  static const std::byte* as_bytes(const T* data) {
    return reinterpret_cast<const std::byte*>(data);
  }
  static int64_t groups(int64_t count, int64_t size) {
    return size == 0 ? 1 : (count + size - 1) / size;
  }
  bool is_bytes() const {
    return shape_.type == WeightType::f8_e4m3 || shape_.type == WeightType::i8 ||
           shape_.type == WeightType::u8;
  }
  bool by_group() const {
    return shape_.type == WeightType::i4_gptq || shape_.type == WeightType::i4_awq;
  }
  double scale_at(int64_t row, int64_t group) const {
    return scales_[static_cast<size_t>(scale_index(row, group))];
  }
  int64_t scale_index(int64_t row, int64_t group) const {
    const int64_t row_group = shape_.group_rows == 0 ? 0 : row / shape_.group_rows;
    return by_group() ? group * row_groups_ + row_group : row_group * col_groups_ + group;
  }
  int zero_at(int64_t row, int64_t group) const {
    return shape_.zeros ? zeros_[static_cast<size_t>(group * shape_.rows + row)] : 8;
  }

  void make_scales() {
    scales_.resize(static_cast<size_t>(row_groups_ * col_groups_));
    for (double& scale : scales_) {
      const float value = shape_.scale_min * (1 + 0.01F * static_cast<float>(random_() % 1000));
      uint16_t half = 0;
      if (shape_.scale_type == WeightType::f32) {
        scale = value;
        const auto* bytes = reinterpret_cast<const uint8_t*>(&value);
        scale_bytes_.insert(scale_bytes_.end(), bytes, bytes + 4);
        continue;
      }
      if (shape_.scale_type == WeightType::f16) {
        half = kernels::f32_to_f16(value);
        scale = kernels::f16_to_f32(half);
      } else {
        half = kernels::f32_to_bf16(value);
        scale = kernels::bf16_to_f32(half);
      }
      scale_bytes_.push_back(static_cast<uint8_t>(half & 255));
      scale_bytes_.push_back(static_cast<uint8_t>(half >> 8));
    }
  }
  // Every code but e4m3's two NaNs.
  void make_bytes() {
    for (int64_t i = 0; i < shape_.rows * shape_.cols; ++i) {
      uint8_t code = static_cast<uint8_t>(i < 256 ? i : random_());
      if (shape_.type == WeightType::f8_e4m3 && (code & 0x7f) == 0x7f) code = 0;
      codes_.push_back(code);
    }
  }
  void make_nibbles() {
    const int64_t rows = shape_.rows, cols = shape_.cols;
    for (int64_t i = 0; i < rows * cols; ++i) codes_.push_back(random_() & 15);
    words_.resize(static_cast<size_t>(rows * cols / 8));
    constexpr int kAwqOrder[] = {0, 2, 4, 6, 1, 3, 5, 7};  // row of nibble i
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t col = 0; col < cols; ++col) {
        const uint32_t code = codes_[static_cast<size_t>(row * cols + col)];
        if (shape_.type == WeightType::i4_packed) {
          words_[static_cast<size_t>((row * cols + col) / 8)] |= code << (4 * (col % 8));
        } else if (shape_.type == WeightType::i4_gptq) {
          words_[static_cast<size_t>(col / 8 * rows + row)] |= code << (4 * (col % 8));
        } else {
          const auto nibble = std::find(kAwqOrder, kAwqOrder + 8, row % 8) - kAwqOrder;
          words_[static_cast<size_t>(col * (rows / 8) + row / 8)] |= code << (4 * nibble);
        }
      }
    }
    if (!shape_.zeros) return;
    const int least = shape_.type == WeightType::i4_gptq ? 1 : 0;
    for (int64_t i = 0; i < rows * col_groups_; ++i) {
      zeros_.push_back(least + static_cast<int>(random_() & 15));
    }
    const int64_t row_words = (rows + 7) / 8;
    zero_words_.resize(static_cast<size_t>(row_words * col_groups_));
    for (int64_t group = 0; group < col_groups_; ++group) {
      for (int64_t row = 0; row < rows; ++row) {
        const auto zero =
            static_cast<uint32_t>(zeros_[static_cast<size_t>(group * rows + row)] - least);
        int nibble = static_cast<int>(row % 8);
        if (shape_.type == WeightType::i4_awq) {
          nibble = static_cast<int>(std::find(kAwqOrder, kAwqOrder + 8, nibble) - kAwqOrder);
        }
        const int64_t word = shape_.type == WeightType::i4_packed ? row / 8 * col_groups_ + group
                                                                  : group * row_words + row / 8;
        zero_words_[static_cast<size_t>(word)] |= zero << (4 * nibble);
      }
    }
  }

  ScaledShape shape_;
  std::mt19937 random_;
  int64_t row_groups_ = 1, col_groups_ = 1;
  std::vector<int32_t> group_of_;
  std::vector<double> scales_;
  std::vector<uint8_t> scale_bytes_, codes_;
  std::vector<int> zeros_;
  std::vector<uint32_t> words_, zero_words_;
};

}  // namespace chorus::tests
