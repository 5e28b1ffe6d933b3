// Measures products of few rows with quantised weights on the GPU at hand, at Llama-8B's shapes:
// one JSON line a figure. Values are device_test's to check.
//
//   matmul_quantised_check [--seconds N]     stops starting new measurements after N (default 20)
//
// Times are of graphs of launches that each read another copy of the weight, so that codes come
// from memory and not from L2; gb_s counts the bytes of codes and scales.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "bench/gpu_bench.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/quantised.h"
#include "kernels/cuda/quantised_layout.h"
#include "kernels/rounding.h"

namespace {

using namespace chorus::kernels;
using namespace chorus::kernels::cuda;
using namespace chorus::bench;

struct Kind {
  const char* name;
  Coding coding;
};
constexpr Kind kKinds[] = {{"i4_by_128", Coding::i4_by_128},
                           {"e4m3", Coding::e4m3},
                           {"q4_k", Coding::q4_k},
                           {"q8_0", Coding::q8_0},
                           {"q6_k", Coding::q6_k}};
struct Shape {
  int n = 0, k = 0;  // weight rows and columns
  bool gated = false;
};
constexpr Shape kShapes[] = {{6144, 4096}, {4096, 4096}, {28672, 4096, true}, {4096, 14336}};

constexpr int64_t kMemory = int64_t{3} << 29;  // bytes of all copies of a weight
constexpr int kRowsMax = 64;

// Planes one behind the other; what stands in them is random, so scales are any numbers.
struct Planes {
  int64_t codes, high, scales, block_scales, bytes;

  explicit Planes(const Kind& kind, const Shape& shape) {
    const CodingFacts facts = facts_of(kind.coding);
    const int64_t row_tiles = shape.n / kTileRows, col_tiles = shape.k / kTileCols;
    const int64_t tiles = row_tiles * col_tiles;
    codes = 0;
    high = codes + tiles * code_bytes(facts);
    scales = high + tiles * high_bytes(facts);
    // Without a place in the tiles: one for 128 x 128 weights, kept for each 16 rows.
    block_scales =
        scales + (facts.scale_bytes > 0 ? tiles * kTileRows * facts.scale_bytes : tiles * 4);
    bytes = round_up(
        block_scales + row_tiles * ceil_div(col_tiles, 2) * kTileRows * facts.block_scale_bytes,
        256);
  }
};

DeviceWeight weight_of(const Kind& kind, const Shape& shape, const uint8_t* memory) {
  const Planes planes(kind, shape);
  DeviceWeight weight;
  weight.format = WeightFormat::quantised;
  weight.rows = shape.n;
  weight.cols = shape.k;
  QuantisedSegment& segment = weight.segments.emplace_back();
  segment.coding = kind.coding;
  segment.rows = shape.n;
  segment.row_tiles = shape.n / kTileRows;
  segment.col_tiles = shape.k / kTileCols;
  segment.codes = memory + planes.codes;
  segment.high_bits = memory + planes.high;
  segment.scales = memory + planes.scales;
  segment.block_scales = memory + planes.block_scales;
  segment.scale_row_tile_stride = segment.col_tiles;
  segment.scale_col_tile_stride = 1;
  return weight;
}

struct Bench {
  DeviceLimits limits;
  cudaStream_t stream = nullptr;
  __nv_bfloat16* memory = device_array<__nv_bfloat16>(kMemory / 2);
  __nv_bfloat16* x = device_array<__nv_bfloat16>(int64_t{kRowsMax} * 14336);
  float* out = device_array<float>(int64_t{kRowsMax} * 28672);
};

void time_shape(const Bench& bench, const Kind& kind, const Shape& shape, int rows) {
  const int64_t bytes = Planes(kind, shape).bytes;
  std::vector<DeviceWeight> weights;
  for (int64_t at = 0; at + bytes <= kMemory && weights.size() < 32; at += bytes) {
    weights.push_back(weight_of(kind, shape, reinterpret_cast<uint8_t*>(bench.memory) + at));
  }
  const double us = graph_median_us(bench.stream, 11, int(weights.size()), [&] {
    for (const DeviceWeight& weight : weights) {
      const int columns = shape.gated ? shape.n / 2 : shape.n;
      matmul_quantised({.out = {bench.out, DType::f32, rows, columns},
                        .x = {bench.x, DType::bf16, rows, shape.k},
                        .weight = &weight,
                        .gated = shape.gated,
                        .limits = bench.limits},
                       nullptr, true, bench.stream);
    }
  });
  std::printf(
      "{\"kernel\": \"matmul_quantised\", \"shape\": \"%dx%dx%d%s\", \"dtype\": \"%s\", "
      "\"us_median\": %.2f, \"gb_s\": %.0f}\n",
      rows, shape.n, shape.k, shape.gated ? " gated" : "", kind.name, us, 1e-3 * bytes / us);
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  const double limit =
      argc == 3 && std::strcmp(argv[1], "--seconds") == 0 ? std::atof(argv[2]) : 20;
  const auto started = std::chrono::steady_clock::now();
  const cudaDeviceProp properties = device_properties();
  Bench bench;
  bench.limits = {.capability = properties.major * 10 + properties.minor,
                  .multiprocessors = properties.multiProcessorCount};
  check(cudaStreamCreateWithFlags(&bench.stream, cudaStreamNonBlocking));
  fill(bench.memory, kMemory / 2, 1);
  fill(bench.x, int64_t{kRowsMax} * 14336, 2);
  for (const int rows : {1, 8, 32, 2, 16, 64}) {
    for (const Kind& kind : kKinds) {
      for (const Shape& shape : kShapes) {
        const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - started;
        if (taken.count() < limit) time_shape(bench, kind, shape, rows);
      }
    }
  }
  return 0;
}
