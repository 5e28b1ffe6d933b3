// The TMA + wgmma matmul against loops in f64. Shapes have several tiles in each direction, several
// laps of the ring and edges in all three dimensions; the emulated device is given two
// multiprocessors, so that a block walks several tiles.
#include "kernels/cuda/matmul_hopper.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <random>

#include "kernels/half.h"
#include "tests/emulation/schedules.h"

namespace chorus::tests {
namespace {

using namespace chorus::kernels;

struct Shape {
  int rows = 0, live = 0, columns = 0, k = 0;  // columns of out
  int tile = 128;
  int splits = 1;
  DType type = DType::bf16;
  DType out = DType::f32;
  bool bias = false;
  bool gated = false;
  Gate gate = Gate::silu;
};

float value_of(uint16_t bits, DType type) {
  return type == DType::f16 ? f16_to_f32(bits) : bf16_to_f32(bits);
}
uint16_t bits_of(float value, DType type) {
  return type == DType::f16 ? f32_to_f16(value) : f32_to_bf16(value);
}

// Operands on the heap, aligned and of exact size, so that AddressSanitizer sees one row too far.
struct Case {
  explicit Case(const Shape& wanted) : shape(wanted) {
    std::mt19937 random(shape.rows * 31 + shape.columns * 7 + shape.k);
    std::uniform_real_distribution<float> draw(-1, 1);
    weight.rows = shape.gated ? shape.columns * 2 : shape.columns;
    weight.cols = shape.k;
    weight.stride = (shape.k + 7) / 8 * 8;
    weight.format = shape.type == DType::f16 ? cuda::WeightFormat::f16 : cuda::WeightFormat::bf16;
    for (int64_t i = 0; i < weight.rows * weight.stride; ++i) {
      w.push_back(i % weight.stride < shape.k ? bits_of(draw(random), shape.type) : 0);
    }
    for (int64_t i = 0; i < int64_t{shape.rows} * shape.k; ++i) {
      x.push_back(bits_of(draw(random), shape.type));
    }
    for (int64_t i = 0; i < weight.rows; ++i) bias.push_back(draw(random));
    weight.data = w.data();
    live = shape.live;
  }

  // Runs under all schedules; the result as floats, NaN where nothing was stored.
  std::vector<float> run() {
    std::vector<float> out(size_t(shape.rows) * shape.columns);
    std::vector<uint16_t> half(shape.out == DType::f32 ? 0 : out.size());
    cuda::MatmulArgs args{
        .out = {out.data(), shape.out, shape.rows, shape.columns, &live},
        .x = {x.data(), shape.type, shape.rows, shape.k, &live},
        .weight = &weight,
        .bias = shape.bias ? bias.data() : nullptr,
        .gated = shape.gated,
        .gate = shape.gate,
        .limits = {.capability = 90, .multiprocessors = 2},
    };
    std::vector<float> partial(size_t(shape.splits) * out.size());
    if (shape.out != DType::f32) args.out.data = half.data();
    under_all_schedules(out, [&] {
      std::fill(half.begin(), half.end(), uint16_t{0xffff});
      std::fill(partial.begin(), partial.end(), std::numeric_limits<float>::quiet_NaN());
      cuda::matmul_hopper(args, {shape.tile, shape.splits}, partial.data(), nullptr);
      for (size_t i = 0; i < half.size(); ++i) out[i] = value_of(half[i], shape.out);
    });
    return out;
  }

  double dot(int row, int64_t weight_row) const {
    double sum = shape.bias ? bias[weight_row] : 0;
    for (int k = 0; k < shape.k; ++k) {
      sum += double{value_of(x[size_t(row) * shape.k + k], shape.type)} *
             value_of(w[weight_row * weight.stride + k], shape.type);
    }
    return sum;
  }
  double expected(int row, int column) const {
    const double first = dot(row, column);
    if (!shape.gated) return first;
    const double up = dot(row, shape.columns + column);
    if (shape.gate == Gate::silu) return first / (1 + std::exp(-first)) * up;
    const double inner = std::sqrt(2 / M_PI) * (first + 0.044715 * first * first * first);
    return first / 2 * (1 + std::tanh(inner)) * up;
  }

  Shape shape;
  cuda::DeviceWeight weight;
  std::vector<uint16_t> w, x;
  std::vector<float> bias;
  int32_t live = 0;
};

void check(const Shape& shape) {
  Case job(shape);
  const auto out = job.run();
  const double tolerance = shape.out == DType::f32 ? 1e-5 : 5e-3;
  double worst = 0, scale = 0;
  int unwritten = 0, overwritten = 0;
  for (int row = 0; row < shape.rows; ++row) {
    for (int column = 0; column < shape.columns; ++column) {
      const float got = out[size_t(row) * shape.columns + column];
      if (row >= shape.live) {
        overwritten += !std::isnan(got);
        continue;
      }
      unwritten += !std::isfinite(got);
      const double want = job.expected(row, column);
      scale = std::max(scale, std::abs(want));
      worst = std::max(worst, std::abs(got - want));
    }
  }
  CHECK(unwritten == 0);
  CHECK(overwritten == 0);
  CHECK(worst <= tolerance * scale);
}

}  // namespace

TEST_CASE("matmul_hopper agrees with f64 over tiles, laps of the ring and edges") {
  // 256: 2 x 2 tiles, 4 stages. 128: 7 stages, 10 steps. 64: 9 stages.
  check({.rows = 200, .live = 200, .columns = 264, .k = 520, .tile = 256});
  check({.rows = 200, .live = 200, .columns = 200, .k = 392, .tile = 192});
  check({.rows = 260, .live = 260, .columns = 136, .k = 1032, .tile = 128});
  check({.rows = 130, .live = 130, .columns = 100, .k = 1288, .tile = 64});
}

TEST_CASE("matmul_hopper takes f16 and stores operands") {
  check({.rows = 136, .live = 136, .columns = 132, .k = 328, .tile = 256, .type = DType::f16});
  check({.rows = 136,
         .live = 136,
         .columns = 132,
         .k = 72,
         .type = DType::f16,
         .out = DType::f16,
         .bias = true});
  check({.rows = 136, .live = 136, .columns = 72, .k = 72, .tile = 64, .out = DType::bf16});
}

TEST_CASE("matmul_hopper adds a bias, also at the edges") {
  check({.rows = 70, .live = 70, .columns = 132, .k = 64, .bias = true});
  check({.rows = 70, .live = 70, .columns = 36, .k = 40, .tile = 64, .out = DType::bf16});
  check({.rows = 1, .live = 1, .columns = 4, .k = 8, .tile = 256, .bias = true});
}

TEST_CASE("matmul_hopper multiplies gate and up rows in one tile") {
  check({.rows = 150, .live = 150, .columns = 140, .k = 328, .tile = 256, .gated = true});
  check({.rows = 150,
         .live = 150,
         .columns = 100,
         .k = 72,
         .tile = 128,
         .out = DType::bf16,
         .bias = true,
         .gated = true,
         .gate = Gate::gelu_tanh});
  check({.rows = 80,
         .live = 80,
         .columns = 100,
         .k = 72,
         .tile = 192,
         .type = DType::f16,
         .out = DType::f16,
         .gated = true});
}

TEST_CASE("matmul_hopper leaves rows beyond the live ones alone") {
  for (const int live : {0, 1, 127, 128, 129, 300}) {
    check({.rows = 300, .live = live, .columns = 72, .k = 40, .tile = 64});
  }
}

TEST_CASE("matmul_hopper gives a row the same bits in every tile and company") {
  const Shape shape{.rows = 140, .live = 140, .columns = 260, .k = 136, .tile = 64};
  Case whole(shape);
  const auto first = whole.run();
  for (const int tile : {128, 192, 256}) {
    whole.shape.tile = tile;
    const auto other = whole.run();
    CHECK(std::memcmp(first.data(), other.data(), first.size() * sizeof(float)) == 0);
  }
  Case alone = whole;
  alone.shape.rows = alone.live = 1;
  alone.weight.data = alone.w.data();
  alone.x.assign(whole.x.begin() + 135 * 136, whole.x.begin() + 136 * 136);
  const auto row = alone.run();
  CHECK(std::memcmp(row.data(), first.data() + 135 * 260, row.size() * sizeof(float)) == 0);
}

TEST_CASE("matmul_hopper adds up chains of k that are cut") {
  for (const int splits : {2, 4}) {
    check({.rows = 40,
           .live = 33,
           .columns = 136,
           .k = 392,
           .tile = 64,
           .splits = splits,
           .bias = true});
    check({.rows = 130,
           .live = 130,
           .columns = 72,
           .k = 72,
           .tile = 128,
           .splits = splits,
           .type = DType::f16,
           .out = DType::f16});
  }
}

TEST_CASE("matmul_hopper refuses what it has no kernel for") {
  Case job({.rows = 4, .live = 4, .columns = 4, .k = 8});
  std::vector<float> out(16);
  cuda::MatmulArgs args{.out = {out.data(), DType::f32, 4, 4},
                        .x = {job.x.data(), DType::bf16, 4, 8},
                        .weight = &job.weight};
  CHECK(cuda::matmul_hopper_takes(args));
  CHECK_THROWS_AS(cuda::matmul_hopper(args, {96, 1}, nullptr, nullptr), std::invalid_argument);
  args.out.cols = 3;
  CHECK(!cuda::matmul_hopper_takes(args));
  args.out.cols = 4;
  args.x.type = DType::f32;
  CHECK(!cuda::matmul_hopper_takes(args));
  CHECK_THROWS_AS(cuda::matmul_hopper(args, {128, 1}, nullptr, nullptr), std::invalid_argument);
}

}  // namespace chorus::tests
