#include "kernels/cuda/quantised.h"

#include <catch2/catch.hpp>
#include <cmath>

#include "kernels/cuda/weights.h"
#include "kernels/half.h"
#include "kernels/quant.h"
#include "tests/emulation/quantised_sources.h"
#include "tests/emulation/schedules.h"

using namespace chorus;
using namespace chorus::tests;
using kernels::DType;
using kernels::View;
using kernels::Weight;

namespace {

struct PackedOnDevice {
  kernels::cuda::WeightLoader loader{DType::bf16, nullptr, 1 << 20};  // pinned memory takes time
  Weight owner;
  const kernels::cuda::DeviceWeight& weight;
  explicit PackedOnDevice(const std::vector<WeightPart>& parts)
      : owner(loader.product_matrix(parts)), weight(kernels::cuda::matrix(owner)) {}
};

// Rows of x in an operand type; the values are exactly those of that type.
struct Input {
  DType type;
  std::vector<float> values;
  std::vector<uint16_t> halves;
  int64_t rows, cols;

  Input(DType as, std::vector<float> of, int64_t row_count, int64_t col_count)
      : type(as), values(std::move(of)), rows(row_count), cols(col_count) {
    for (float& value : values) {
      if (type == DType::f32) break;
      const bool f16 = type == DType::f16;
      halves.push_back(f16 ? kernels::f32_to_f16(value) : kernels::f32_to_bf16(value));
      value = f16 ? kernels::f16_to_f32(halves.back()) : kernels::bf16_to_f32(halves.back());
    }
  }
  View view(const int32_t* live = nullptr) {
    void* data = type == DType::f32 ? static_cast<void*>(values.data()) : halves.data();
    return {data, type, rows, cols, live};
  }
};

Input random_input(DType type, int64_t rows, int64_t cols, uint32_t seed = 5) {
  return {type, random_floats(rows * cols, seed), rows, cols};
}

// The largest difference, relative to the norm of what is multiplied.
double worst(const std::vector<float>& out, const Source& source, const Input& x, int64_t out_cols,
             int64_t out_begin, const std::vector<float>& bias = {}) {
  double most = 0;
  for (int64_t n = 0; n < x.rows; ++n) {
    for (int64_t r = source.part.rows.begin; r < source.part.rows.end; ++r) {
      const int64_t at = out_begin + r - source.part.rows.begin;
      double sum = bias.empty() ? 0 : bias[static_cast<size_t>(at)];
      double squares_w = 0, squares_x = 0;
      for (int64_t c = 0; c < x.cols; ++c) {
        const double w = source.at(r, source.part.cols.begin + c);
        const double value = x.values[static_cast<size_t>(n * x.cols + c)];
        sum += w * value;
        squares_w += w * w;
        squares_x += value * value;
      }
      const double got = out[static_cast<size_t>(n * out_cols + at)];
      if (!std::isfinite(got)) return INFINITY;
      most = std::max(most, std::abs(got - sum) / (1e-9 + std::sqrt(squares_w * squares_x)));
    }
  }
  return most;
}

// On one multiprocessor: its blocks take several pieces of the work each.
void multiply(kernels::cuda::MatmulArgs args,
              const kernels::cuda::DeviceLimits& limits = {.multiprocessors = 1}) {
  args.limits = limits;
  kernels::cuda::matmul_quantised(args, nullptr, true, nullptr);
}

constexpr DType kOperands[] = {DType::bf16, DType::f16, DType::f32};

}  // namespace

TEST_CASE("a quantised matmul gives each weight exactly, whatever its code and place") {
  // One-hot rows of x: an output is one weight.
  for (Source& source : all_sources(32, 256)) {
    INFO(source.name);
    PackedOnDevice packed({source.part});
    std::vector<float> ones(static_cast<size_t>(256 * 256));
    for (size_t i = 0; i < 256; ++i) ones[i * 256 + i] = 1;
    for (const DType type : kOperands) {
      INFO(static_cast<int>(type));
      Input x(type, ones, 256, 256);
      std::vector<float> out(256 * 32);
      multiply({.out = {out.data(), DType::f32, 256, 32}, .x = x.view(), .weight = &packed.weight});
      int wrong = 0;
      for (int64_t r = 0; r < 32; ++r) {
        for (int64_t c = 0; c < 256; ++c) {
          const double expected = source.at(r, c);
          const double got = out[static_cast<size_t>(c * 32 + r)];
          wrong += !(std::abs(got - expected) <= 3e-7 * std::abs(expected) + 2e-6);
        }
      }
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("a quantised matmul agrees with f64 sums under all schedules") {
  const auto rows = GENERATE(1, 8, 9, 33);
  for (Source& source : all_sources(40, 1280)) {
    INFO(source.name << ", " << rows << " rows");
    PackedOnDevice packed({source.part});
    for (const DType type : kOperands) {
      if (type == DType::f16 && rows != 9) continue;
      INFO(static_cast<int>(type));
      Input x = random_input(type, rows, 1280);
      const auto bias = random_floats(40, 3);
      std::vector<float> out(static_cast<size_t>(rows * 40));
      const auto run = [&] {
        multiply({.out = {out.data(), DType::f32, rows, 40},
                  .x = x.view(),
                  .weight = &packed.weight,
                  .bias = bias.data()});
      };
      if (rows == 9 && type == DType::bf16) {
        under_all_schedules(out, run);
      } else {
        run();
      }
      CHECK(worst(out, source, x, 40, 0, bias) < 1e-6);
    }
  }
}

TEST_CASE("a slice of a quantised weight may begin and end inside a group") {
  const auto cut = GENERATE(Range{64, 320}, Range{160, 264}, Range{5, 141}, Range{256, 259});
  for (Source& source : all_sources(48, 512)) {
    INFO(source.name << ", columns " << cut.begin << " to " << cut.end);
    source.part.cols = cut;
    source.part.rows = {3, 38};
    PackedOnDevice packed({source.part});
    for (const DType type : kOperands) {
      Input x = random_input(type, 3, cut.size());
      std::vector<float> out(3 * 35, NAN);
      multiply({.out = {out.data(), DType::f32, 3, 35}, .x = x.view(), .weight = &packed.weight});
      CHECK(worst(out, source, x, 35, 0) < 1e-6);
    }
  }
}

TEST_CASE("a quantised row that is put back in its place keeps its own scale") {
  for (Source& source : all_sources(64, 256)) {
    INFO(source.name);
    source.part.order = kernels::RowOrder::rope_pairs_to_halves;
    source.part.head_dim = 32;
    source.part.rows = {32, 64};
    PackedOnDevice packed({source.part});
    Source as_wanted = source;
    as_wanted.at = [&](int64_t row, int64_t col) {
      return source.at(kernels::stored_row(row, source.part.order, 32), col);
    };
    Input x = random_input(DType::bf16, 2, 256);
    std::vector<float> out(2 * 32);
    multiply({.out = {out.data(), DType::f32, 2, 32}, .x = x.view(), .weight = &packed.weight});
    CHECK(worst(out, as_wanted, x, 32, 0) < 1e-6);
  }
}

TEST_CASE("parts of several codings make one weight") {
  using enum WeightType;
  const Source q = blocks(q4_k, 48, 512, 1), k = blocks(q8_0, 24, 512, 2),
               v = blocks(q4_k, 17, 512, 3);
  PackedOnDevice packed({q.part, k.part, v.part});
  Input x = random_input(DType::bf16, 2, 512);
  std::vector<float> out(2 * 89);
  under_all_schedules(out, [&] {
    multiply({.out = {out.data(), DType::f32, 2, 89}, .x = x.view(), .weight = &packed.weight});
  });
  CHECK(worst(out, q, x, 89, 0) < 1e-6);
  CHECK(worst(out, k, x, 89, 48) < 1e-6);
  CHECK(worst(out, v, x, 89, 72) < 1e-6);
}

TEST_CASE("a quantised matmul applies the gate to pairs of rows") {
  using enum WeightType;
  const auto gate = GENERATE(kernels::Gate::silu, kernels::Gate::gelu_tanh);
  const bool one_part = GENERATE(true, false);
  const auto type = GENERATE(q6_k, q8_0, f8_e4m3, i8, i4_awq, f32);  // f32: two codings
  const int64_t pairs = one_part && type != f8_e4m3 ? 48 : 40;
  Source first, second;
  if (type == f32) {
    first = blocks(q4_1, pairs, 512, 1);
    second = blocks(q5_0, pairs, 512, 2);
  } else if (type == f8_e4m3) {
    first = scaled("fp8", {.rows = one_part ? 2 * pairs : pairs, .cols = 512, .group_rows = 16});
    second = scaled("fp8", {.rows = pairs, .cols = 512, .group_rows = 16, .seed = 2});
  } else if (type == i8) {
    first = scaled("int8", {.type = i8, .rows = one_part ? 2 * pairs : pairs, .cols = 512});
    second = scaled("int8", {.type = i8, .rows = pairs, .cols = 512, .seed = 2});
  } else if (type == i4_awq) {
    const ScaledShape shape = {.type = i4_awq,
                               .rows = one_part ? 2 * pairs : pairs,
                               .cols = 512,
                               .scale_type = f16,
                               .zeros = true};
    first = scaled("awq", shape);
    second = scaled("awq", shape);
  } else {
    first = blocks(type, one_part ? 2 * pairs : pairs, 512, 1);
    second = blocks(type, pairs, 512, 2);
  }
  const bool single = one_part && type != f32;
  INFO(first.name << ", " << (single ? "one part" : "two parts"));
  PackedOnDevice packed(single ? std::vector{first.part} : std::vector{first.part, second.part});
  Input x = random_input(DType::bf16, 5, 512);
  const int32_t live = 4;
  std::vector<float> out(static_cast<size_t>(5 * pairs));
  std::vector<float> workspace(static_cast<size_t>(
      kernels::cuda::quantised_workspace_bytes(packed.weight, 5, {}, false) / 4));
  under_all_schedules(out, [&] {
    workspace.assign(workspace.size(), NAN);
    kernels::cuda::matmul_quantised({.out = {out.data(), DType::f32, 5, pairs},
                                     .x = x.view(&live),
                                     .weight = &packed.weight,
                                     .gated = true,
                                     .gate = gate,
                                     .limits = {.multiprocessors = 1}},
                                    workspace.data(), false, nullptr);
  });
  const auto dot = [&](const Source& source, int64_t row, int64_t n) {
    double sum = 0;
    for (int64_t c = 0; c < 512; ++c) {
      sum += source.at(row, c) * x.values[static_cast<size_t>(n * 512 + c)];
    }
    return sum;
  };
  double most = 0;
  for (int64_t n = 0; n < 4; ++n) {
    for (int64_t r = 0; r < pairs; ++r) {
      const double a = dot(first, r, n);
      const double b = single ? dot(first, pairs + r, n) : dot(second, r, n);
      const double expected =
          gate == kernels::Gate::silu
              ? a / (1 + std::exp(-a)) * b
              : a / 2 * (1 + std::tanh(std::sqrt(2 / M_PI) * (a + 0.044715 * a * a * a))) * b;
      const double got = out[static_cast<size_t>(n * pairs + r)];
      most = std::max(most, std::abs(got - expected) / (1 + std::abs(expected)));
    }
  }
  CHECK(most < 5e-4);  // of sums that partly cancel
  for (int64_t r = 0; r < pairs; ++r) CHECK(std::isnan(out[static_cast<size_t>(4 * pairs + r)]));
}

TEST_CASE("a row of a quantised matmul has the same bits alone and among others") {
  for (Source& source : all_sources(32, 640 / 256 * 256)) {
    INFO(source.name);
    PackedOnDevice packed({source.part});
    Input x = random_input(DType::bf16, 70, 512);
    std::vector<float> all(70 * 32);
    multiply({.out = {all.data(), DType::f32, 70, 32}, .x = x.view(), .weight = &packed.weight});
    for (const int64_t row : {0, 8, 33, 69}) {
      Input alone(DType::bf16, {x.values.begin() + row * 512, x.values.begin() + (row + 1) * 512},
                  1, 512);
      std::vector<float> out(32);
      multiply(
          {.out = {out.data(), DType::f32, 1, 32}, .x = alone.view(), .weight = &packed.weight});
      CHECK(std::equal(out.begin(), out.end(), all.begin() + row * 32));
    }
  }
}

TEST_CASE("a quantised matmul has the same bits whichever blocks do its pieces") {
  // 8 rows of 5120 columns find room in shared memory on 9.0, not on 8.0 and 8.6; one row does on
  // all.
  for (const int64_t cols : {512, 5120}) {
    for (Source& source : all_sources(80, cols)) {
      INFO(source.name << ", " << cols << " columns");
      PackedOnDevice packed({source.part});
      Input x = random_input(DType::bf16, 8, cols);
      std::vector<float> all(8 * 80), out(8 * 80);
      multiply({.out = {all.data(), DType::f32, 8, 80}, .x = x.view(), .weight = &packed.weight});
      CHECK(worst(all, source, x, 80, 0) < 1e-6);
      for (const kernels::cuda::DeviceLimits& limits :
           {kernels::cuda::DeviceLimits{80, 1}, {90, 2}, {86, 108}}) {
        multiply({.out = {out.data(), DType::f32, 8, 80}, .x = x.view(), .weight = &packed.weight},
                 limits);
        CHECK(out == all);
      }
      Input alone(DType::bf16, {x.values.begin() + 5 * cols, x.values.begin() + 6 * cols}, 1, cols);
      out.resize(80);
      multiply(
          {.out = {out.data(), DType::f32, 1, 80}, .x = alone.view(), .weight = &packed.weight});
      CHECK(std::equal(out.begin(), out.end(), all.begin() + 5 * 80));
    }
  }
}

TEST_CASE("a quantised matmul of many rows rounds its weights once") {
  for (Source& source : all_sources(48, 512)) {
    INFO(source.name);
    source.part.cols = {128, 480};
    PackedOnDevice packed({source.part});
    for (const DType type : {DType::bf16, DType::f16}) {
      Input x = random_input(type, 65, 352);
      std::vector<float> out(65 * 48, NAN);
      std::vector<std::byte> workspace(static_cast<size_t>(
          kernels::cuda::quantised_workspace_bytes(packed.weight, 65, {}, false)));
      kernels::cuda::matmul_quantised(
          {.out = {out.data(), DType::f32, 65, 48}, .x = x.view(), .weight = &packed.weight},
          workspace.data(), false, nullptr);
      CHECK(worst(out, source, x, 48, 0) < (type == DType::bf16 ? 8e-4 : 1e-4));
    }
  }
}

TEST_CASE("rows beyond the live ones are left as they are") {
  const Source source = blocks(WeightType::q4_1, 20, 128);
  PackedOnDevice packed({source.part});
  Input x = random_input(DType::bf16, 40, 128);
  for (const int32_t live : {0, 1, 31, 32, 33, 40}) {
    std::vector<float> out(40 * 20, NAN);
    multiply(
        {.out = {out.data(), DType::f32, 40, 20}, .x = x.view(&live), .weight = &packed.weight});
    const auto untouched = std::count_if(out.begin(), out.end(), [](float v) { return v != v; });
    CHECK(untouched == (40 - live) * 20);
  }
}
