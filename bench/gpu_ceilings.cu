// What this GPU can do at best, for other figures to be held against: reading memory, copying it,
// and starting kernels one after another. Prints one JSON line a figure.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <vector>

namespace {

void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "gpu_ceilings: %s: %s\n", what, cudaGetErrorString(error));
  std::exit(69);
}

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

__global__ void fill_kernel(uint4* to, int64_t count) {
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count;
       i += int64_t{gridDim.x} * blockDim.x) {
    const auto x = static_cast<uint32_t>(i * 2654435761U + 12345U);
    to[i] = {x, x ^ 0x9e3779b9U, x * 747796405U, ~x};
  }
}

__global__ void empty_kernel() {}
__global__ void overlapped_kernel() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

double median_us(cudaStream_t stream, int runs, const std::function<void()>& work) {
  cudaEvent_t begin, end;
  check(cudaEventCreate(&begin), "event");
  check(cudaEventCreate(&end), "event");
  std::vector<double> taken;
  for (int i = 0; i < runs + 2; ++i) {
    check(cudaEventRecord(begin, stream), "event");
    work();
    check(cudaEventRecord(end, stream), "event");
    check(cudaEventSynchronize(end), "work");
    float ms = 0;
    check(cudaEventElapsedTime(&ms, begin, end), "event");
    if (i >= 2) taken.push_back(ms * 1e3);
  }
  std::sort(taken.begin(), taken.end());
  return taken[taken.size() / 2];
}

void measure_memory(cudaStream_t stream, int multiprocessors) {
  constexpr int64_t kBytes = int64_t{4} << 30;
  void *a = nullptr, *b = nullptr;
  uint32_t* sink = nullptr;
  check(cudaMalloc(&a, kBytes), "memory");
  check(cudaMalloc(&b, kBytes), "memory");
  check(cudaMalloc(&sink, 4), "memory");
  fill_kernel<<<multiprocessors * 8, 256, 0, stream>>>(static_cast<uint4*>(a), kBytes / 16);
  double best = 1e30;
  for (const int blocks : {2, 4}) {
    best = std::min(best, median_us(stream, 10, [&] {
                      read_kernel<<<multiprocessors * blocks, 512, 0, stream>>>(
                          static_cast<const uint4*>(a), kBytes / 16, sink);
                    }));
  }
  std::printf(
      "{\"kernel\": \"read ceiling\", \"shape\": \"4 GiB\", \"us_median\": %.1f, \"gb_s\": %.0f}\n",
      best, kBytes / best / 1e3);
  const double copy = median_us(stream, 10, [&] {
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
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture");
  for (int i = 0; i < kKernels; ++i) {
    check(overlapped ? cudaLaunchKernelEx(&config, overlapped_kernel)
                     : cudaLaunchKernelEx(&config, empty_kernel),
          "launch");
  }
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t replay = nullptr;
  check(cudaStreamEndCapture(stream, &graph), "capture");
  check(cudaGraphInstantiate(&replay, graph, 0), "graph");
  const double us = median_us(stream, 10, [&] { check(cudaGraphLaunch(replay, stream), "graph"); });
  std::printf("{\"kernel\": \"launch gap%s\", \"shape\": \"graph of %d\", \"us_median\": %.3f}\n",
              overlapped ? ", overlapped" : "", kKernels, us / kKernels);
  check(cudaGraphExecDestroy(replay), "graph");
  check(cudaGraphDestroy(graph), "graph");
}

}  // namespace

int main(int argc, char**) {
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, 0), "no CUDA device");
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
