// Checks and measures matmul_hopper on the GPU at hand, beside cuBLASLt: one JSON line a figure.
//
//   matmul_hopper_check [--seconds N]     stops starting new measurements after N (default 22)
//
// First products of random numbers against sums in f64 by a naive kernel: edges, both types, bias,
// gates, few live rows; then rows alone and in company, and tiles of all widths, bit for bit. Then
// times at Llama-8B's shapes and at 8192^3: each launch reads another copy of the weights, so that
// they come from memory and not from L2. Exit code 1 when a check fails. Needs a GPU of compute
// capability 9.0.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "bench/cublaslt.h"
#include "bench/gpu_bench.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/large_matmul.h"
#include "kernels/cuda/matmul_hopper.h"

namespace {

using namespace chorus::kernels;
using namespace chorus::kernels::cuda;
using namespace chorus::bench;

const auto started = std::chrono::steady_clock::now();
double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
}

uint64_t next_seed = std::random_device{}() * 1000003ull;
template <typename T>
T* random_array(int64_t count) {
  T* values = device_array<T>(count);
  fill(values, count, ++next_seed);
  return values;
}

template <typename T>
__global__ void reference_kernel(double* out, const T* x, const T* w, const float* bias, int rows,
                                 int columns, int k, int stride, bool gated, Gate gate) {
  const int column = blockIdx.x * blockDim.x + threadIdx.x, row = blockIdx.y;
  if (column >= columns || row >= rows) return;
  const auto dot = [&](int64_t weight_row) {
    double sum = bias != nullptr ? bias[weight_row] : 0;
    for (int i = 0; i < k; ++i) {
      sum += double(float(x[int64_t{row} * k + i])) * double(float(w[weight_row * stride + i]));
    }
    return sum;
  };
  double value = dot(column);
  if (gated) {
    const double u = 0.7978845608028654 * (value + 0.044715 * value * value * value);
    value = gate == Gate::silu ? value / (1 + exp(-value)) : value / 2 * (1 + tanh(u));
    value *= dot(column + columns);
  }
  out[int64_t{row} * columns + column] = value;
}

int multiprocessors = 0;
int failures = 0;
std::unique_ptr<CublasLt> library;
void* library_workspace = nullptr;

struct Shape {
  int rows, columns, k;  // columns of out
  int tile = 256;
  bool gated = false;
  bool bias = false;
  bool out_f32 = true;
  int live = -1;  // rows; -1: all
  Gate gate = Gate::silu;
};
std::string name_of(const Shape& s) {
  return std::to_string(s.rows) + "x" + std::to_string(s.columns) + "x" + std::to_string(s.k) +
         (s.gated ? " gated" : "") + (s.bias ? " bias" : "") + (s.out_f32 ? "" : " 16-bit out") +
         (s.live >= 0 ? " live " + std::to_string(s.live) : "");
}

template <typename T>
constexpr DType dtype_of = std::is_same_v<T, __half> ? DType::f16 : DType::bf16;
template <typename T>
constexpr const char* type_name = std::is_same_v<T, __half> ? "f16" : "bf16";

std::vector<float> download(const void* data, DType type, int64_t count) {
  std::vector<float> values(count);
  std::vector<uint16_t> halves(count);
  if (type == DType::f32) {
    check(cudaMemcpy(values.data(), data, count * 4, cudaMemcpyDefault));
    return values;
  }
  check(cudaMemcpy(halves.data(), data, count * 2, cudaMemcpyDefault));
  for (int64_t i = 0; i < count; ++i) {
    if (type == DType::f16) {
      values[i] = float(std::bit_cast<__half>(halves[i]));
    } else {
      values[i] = float(std::bit_cast<__nv_bfloat16>(halves[i]));
    }
  }
  return values;
}

template <typename T>
void check_shape(const Shape& s) {
  const int64_t weight_rows = s.gated ? s.columns * 2 : s.columns;
  const int64_t outputs = int64_t{s.rows} * s.columns;
  const DType out_type = s.out_f32 ? DType::f32 : dtype_of<T>;
  DeviceWeight weight;
  weight.rows = weight_rows;
  weight.cols = s.k;
  weight.stride = (s.k + 7) / 8 * 8;
  weight.format = dtype_of<T> == DType::f16 ? WeightFormat::f16 : WeightFormat::bf16;
  T* w = random_array<T>(weight_rows * weight.stride);
  T* x = random_array<T>(int64_t{s.rows} * s.k);
  float* bias = s.bias ? random_array<float>(weight_rows) : nullptr;
  weight.data = w;
  int32_t* live = device_array<int32_t>(1);
  const int32_t live_rows = s.live >= 0 ? s.live : s.rows;
  check(cudaMemcpy(live, &live_rows, 4, cudaMemcpyDefault));
  void* out = device_array<float>(outputs);
  check(cudaMemset(out, 0xff, outputs * 4));
  double* reference = device_array<double>(outputs);
  reference_kernel<T><<<dim3((s.columns + 127) / 128, s.rows), 128>>>(
      reference, x, w, bias, s.rows, s.columns, s.k, int(weight.stride), s.gated, s.gate);
  check(cudaDeviceSynchronize());
  MatmulArgs args{.out = {out, out_type, s.rows, s.columns, live},
                  .x = {x, dtype_of<T>, s.rows, s.k, live},
                  .weight = &weight,
                  .bias = bias,
                  .gated = s.gated,
                  .gate = s.gate};
  args.limits = {.capability = 90, .multiprocessors = multiprocessors};
  matmul_hopper(args, {s.tile, 1}, nullptr, nullptr);
  check(cudaDeviceSynchronize());

  const auto got = download(out, out_type, outputs);
  std::vector<double> want(outputs);
  check(cudaMemcpy(want.data(), reference, outputs * 8, cudaMemcpyDefault));
  double scale = 0, worst = 0;
  int64_t not_finite = 0, overwritten = 0;
  for (int64_t i = 0; i < outputs; ++i) {
    if (i / s.columns >= live_rows) {
      overwritten += !std::isnan(got[i]);
      continue;
    }
    not_finite += !std::isfinite(got[i]);
    scale = std::max(scale, std::abs(want[i]));
    worst = std::max(worst, std::abs(got[i] - want[i]));
  }
  const double difference = scale > 0 ? worst / scale : 0;
  const bool good = difference <= (s.out_f32 ? 1e-4 : 5e-3) && not_finite == 0 && overwritten == 0;
  failures += !good;
  std::printf(
      "{\"check\": \"%s\", \"dtype\": \"%s\", \"tile\": %d, \"max_rel_diff\": %.3g, "
      "\"not_finite\": "
      "%lld, \"overwritten\": %lld, \"good\": %s}\n",
      name_of(s).c_str(), type_name<T>, s.tile, difference, static_cast<long long>(not_finite),
      static_cast<long long>(overwritten), good ? "true" : "false");
  std::fflush(stdout);
  for (void* memory : {static_cast<void*>(w), static_cast<void*>(x), static_cast<void*>(bias),
                       static_cast<void*>(live), out, static_cast<void*>(reference)}) {
    check(cudaFree(memory));
  }
}

// The same bits from every tile, and for a row alone.
void check_bits() {
  const int rows = 300, columns = 1032, k = 4096, chosen = 217;
  DeviceWeight weight;
  weight.rows = columns;
  weight.cols = weight.stride = k;
  weight.data = random_array<__nv_bfloat16>(int64_t{columns} * k);
  auto* x = random_array<__nv_bfloat16>(int64_t{rows} * k);
  float* out = device_array<float>(int64_t{rows} * columns);
  std::vector<float> first;
  for (const int tile : {256, 192, 128, 64, 128}) {
    const MatmulArgs args{.out = {out, DType::f32, rows, columns},
                          .x = {x, DType::bf16, rows, k},
                          .weight = &weight,
                          .limits = {.capability = 90, .multiprocessors = multiprocessors}};
    matmul_hopper(args, {tile, 1}, nullptr, nullptr);
    const auto bits = download(out, DType::f32, int64_t{rows} * columns);
    if (first.empty()) first = bits;
    const bool good = std::memcmp(first.data(), bits.data(), bits.size() * 4) == 0;
    failures += !good;
    std::printf("{\"check\": \"bits of tile %d as of 256\", \"good\": %s}\n", tile,
                good ? "true" : "false");
  }
  const MatmulArgs alone{.out = {out, DType::f32, 1, columns},
                         .x = {x + int64_t{chosen} * k, DType::bf16, 1, k},
                         .weight = &weight,
                         .limits = {.capability = 90, .multiprocessors = multiprocessors}};
  matmul_hopper(alone, {64, 1}, nullptr, nullptr);
  const auto bits = download(out, DType::f32, columns);
  const bool good =
      std::memcmp(first.data() + int64_t{chosen} * columns, bits.data(), bits.size() * 4) == 0;
  failures += !good;
  std::printf("{\"check\": \"row alone as in a batch\", \"good\": %s}\n", good ? "true" : "false");
  std::fflush(stdout);
}

// Microseconds a launch, launch i of `launch(i)`.
double median_us(const std::function<void(int)>& launch) {
  constexpr int kLaunches = 20;
  return chorus::bench::median_us(nullptr, 7, kLaunches, [&] {
    for (int i = 0; i < kLaunches; ++i) launch(i);
  });
}

struct Buffers {
  static constexpr int64_t kWeights = int64_t{384} << 20, kElements = int64_t{8192} * 14336;
  __nv_bfloat16* weights = random_array<__nv_bfloat16>(kWeights);
  __nv_bfloat16* x = random_array<__nv_bfloat16>(kElements);
  float* out = device_array<float>(int64_t{8192} * 28672);
  float* other = device_array<float>(int64_t{8192} * 28672);
};

void print_time(const char* kernel, const Shape& s, int tile, double us, double library_us,
                double difference) {
  const double flops = 2.0 * s.rows * s.columns * s.k * (s.gated ? 2 : 1);
  std::printf(
      "{\"kernel\": \"%s\", \"shape\": \"%s\", \"dtype\": \"bf16\", \"tile\": %d, "
      "\"us_median\": %.2f, \"tflops\": %.1f",
      kernel, name_of(s).c_str(), tile, us, flops / us * 1e-6);
  if (library_us > 0) std::printf(", \"x_cublas\": %.3f", library_us / us);
  if (difference >= 0) std::printf(", \"max_rel_diff\": %.3g", difference);
  std::printf("}\n");
  std::fflush(stdout);
}

// Times all tiles and the library at one shape; `plain_us`: the library's time for the same
// products without a gate.
double time_shape(const Shape& s, const Buffers& buffers, double plain_us) {
  const int64_t weight_rows = s.gated ? int64_t{s.columns} * 2 : s.columns;
  const int64_t elements = weight_rows * s.k,
                copies = std::max<int64_t>(1, std::min<int64_t>(16, Buffers::kWeights / elements));
  std::vector<DeviceWeight> weights(copies);
  for (int64_t i = 0; i < copies; ++i) {
    weights[i].rows = weight_rows;
    weights[i].cols = weights[i].stride = s.k;
    weights[i].data = buffers.weights + i * elements;
  }
  MatmulArgs args{.out = {buffers.out, s.out_f32 ? DType::f32 : DType::bf16, s.rows, s.columns},
                  .x = {buffers.x, DType::bf16, s.rows, s.k},
                  .weight = &weights[0],
                  .gated = s.gated,
                  .limits = {.capability = 90, .multiprocessors = multiprocessors}};
  double library_us = plain_us, difference = -1;
  if (!s.gated && library) {
    MatmulArgs theirs = args;
    theirs.out.data = buffers.other;
    if (library->matmul(theirs, library_workspace, nullptr)) {
      matmul_hopper(args, {256, 1}, nullptr, nullptr);
      const int64_t outputs = std::min<int64_t>(int64_t{s.rows} * s.columns, 1 << 20);
      const auto got = download(buffers.out, args.out.type, outputs);
      const auto want = download(buffers.other, args.out.type, outputs);
      double worst = 0, scale = 0;
      for (int64_t i = 0; i < outputs; ++i) {
        worst = std::max(worst, double{std::abs(got[i] - want[i])});
        scale = std::max(scale, double{std::abs(want[i])});
      }
      difference = worst / scale;
      library_us = median_us([&](int i) {
        theirs.weight = &weights[i % copies];
        library->matmul(theirs, library_workspace, nullptr);
      });
      print_time("cublaslt", s, 0, library_us, 0, -1);
    }
  }
  const HopperPlan chosen = plan_hopper({s.rows, s.columns, s.k, s.gated}, multiprocessors);
  for (const int tile : {256, 192, 128, 64}) {
    if (tile != chosen.tile_columns && (tile == 64 || tile == 192) && s.rows > 2048) continue;
    const double us = median_us([&](int i) {
      args.weight = &weights[i % copies];
      matmul_hopper(args, tile == chosen.tile_columns ? chosen : HopperPlan{tile, 1},
                    static_cast<float*>(buffers.other), nullptr);
    });
    print_time(tile == chosen.tile_columns ? "matmul_hopper" : "matmul_hopper (not chosen)", s,
               tile, us, library_us, difference);
  }
  return library_us;
}

}  // namespace

int main(int argc, char** argv) {
  const double limit =
      argc == 3 && std::strcmp(argv[1], "--seconds") == 0 ? std::atof(argv[2]) : 22;
  const cudaDeviceProp properties = device_properties();
  multiprocessors = properties.multiProcessorCount;
  std::string why_none;
  library = CublasLt::load(why_none);
  if (library) library_workspace = device_array<char>(kCublasLtWorkspaceBytes);
  std::printf(
      "{\"device\": \"%s\", \"multiprocessors\": %d, \"library\": \"%s\", \"seed\": %llu}\n",
      properties.name, multiprocessors, library ? library->description().c_str() : why_none.c_str(),
      static_cast<unsigned long long>(next_seed));
  std::fflush(stdout);

  for (const int tile : {64, 128, 192, 256}) {
    check_shape<__nv_bfloat16>({.rows = 200, .columns = 264, .k = 520, .tile = tile});
    check_shape<__half>({.rows = 129, .columns = 516, .k = 1032, .tile = tile, .bias = true});
    check_shape<__nv_bfloat16>({.rows = 300,
                                .columns = 520,
                                .k = 264,
                                .tile = tile,
                                .gated = true,
                                .bias = true,
                                .out_f32 = false});
    check_shape<__nv_bfloat16>(
        {.rows = 1100, .columns = 2048, .k = 1024, .tile = tile, .out_f32 = false, .live = 900});
  }
  check_shape<__half>({.rows = 260,
                       .columns = 1032,
                       .k = 2048,
                       .gated = true,
                       .out_f32 = false,
                       .gate = Gate::gelu_tanh});
  check_shape<__nv_bfloat16>({.rows = 1024, .columns = 4096, .k = 4096, .live = 1000});
  check_bits();

  const Buffers buffers;
  check(cudaDeviceSynchronize());
  for (const int rows : {512, 2048, 4096, 8192, 128}) {
    if (seconds() > limit) break;
    time_shape({.rows = rows, .columns = 6144, .k = 4096}, buffers, 0);
    time_shape({.rows = rows, .columns = 4096, .k = 4096}, buffers, 0);
    const double plain = time_shape({.rows = rows, .columns = 28672, .k = 4096}, buffers, 0);
    time_shape({.rows = rows, .columns = 14336, .k = 4096, .gated = true, .out_f32 = false},
               buffers, plain);
    time_shape({.rows = rows, .columns = 4096, .k = 14336}, buffers, 0);
  }
  time_shape({.rows = 8192, .columns = 8192, .k = 8192}, buffers, 0);
  time_shape({.rows = 8192, .columns = 8192, .k = 8192, .out_f32 = false}, buffers, 0);
  std::printf("{\"seconds\": %.1f, \"failures\": %d}\n", seconds(), failures);
  return failures == 0 ? 0 : 1;
}
