// What the programs that check and measure kernels on a GPU share. Errors end the program: with 69
// where there is no GPU to use, else with 70.
#pragma once

#include <cuda_runtime.h>
#include <errno.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace chorus::bench {

inline void check(cudaError_t error, const char* what = "CUDA") {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what,
               cudaGetErrorString(error));
  std::exit(error == cudaErrorNoDevice || error == cudaErrorInsufficientDriver ? 69 : 70);
}

inline cudaDeviceProp device_properties() {
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, 0), "no CUDA device");
  return properties;
}

// Zeros. The memory stays until the program ends, or cudaFree is called.
template <typename T>
T* device_array(int64_t count) {
  void* memory = nullptr;
  check(cudaMalloc(&memory, static_cast<size_t>(count) * sizeof(T)), "memory");
  check(cudaMemset(memory, 0, static_cast<size_t>(count) * sizeof(T)), "memory");
  check(cudaDeviceSynchronize(), "memory");  // streams of their own do not wait for it
  return static_cast<T*>(memory);
}

template <typename T>
__global__ void fill_kernel(T* to, int64_t count, uint64_t seed, float scale) {
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count;
       i += int64_t{gridDim.x} * blockDim.x) {
    uint64_t x = (seed << 32) + static_cast<uint64_t>(i) * 0x9e3779b97f4a7c15U;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9U;
    x = (x ^ x >> 27) * 0x94d049bb133111ebU;
    to[i] = T(scale * float(int32_t((x ^ x >> 31) >> 32)) * 0x1p-31F);
  }
}
// Random numbers from [-scale, scale), a function of seed and index.
template <typename T>
void fill(T* to, int64_t count, uint64_t seed, float scale = 1) {
  fill_kernel<<<2048, 256>>>(to, count, seed, scale);
  check(cudaDeviceSynchronize(), "filling");
}

// Microseconds of one of the `launches` that a call of `work` makes on `stream`: the median of
// `runs` calls, after two that warm up.
template <typename Work>
double median_us(cudaStream_t stream, int runs, int launches, Work&& work) {
  cudaEvent_t begin = nullptr, end = nullptr;
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
    if (i >= 2) taken.push_back(ms * 1e3 / launches);
  }
  check(cudaEventDestroy(begin), "event");
  check(cudaEventDestroy(end), "event");
  std::sort(taken.begin(), taken.end());
  return taken[taken.size() / 2];
}

// The same of a graph of launches, which follow each other as a step's do: `launch` is called once
// to warm up, since what a kernel asks of the runtime at its first launch cannot be captured, and
// once to be captured.
template <typename Launch>
double graph_median_us(cudaStream_t stream, int runs, int launches, Launch&& launch) {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t replay = nullptr;
  launch();
  check(cudaStreamSynchronize(stream), "the first launch");
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture");
  launch();
  check(cudaStreamEndCapture(stream, &graph), "capture");
  check(cudaGraphInstantiate(&replay, graph, 0), "graph");
  const double us =
      median_us(stream, runs, launches, [&] { check(cudaGraphLaunch(replay, stream), "graph"); });
  check(cudaGraphExecDestroy(replay), "graph");
  check(cudaGraphDestroy(graph), "graph");
  return us;
}

}  // namespace chorus::bench
