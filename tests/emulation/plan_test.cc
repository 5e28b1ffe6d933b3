#include "kernels/cuda/plan.h"

#include <catch2/catch.hpp>

namespace chorus::kernels::cuda {
namespace {

constexpr DeviceLimits kH200{.capability = 90, .multiprocessors = 132};

}  // namespace

TEST_CASE("a matmul's order of sums depends on the weight alone") {
  for (const int64_t n : {16, 576, 4096, 6144, 28672, 128256}) {
    for (const int64_t k : {64, 576, 4096, 14336}) {
      const SumOrder one = plan_matmul({.rows = 1, .n = n, .k = k}, kH200).order;
      for (const int64_t rows : {8, 9, 64}) {
        const SumOrder other =
            plan_matmul({.rows = rows, .n = n, .k = k, .deterministic = true}, kH200).order;
        CHECK(other.groups == one.groups);
        CHECK(other.slice_steps == one.slice_steps);
      }
      const SumOrder many =
          plan_matmul({.rows = 1000, .n = n, .k = k, .deterministic = true}, kH200).order;
      CHECK(many.groups == one.groups);
      CHECK(int64_t{one.groups} * kSlices * one.slice_steps * 32 >= k);
    }
  }
}

TEST_CASE("a matmul splits k where tiles do not fill the device") {
  CHECK(sum_order({.n = 4096, .k = 4096}, kH200).groups == 4);
  CHECK(sum_order({.n = 6144, .k = 4096}, kH200).groups == 2);
  CHECK(sum_order({.n = 28672, .k = 4096, .gated = true}, kH200).groups == 1);
  CHECK(sum_order({.n = 576, .k = 576}, kH200).groups == 1);  // too short to be cut
}

TEST_CASE("a matmul's kernel follows its rows, type and device") {
  const auto kernel = [](int64_t rows, WeightFormat format, bool deterministic,
                         const DeviceLimits& limits) {
    return plan_matmul({.rows = rows,
                        .n = 4096,
                        .k = 4096,
                        .format = format,
                        .deterministic = deterministic},
                       limits)
        .kernel;
  };
  constexpr DeviceLimits kA100{.capability = 80, .multiprocessors = 108};
  for (const DeviceLimits& limits : {kA100, kH200}) {
    CHECK(kernel(1, WeightFormat::bf16, false, limits) == MatmulKernel::stream);
    CHECK(kernel(8, WeightFormat::f16, true, limits) == MatmulKernel::stream);
    CHECK(kernel(9, WeightFormat::f16, true, limits) == MatmulKernel::few);
    CHECK(kernel(65, WeightFormat::bf16, false, limits) == MatmulKernel::many);
    CHECK(kernel(65, WeightFormat::bf16, true, limits) == MatmulKernel::few);
    CHECK(kernel(65, WeightFormat::f32, false, limits) == MatmulKernel::f32);
  }
  CHECK(kernel(64, WeightFormat::f16, false, kA100) == MatmulKernel::few);
  CHECK(kernel(64, WeightFormat::f16, false, kH200) == MatmulKernel::many);
}

TEST_CASE("a matmul's blocks hold the tokens there are") {
  const auto tiles = [](int64_t rows) {
    return plan_matmul({.rows = rows, .n = 4096, .k = 4096, .deterministic = true}, kH200)
        .token_tiles;
  };
  CHECK(tiles(9) == 2);
  CHECK(tiles(16) == 2);
  CHECK(tiles(32) == 4);
  CHECK(tiles(33) == 8);
  CHECK(tiles(64) == 8);
  CHECK(tiles(1000) == 8);
}

}  // namespace chorus::kernels::cuda
