// Products against f64 loops over the same rounded numbers, under all schedules.
#include "kernels/cuda/matmul.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels/cuda/runtime.h"
#include "kernels/half.h"
#include "tests/emulation/schedules.h"

namespace chorus::tests {
namespace {

using namespace kernels;
using cuda::WeightFormat;

// Numbers as a kernel sees them, and their values.
struct Numbers {
  cuda::HostMemory memory;
  std::vector<double> values;  // [rows, stride]
};

// Padded with zeros from `cols` to `stride`, as a DeviceWeight must be.
Numbers random_numbers(DType type, int64_t rows, int64_t cols, int64_t stride, int seed) {
  const int64_t bytes = rows * stride * bytes_of(type);
  Numbers made{cuda::allocate_host(bytes), std::vector<double>(static_cast<size_t>(rows * stride))};
  std::memset(made.memory.get(), 0, static_cast<size_t>(bytes));
  std::mt19937 random(static_cast<unsigned>(seed));
  std::normal_distribution<float> normal;
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t col = 0; col < cols; ++col) {
      const int64_t i = row * stride + col;
      const float value = normal(random);
      double& seen = made.values[static_cast<size_t>(i)];
      if (type == DType::f32) {
        static_cast<float*>(made.memory.get())[i] = value;
        seen = value;
      } else if (type == DType::bf16) {
        static_cast<__nv_bfloat16*>(made.memory.get())[i] = __float2bfloat16(value);
        seen = __bfloat162float(__float2bfloat16(value));
      } else {
        static_cast<__half*>(made.memory.get())[i] = __float2half(value);
        seen = __half2float(__float2half(value));
      }
    }
  }
  return made;
}

struct Case {
  int64_t rows = 1, n = 0, k = 0;
  WeightFormat format = WeightFormat::bf16;
  DType x_type = DType::bf16, out_type = DType::f32;
  bool bias = false, gated = false, deterministic = false;
  Gate gate = Gate::silu;
  int64_t live = -1;  // -1: all rows, and no count in device memory
  int multiprocessors = 4;
  int capability = 80;
};

double activate(Gate gate, double x) {
  if (gate == Gate::silu) return x / (1 + std::exp(-x));
  return 0.5 * x * (1 + std::tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
}

struct Problem {
  explicit Problem(const Case& c)
      : shape(c), bias(static_cast<size_t>(c.n)), live(static_cast<int32_t>(c.live)) {
    const int64_t granule = 16 / bytes_of(type_of(c.format));
    weight.rows = c.n;
    weight.cols = c.k;
    weight.stride = (c.k + granule - 1) / granule * granule;
    weight.format = c.format;
    w = random_numbers(type_of(c.format), c.n, c.k, weight.stride, 1);
    weight.data = w.memory.get();
    x = random_numbers(c.x_type, c.rows, c.k, c.k, 2);
    for (size_t i = 0; i < bias.size(); ++i) bias[i] = static_cast<float>(i % 7) - 3;
    args = {.out = {.type = c.out_type, .rows = c.rows, .cols = columns()},
            .x = {.data = x.memory.get(),
                  .type = c.x_type,
                  .rows = c.rows,
                  .cols = c.k,
                  .live_rows = c.live < 0 ? nullptr : &live},
            .weight = &weight,
            .bias = c.bias ? bias.data() : nullptr,
            .gated = c.gated,
            .gate = c.gate,
            .limits = {.capability = c.capability, .multiprocessors = c.multiprocessors}};
    workspace =
        cuda::allocate(cuda::matmul_workspace_bytes(weight, c.rows, args.limits, c.deterministic));
  }

  int64_t columns() const { return shape.gated ? shape.n / 2 : shape.n; }
  int64_t live_rows() const { return shape.live < 0 ? shape.rows : shape.live; }

  void run(void* out, int64_t first_row, int64_t rows) {
    auto call = args;
    call.out.data = out;
    call.out.rows = call.x.rows = rows;
    call.x.data = static_cast<char*>(args.x.data) + first_row * shape.k * bytes_of(shape.x_type);
    cuda::matmul(call, workspace.get(), shape.deterministic, nullptr);
  }

  // The f64 sum of one weight row, and the sum of its terms' magnitudes.
  std::pair<double, double> sum(int64_t row, int64_t weight_row) const {
    double sum = shape.bias ? bias[static_cast<size_t>(weight_row)] : 0, magnitude = 1e-3;
    for (int64_t i = 0; i < shape.k; ++i) {
      double factor = x.values[static_cast<size_t>(row * shape.k + i)];
      // f32 inputs of 16-bit weights are rounded to the weight's type.
      if (shape.x_type == DType::f32 && shape.format == WeightFormat::bf16) {
        factor = __bfloat162float(__float2bfloat16(static_cast<float>(factor)));
      }
      const double term = factor * w.values[static_cast<size_t>(weight_row * weight.stride + i)];
      sum += term;
      magnitude += std::fabs(term);
    }
    return {sum, magnitude};
  }

  Case shape;
  cuda::DeviceWeight weight;
  Numbers w, x;
  std::vector<float> bias;
  int32_t live = 0;
  cuda::MatmulArgs args;
  cuda::Memory workspace;
};

double element(const std::vector<float>& out, DType type, size_t index) {
  const void* data = out.data();
  if (type == DType::f32) return out[index];
  if (type == DType::bf16) {
    return __bfloat162float(static_cast<const __nv_bfloat16*>(data)[index]);
  }
  return __half2float(static_cast<const __half*>(data)[index]);
}

size_t floats_for(const Problem& problem) {
  const int64_t bytes = problem.shape.rows * problem.columns() * bytes_of(problem.shape.out_type);
  return static_cast<size_t>(bytes + 3) / 4 + 1;  // one that nobody may touch
}

void check_case(const Case& c) {
  INFO("rows " << c.rows << ", n " << c.n << ", k " << c.k << ", live " << c.live << ", gated "
               << c.gated << ", multiprocessors " << c.multiprocessors);
  Problem problem(c);
  std::vector<float> out(floats_for(problem));
  under_all_schedules(out, [&] { problem.run(out.data(), 0, c.rows); });
  double worst = 0;
  const double rounding = c.out_type == DType::f32 ? 0 : 4e-3;
  for (int64_t row = 0; row < problem.live_rows(); ++row) {
    for (int64_t col = 0; col < problem.columns(); ++col) {
      auto [expected, allowed] = problem.sum(row, col);
      allowed *= 2e-6;
      if (c.gated) {
        const auto [up, up_magnitude] = problem.sum(row, problem.columns() + col);
        allowed = 2 * allowed * std::fabs(up) + up_magnitude * 2e-6 * std::fabs(expected) + 1e-6;
        expected = activate(c.gate, expected) * up;
      }
      allowed += rounding * std::fabs(expected);
      const double seen =
          element(out, c.out_type, static_cast<size_t>(row * problem.columns() + col));
      const double ratio = std::fabs(seen - expected) / allowed;
      worst = ratio <= worst ? worst : ratio;  // a NaN stays
    }
  }
  CHECK(worst <= 1);
  const auto first_dead =
      static_cast<size_t>(problem.live_rows() * problem.columns() * bytes_of(c.out_type));
  const std::vector<float> poison(out.size(), std::numeric_limits<float>::quiet_NaN());
  CHECK(std::memcmp(reinterpret_cast<const char*>(out.data()) + first_dead,
                    reinterpret_cast<const char*>(poison.data()) + first_dead,
                    out.size() * sizeof(float) - first_dead) == 0);
}

// Every row of a batch of each size has the bits that it has alone.
void check_alone(Case c, const std::vector<int64_t>& batches) {
  Problem problem(c);
  const auto columns = static_cast<size_t>(problem.columns());
  std::vector<float> alone(static_cast<size_t>(c.rows) * columns);
  for (int64_t row = 0; row < c.rows; ++row) {
    problem.run(alone.data() + static_cast<size_t>(row) * columns, row, 1);
  }
  for (const int64_t rows : batches) {
    INFO("batch of " << rows);
    std::vector<float> batch(static_cast<size_t>(rows) * columns);
    problem.run(batch.data(), 0, rows);
    CHECK(std::memcmp(batch.data(), alone.data(), batch.size() * sizeof(float)) == 0);
  }
}

}  // namespace

TEST_CASE("few rows times a weight are the sums that f64 makes") {
  for (const int64_t rows : {0, 1, 7, 8, 9, 16, 33, 64}) {
    check_case({.rows = rows, .n = 150, .k = 200, .bias = true});
  }
}

TEST_CASE("few rows in f16 are the sums that f64 makes") {
  for (const int64_t rows : {3, 20, 50}) {
    check_case({.rows = rows,
                .n = 35,
                .k = 328,
                .format = WeightFormat::f16,
                .x_type = DType::f16,
                .out_type = DType::f16});
  }
}

TEST_CASE("few rows go twice round the ring of tokens") {
  for (const int64_t rows : {2, 12, 30, 40}) check_case({.rows = rows, .n = 33, .k = 32 * 4 * 33});
}

TEST_CASE("few rows add up groups of k that are blocks of their own") {
  for (const int64_t rows : {1, 10, 33}) {
    check_case({.rows = rows, .n = 150, .k = 2080, .bias = true, .multiprocessors = 132});
  }
}

TEST_CASE("few rows pass their gate") {
  for (const int64_t rows : {1, 8, 11, 40}) {
    check_case({.rows = rows,
                .n = 2 * 75,
                .k = 1032,
                .out_type = DType::bf16,
                .bias = true,
                .gated = true,
                .gate = rows == 8 ? Gate::gelu_tanh : Gate::silu,
                .multiprocessors = rows < 10 ? 4 : 132});
  }
}

TEST_CASE("few rows whose slices do not fill a block's warps are the same sums") {
  // Three groups of k, 12 slices, and more tiles than blocks.
  const kernels::cuda::DeviceLimits limits{.capability = 90, .multiprocessors = 6};
  REQUIRE(kernels::cuda::sum_order({.n = 150, .k = 2080}, limits).groups == 3);
  for (const bool gated : {false, true}) {
    check_case({.rows = 3, .n = 300, .k = 2080, .gated = gated, .multiprocessors = 9});
  }
  check_case({.rows = 1, .n = 150, .k = 2080, .multiprocessors = 6, .capability = 90});
}

TEST_CASE("few rows of one block an SM are the same sums") {
  for (const int64_t rows : {1, 5, 8}) {
    for (const int multiprocessors : {2, 132}) {
      check_case({.rows = rows,
                  .n = 150,
                  .k = 2080,
                  .bias = true,
                  .multiprocessors = multiprocessors,
                  .capability = 90});
      check_case({.rows = rows,
                  .n = 2 * 75,
                  .k = 1032,
                  .out_type = DType::bf16,
                  .gated = true,
                  .live = rows - 1,
                  .multiprocessors = multiprocessors,
                  .capability = 90});
    }
  }
  check_case({.rows = 3,
              .n = 35,
              .k = 328,
              .format = WeightFormat::f16,
              .x_type = DType::f16,
              .out_type = DType::f16,
              .capability = 90});
  for (const bool gated : {false, true}) {
    check_alone({.rows = 20,
                 .n = 2 * 20,
                 .k = 1088,
                 .gated = gated,
                 .deterministic = true,
                 .multiprocessors = 132,
                 .capability = 90},
                {2, 8, 20});
  }
}

TEST_CASE("few rows beyond the live ones stay as they were") {
  for (const int64_t live : {0, 1, 5}) check_case({.rows = 8, .n = 40, .k = 64, .live = live});
  for (const int64_t live : {0, 1, 17, 50}) {
    check_case({.rows = 64, .n = 40, .k = 1024, .live = live, .multiprocessors = 8});
  }
}

TEST_CASE("an input in another type or with odd columns is brought into form") {
  check_case({.rows = 3, .n = 20, .k = 77, .bias = true});
  check_case({.rows = 3, .n = 20, .k = 96, .x_type = DType::f32});
  check_case({.rows = 70, .n = 20, .k = 33, .x_type = DType::f32, .live = 67});
}

TEST_CASE("a row of few has the same bits alone and in any batch") {
  for (const int multiprocessors : {4, 132}) {
    check_alone({.rows = 130,
                 .n = 50,
                 .k = 1088,
                 .deterministic = true,
                 .multiprocessors = multiprocessors},
                {8, 9, 24, 64, 65, 130});
    check_alone({.rows = 20,
                 .n = 2 * 20,
                 .k = 1088,
                 .gated = true,
                 .deterministic = true,
                 .multiprocessors = multiprocessors},
                {2, 20});
  }
}

TEST_CASE("many deterministic rows are the sums that f64 makes") {
  check_case({.rows = 65, .n = 40, .k = 1024, .deterministic = true, .multiprocessors = 132});
  check_case({.rows = 130, .n = 40, .k = 136, .deterministic = true, .live = 129});
}

TEST_CASE("many rows are the sums that f64 makes") {
  check_case({.rows = 65, .n = 150, .k = 72, .bias = true});
  check_case({.rows = 130, .n = 149, .k = 32 * 9, .out_type = DType::bf16});
  check_case({.rows = 130,
              .n = 20,
              .k = 40,
              .format = WeightFormat::f16,
              .x_type = DType::f16,
              .out_type = DType::f16});
  check_case({.rows = 1100, .n = 140, .k = 8});
}

TEST_CASE("many rows pass their gate") {
  check_case(
      {.rows = 130, .n = 2 * 70, .k = 296, .out_type = DType::bf16, .bias = true, .gated = true});
  check_case({.rows = 70, .n = 2 * 33, .k = 40, .gated = true, .gate = Gate::gelu_tanh});
}

TEST_CASE("many rows beyond the live ones stay as they were") {
  for (const int64_t live : {0, 1, 128, 129}) {
    check_case({.rows = 192, .n = 20, .k = 32, .live = live});
  }
}

TEST_CASE("a row of many has the same bits in any place") {
  Problem problem({.rows = 200, .n = 40, .k = 200});
  std::vector<float> whole(200 * 40), part(70 * 40);
  problem.run(whole.data(), 0, 200);
  problem.run(part.data(), 127, 70);
  CHECK(std::memcmp(part.data(), whole.data() + 127 * 40, part.size() * sizeof(float)) == 0);
}

TEST_CASE("f32 weights keep f32's digits") {
  for (const int64_t rows : {0, 1, 7, 8, 9, 33, 65}) {
    check_case({.rows = rows,
                .n = 67,
                .k = 101,
                .format = WeightFormat::f32,
                .x_type = DType::f32,
                .bias = true});
  }
  check_case({.rows = 12,
              .n = 2 * 67,
              .k = 70,
              .format = WeightFormat::f32,
              .x_type = DType::f32,
              .bias = true,
              .gated = true,
              .live = 10});
  check_alone({.rows = 40, .n = 67, .k = 101, .format = WeightFormat::f32, .x_type = DType::f32},
              {8, 9, 40});
}

}  // namespace chorus::tests
