// What this GPU can do at best, for other figures to be held against: reading memory, copying it,
// and starting kernels one after another. Prints one JSON line a figure.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>

#include "bench/gpu_bench.h"

namespace {

using namespace chorus::bench;

// Sixteen bytes a load, eight loads in flight a thread.
__global__ void __launch_bounds__(512)
    read_kernel(const uint4* from, int64_t count, uint32_t* sink) {
  constexpr int kLoads = 8;
  uint32_t sum = 0;
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  for (; i + (kLoads - 1) * step < count; i += kLoads * step) {
    uint4 loaded[kLoads];
#pragma unroll
    for (int j = 0; j < kLoads; ++j) {
      const uint4* at = from + i + j * step;
      asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
                   : "=r"(loaded[j].x), "=r"(loaded[j].y), "=r"(loaded[j].z), "=r"(loaded[j].w)
                   : "l"(at));
    }
#pragma unroll
    for (int j = 0; j < kLoads; ++j) sum ^= loaded[j].x ^ loaded[j].y ^ loaded[j].z ^ loaded[j].w;
  }
  if (sum == 0x12345678) *sink = sum;
}

__global__ void empty_kernel() {}
__global__ void overlapped_kernel() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

void measure_memory(cudaStream_t stream, int multiprocessors) {
  constexpr int64_t kBytes = int64_t{4} << 30;
  auto* a = device_array<float>(kBytes / 4);
  auto* b = device_array<float>(kBytes / 4);
  auto* sink = device_array<uint32_t>(1);
  fill(a, kBytes / 4, 1);
  double best = 1e30;
  for (const int blocks : {2, 4}) {
    best = std::min(best, median_us(stream, 10, 1, [&] {
                      read_kernel<<<multiprocessors * blocks, 512, 0, stream>>>(
                          reinterpret_cast<const uint4*>(a), kBytes / 16, sink);
                    }));
  }
  std::printf(
      "{\"kernel\": \"read ceiling\", \"shape\": \"4 GiB\", \"us_median\": %.1f, \"gb_s\": %.0f}\n",
      best, kBytes / best / 1e3);
  const double copy = median_us(stream, 10, 1, [&] {
    check(cudaMemcpyAsync(b, a, kBytes, cudaMemcpyDeviceToDevice, stream), "copy");
  });
  std::printf(
      "{\"kernel\": \"copy ceiling\", \"shape\": \"4 GiB\", \"us_median\": %.1f, \"gb_s\": %.0f}\n",
      copy, 2.0 * kBytes / copy / 1e3);
  check(cudaFree(a), "free");
  check(cudaFree(b), "free");
}

void measure_launches(cudaStream_t stream, bool overlapped) {
  constexpr int kKernels = 1000;
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(132);
  config.blockDim = dim3(128);
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = overlapped ? 1 : 0;
  const double us = graph_median_us(stream, 10, kKernels, [&] {
    for (int i = 0; i < kKernels; ++i) {
      check(overlapped ? cudaLaunchKernelEx(&config, overlapped_kernel)
                       : cudaLaunchKernelEx(&config, empty_kernel),
            "launch");
    }
  });
  std::printf("{\"kernel\": \"launch gap%s\", \"shape\": \"graph of %d\", \"us_median\": %.3f}\n",
              overlapped ? ", overlapped" : "", kKernels, us);
}

}  // namespace

int main(int argc, char**) {
  const cudaDeviceProp properties = device_properties();
  std::printf("{\"kernel\": \"device\", \"shape\": \"%s, %d multiprocessors, %d MB L2\"}\n",
              properties.name, properties.multiProcessorCount, properties.l2CacheSize >> 20);
  if (argc > 1) return 0;
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
  measure_memory(stream, properties.multiProcessorCount);
  measure_launches(stream, false);
  measure_launches(stream, true);
  return 0;
}
