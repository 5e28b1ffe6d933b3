// Checks and measures products of few rows on the GPU at hand: one JSON line a figure.
//
//   matmul_few_check [--seconds N]     stops starting new measurements after N (default 25)
//
// First values against sums in f64 by a naive kernel, and the bits of rows alone and in batches;
// then times at Llama-8B's shapes, beside matmul_hopper, and for other splits of k. Times are of
// graphs of launches that each read another copy of the weights, so that they come from memory and
// not from L2; gb_s counts the weights' bytes. Exit code 1 when a check fails.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "bench/gpu_bench.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/large_matmul.h"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/matmul_hopper.h"

namespace {

using namespace chorus::kernels;
using namespace chorus::kernels::cuda;
using namespace chorus::bench;
using Bf16 = __nv_bfloat16;

const auto started = std::chrono::steady_clock::now();
double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
}

__global__ void reference_kernel(double* out, const Bf16* x, const Bf16* w, int columns, int k,
                                 bool gated) {
  const int column = blockIdx.x * blockDim.x + threadIdx.x, row = blockIdx.y;
  if (column >= columns) return;
  const auto dot = [&](int64_t weight_row) {
    double sum = 0;
    for (int i = 0; i < k; ++i) {
      sum += double(float(x[int64_t{row} * k + i])) * double(float(w[weight_row * k + i]));
    }
    return sum;
  };
  double value = dot(column);
  if (gated) value = value / (1 + exp(-value)) * dot(int64_t{columns} + column);
  out[int64_t{row} * columns + column] = value;
}

constexpr int64_t kWeights = int64_t{1536} << 20;  // elements of all copies
constexpr int kRowsMax = 512;

struct Shape {
  int n = 0, k = 0;  // weight rows and columns
  bool gated = false;
};

struct Bench {
  DeviceLimits limits;
  cudaStream_t stream = nullptr;
  Bf16* weights = device_array<Bf16>(kWeights);
  Bf16* x = device_array<Bf16>(int64_t{kRowsMax} * 14336);
  float* out = device_array<float>(int64_t{kRowsMax} * 128256);
  double* reference = device_array<double>(int64_t{8} * 128256);
  char* workspace = device_array<char>(int64_t{1} << 30);
  int failures = 0;
};

DeviceWeight weight_of(const Bench& bench, const Shape& s, int copy) {
  DeviceWeight weight;
  weight.rows = s.n;
  weight.cols = weight.stride = s.k;
  weight.data = bench.weights + int64_t{copy} * s.n * s.k;
  return weight;
}

MatmulArgs args_of(const Bench& bench, const Shape& s, const DeviceWeight& weight, int rows,
                   int first_row = 0) {
  const int columns = s.gated ? s.n / 2 : s.n;
  return {.out = {bench.out, DType::f32, rows, columns},
          .x = {bench.x + int64_t{first_row} * s.k, DType::bf16, rows, s.k},
          .weight = &weight,
          .gated = s.gated,
          .limits = bench.limits};
}

std::vector<float> run(const Bench& bench, const MatmulArgs& args) {
  std::vector<float> result(size_t(args.out.rows * args.out.cols));
  check(cudaMemsetAsync(bench.out, 0xff, result.size() * 4, bench.stream));
  matmul(args, bench.workspace, true, bench.stream);
  check(cudaMemcpyAsync(result.data(), bench.out, result.size() * 4, cudaMemcpyDeviceToHost,
                        bench.stream));
  check(cudaStreamSynchronize(bench.stream));
  return result;
}

void report(Bench& bench, const Shape& s, const char* what, int rows, double worst, bool good) {
  bench.failures += !good;
  std::printf(
      "{\"check\": \"%s\", \"shape\": \"%dx%dx%d%s\", \"max_rel_diff\": %.3g, \"good\": %s}\n",
      what, rows, s.n, s.k, s.gated ? " gated" : "", worst, good ? "true" : "false");
  std::fflush(stdout);
}

// Five rows against f64, then every size of batch against the rows alone.
void check_shape(Bench& bench, const Shape& s) {
  const DeviceWeight weight = weight_of(bench, s, 0);
  const int columns = s.gated ? s.n / 2 : s.n;
  reference_kernel<<<dim3((columns + 127) / 128, 5), 128, 0, bench.stream>>>(
      bench.reference, bench.x, static_cast<Bf16*>(weight.data), columns, s.k, s.gated);
  std::vector<double> expected(size_t(columns) * 5);
  check(cudaMemcpyAsync(expected.data(), bench.reference, expected.size() * 8,
                        cudaMemcpyDeviceToHost, bench.stream));
  const auto five = run(bench, args_of(bench, s, weight, 5));
  double worst = 0, scale = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    worst = std::max(worst, std::isfinite(five[i]) ? std::fabs(five[i] - expected[i]) : 1e30);
    scale = std::max(scale, std::fabs(expected[i]));
  }
  report(bench, s, "values", 5, worst / scale, worst <= 1e-5 * scale);

  std::vector<std::vector<float>> alone;
  for (int row = 0; row < 130; ++row) {
    alone.push_back(run(bench, args_of(bench, s, weight, 1, row)));
  }
  for (const int rows : {2, 8, 9, 16, 24, 32, 33, 48, 64, 130}) {
    const auto batch = run(bench, args_of(bench, s, weight, rows));
    bool same = true;
    for (int row = 0; row < rows; ++row) {
      same = same && std::memcmp(batch.data() + size_t(row) * columns, alone[size_t(row)].data(),
                                 size_t(columns) * 4) == 0;
    }
    report(bench, s, "bits of rows alone and in a batch", rows, 0, same);
  }
}

// Microseconds a launch: the median of runs of a graph of launches over copies of the weight.
double median_us(const Bench& bench, const Shape& s, int rows, const auto& launch) {
  const int copies = int(std::min<int64_t>(32, kWeights / (int64_t{s.n} * s.k)));
  std::vector<DeviceWeight> weights;
  for (int i = 0; i < copies; ++i) weights.push_back(weight_of(bench, s, i));
  return graph_median_us(bench.stream, 11, copies, [&] {
    for (const auto& weight : weights) launch(args_of(bench, s, weight, rows));
  });
}

void print_time(const char* kernel, const Shape& s, int rows, int groups, double us) {
  std::printf(
      "{\"kernel\": \"%s\", \"shape\": \"%dx%dx%d%s\", \"dtype\": \"bf16\", \"groups\": %d, "
      "\"us_median\": %.2f, \"gb_s\": %.0f}\n",
      kernel, rows, s.n, s.k, s.gated ? " gated" : "", groups, us, 2e-3 * s.n * s.k / us);
  std::fflush(stdout);
}

// The kernels that could serve a shape; `splits`: with every split of k instead of the chosen one.
void time_shape(const Bench& bench, const Shape& s, int rows, bool splits) {
  const MatmulShape shape{
      .rows = rows, .n = s.n, .k = s.k, .gated = s.gated, .deterministic = true};
  const MatmulPlan chosen = plan_matmul(shape, bench.limits);
  for (int groups = 1; groups <= kGroupsMax; ++groups) {
    if ((groups == chosen.order.groups) == splits) continue;
    MatmulPlan plan = chosen;
    plan.order.groups = groups;
    plan.order.slice_steps = (s.k / 32 + groups * kSlices - 1) / (groups * kSlices);
    const bool stream = plan.kernel == MatmulKernel::stream;
    const double us = median_us(bench, s, rows, [&](const MatmulArgs& args) {
      if (stream) return matmul_stream(args, plan, bench.stream);
      matmul_few(args, plan, bench.workspace, bench.workspace + kTileCountersMax * 4, bench.stream);
    });
    print_time(stream ? "matmul_stream" : "matmul_few", s, rows, groups, us);
  }
  if (splits || rows <= kStreamRowsMax || bench.limits.capability != 90) return;
  const int columns = s.gated ? s.n / 2 : s.n;
  const HopperPlan hopper =
      plan_hopper({.rows = rows, .out_columns = columns, .k = s.k, .gated = s.gated},
                  bench.limits.multiprocessors);
  const double us = median_us(bench, s, rows, [&](const MatmulArgs& args) {
    matmul_hopper(args, hopper, reinterpret_cast<float*>(bench.workspace), bench.stream);
  });
  print_time("matmul_hopper", s, rows, 1, us);
}

}  // namespace

int main(int argc, char** argv) {
  const double limit =
      argc == 3 && std::strcmp(argv[1], "--seconds") == 0 ? std::atof(argv[2]) : 25;
  const cudaDeviceProp properties = device_properties();
  Bench bench;
  bench.limits = {.capability = properties.major * 10 + properties.minor,
                  .multiprocessors = properties.multiProcessorCount};
  check(cudaStreamCreateWithFlags(&bench.stream, cudaStreamNonBlocking));
  const uint64_t seed = std::random_device{}();
  fill(bench.weights, kWeights, seed);
  fill(bench.x, int64_t{kRowsMax} * 14336, seed + 1);
  std::printf("{\"device\": \"%s\", \"multiprocessors\": %d, \"seed\": %llu}\n", properties.name,
              properties.multiProcessorCount, static_cast<unsigned long long>(seed));

  check_shape(bench, {.n = 4096, .k = 4096});
  check_shape(bench, {.n = 1000, .k = 1032});
  check_shape(bench, {.n = 2048, .k = 2048, .gated = true});

  constexpr Shape kShapes[] = {{6144, 4096},  {4096, 4096},  {28672, 4096, true},
                               {4096, 14336}, {28672, 4096}, {128256, 4096}};
  for (const bool splits : {false, true}) {
    for (const int rows : {1, 8, 16, 32, 64, 2, 4, 24, 48}) {
      for (const Shape& shape : kShapes) {
        if (seconds() < limit && (!splits || shape.n < 10000)) {
          time_shape(bench, shape, rows, splits);
        }
      }
    }
  }
  std::printf("{\"seconds\": %.1f, \"failures\": %d}\n", seconds(), bench.failures);
  return bench.failures == 0 ? 0 : 1;
}
