#include "kernels/cuda/runtime.h"

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <new>

#include "kernels/cuda/device.h"

namespace chorus::kernels::cuda {

#ifdef __CUDACC__

namespace {

void check(cudaError_t error, const char* what) {
  if (error != cudaSuccess) throw DeviceError(std::string(what) + ": " + text_of(error));
}

void refuse_if_full(cudaError_t error) {
  if (error != cudaErrorMemoryAllocation) return;
  cudaGetLastError();  // not sticky: the device goes on
  throw std::bad_alloc();
}

__global__ void is_built_kernel() {}  // has an image for a device, or has not

}  // namespace

int device_count(std::string& why_none) {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaSuccess && count > 0) return count;
  int driver = 0;  // 12040 for CUDA 12.4
  if (error == cudaSuccess) {
    why_none = "the driver shows no device";
  } else if (cudaDriverGetVersion(&driver) == cudaSuccess && driver == 0) {
    why_none = "there is no NVIDIA driver";
  } else if (error == cudaErrorInsufficientDriver) {
    why_none = "the NVIDIA driver serves CUDA " + std::to_string(driver / 1000) + "." +
               std::to_string(driver % 1000 / 10) + ", this build needs a driver of CUDA " +
               std::to_string(CUDART_VERSION / 1000);
  } else {
    why_none = text_of(error);
  }
  return 0;
}

DeviceFacts select_device(int index) {
  check(cudaSetDevice(index), "cudaSetDevice");
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, index), "cudaGetDeviceProperties");
  DeviceFacts facts{.name = properties.name,
                    .capability = properties.major * 10 + properties.minor,
                    .multiprocessors = properties.multiProcessorCount,
                    .memory_bytes = static_cast<int64_t>(properties.totalGlobalMem),
                    .l2_bytes = properties.l2CacheSize};
  cudaFuncAttributes attributes{};
  if (facts.capability < 80 || cudaFuncGetAttributes(&attributes, is_built_kernel) != cudaSuccess) {
    throw DeviceError(facts.name + ": this build has no kernels for compute capability " +
                      std::to_string(properties.major) + "." + std::to_string(properties.minor) +
                      " (8.0 and later are served)");
  }
  return facts;
}

int64_t free_bytes() {
  size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  return static_cast<int64_t>(free);
}

void Release::operator()(void* memory) const {
  cudaFree(memory);
}
Memory allocate(int64_t bytes) {
  void* memory = nullptr;
  const cudaError_t error = cudaMalloc(&memory, static_cast<size_t>(bytes > 0 ? bytes : 1));
  refuse_if_full(error);
  check(error, "cudaMalloc");
  Memory owner(memory);
  check(cudaMemset(memory, 0, static_cast<size_t>(bytes > 0 ? bytes : 1)), "cudaMemset");
  // The legacy stream's work is not ordered with ours.
  check(cudaStreamSynchronize(nullptr), "cudaMemset");
  return owner;
}

void ReleaseHost::operator()(void* memory) const {
  cudaFreeHost(memory);
}
HostMemory allocate_host(int64_t bytes) {
  void* memory = nullptr;
  const cudaError_t error =
      cudaHostAlloc(&memory, static_cast<size_t>(bytes), cudaHostAllocDefault);
  refuse_if_full(error);
  check(error, "cudaHostAlloc");
  return HostMemory(memory);
}

void copy_to_device(void* to, const void* from, int64_t bytes, cudaStream_t stream) {
  check(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyHostToDevice, stream),
        "copy to the device");
}
void copy_to_host(void* to, const void* from, int64_t bytes, cudaStream_t stream) {
  check(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDeviceToHost, stream),
        "copy from the device");
}
void copy_on_device(void* to, const void* from, int64_t bytes, cudaStream_t stream) {
  check(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDeviceToDevice, stream),
        "copy on the device");
}
void copy_rows_on_device(void* to, const void* from, int64_t pitch, int64_t bytes, int64_t rows,
                         cudaStream_t stream) {
  if (pitch > INT32_MAX) {  // more than CUDA takes
    for (int64_t row = 0; row < rows; ++row) {
      copy_on_device(static_cast<std::byte*>(to) + row * pitch,
                     static_cast<const std::byte*>(from) + row * pitch, bytes, stream);
    }
    return;
  }
  const auto step = static_cast<size_t>(pitch);
  check(cudaMemcpy2DAsync(to, step, from, step, static_cast<size_t>(bytes),
                          static_cast<size_t>(rows), cudaMemcpyDeviceToDevice, stream),
        "copy on the device");
}
void wait_for(cudaStream_t stream) {
  check(cudaStreamSynchronize(stream), "a step");
}
void wait_quietly(cudaStream_t stream) noexcept {
  cudaStreamSynchronize(stream);
}

Stream::Stream() {
  check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate");
}
Stream::~Stream() {
  cudaStreamDestroy(stream_);
}

Event::Event() {
  check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "cudaEventCreate");
}
Event::~Event() {
  cudaEventDestroy(event_);
}
void Event::record(cudaStream_t stream) {
  check(cudaEventRecord(event_, stream), "an event");
}
void Event::wait() {
  check(cudaEventSynchronize(event_), "an event");
}

Graph::Graph(cudaStream_t stream, std::function<void()> launches) {
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "begin of a capture");
  cudaGraph_t graph = nullptr;
  try {
    launches();
  } catch (...) {
    cudaStreamEndCapture(stream, &graph);
    if (graph != nullptr) cudaGraphDestroy(graph);
    throw;
  }
  check(cudaStreamEndCapture(stream, &graph), "end of a capture");
  const cudaError_t error = cudaGraphInstantiate(&graph_, graph, 0);
  cudaGraphDestroy(graph);
  check(error, "cudaGraphInstantiate");
}
Graph::~Graph() {
  if (graph_ != nullptr) cudaGraphExecDestroy(graph_);
}
void Graph::replay(cudaStream_t stream) const {
  check(cudaGraphLaunch(graph_, stream), "cudaGraphLaunch");
}

#else

int device_count(std::string&) {
  return 1;
}
DeviceFacts select_device(int) {
  return {.name = "emulated GPU",
          .capability = 90,
          .multiprocessors = 4,
          .memory_bytes = int64_t{4} << 30,
          .l2_bytes = 1 << 20};
}
int64_t free_bytes() {
  return int64_t{3} << 30;
}

void Release::operator()(void* memory) const {
  std::free(memory);
}
Memory allocate(int64_t bytes) {
  // Exactly the size asked for, so that AddressSanitizer sees one byte too far.
  void* memory = nullptr;
  const auto size = static_cast<size_t>(bytes > 0 ? bytes : 1);
  if (posix_memalign(&memory, 256, size) != 0) throw std::bad_alloc();
  std::memset(memory, 0, size);
  return Memory(memory);
}
void ReleaseHost::operator()(void* memory) const {
  std::free(memory);
}
HostMemory allocate_host(int64_t bytes) {
  void* memory = std::malloc(static_cast<size_t>(bytes));
  if (memory == nullptr) throw std::bad_alloc();
  return HostMemory(memory);
}

void copy_to_device(void* to, const void* from, int64_t bytes, cudaStream_t) {
  emulate::catch_up();
  std::memcpy(to, from, static_cast<size_t>(bytes));
}
void copy_to_host(void* to, const void* from, int64_t bytes, cudaStream_t) {
  emulate::catch_up();
  std::memcpy(to, from, static_cast<size_t>(bytes));
}
void copy_on_device(void* to, const void* from, int64_t bytes, cudaStream_t) {
  emulate::catch_up();
  std::memcpy(to, from, static_cast<size_t>(bytes));
}
void copy_rows_on_device(void* to, const void* from, int64_t pitch, int64_t bytes, int64_t rows,
                         cudaStream_t) {
  for (int64_t row = 0; row < rows; ++row) {
    std::memmove(static_cast<char*>(to) + row * pitch, static_cast<const char*>(from) + row * pitch,
                 static_cast<size_t>(bytes));
  }
}
void wait_for(cudaStream_t) {
  emulate::catch_up();
}
void wait_quietly(cudaStream_t) noexcept {
  emulate::catch_up();
}

Stream::Stream() = default;
Stream::~Stream() = default;
Event::Event() = default;
Event::~Event() = default;
void Event::record(cudaStream_t) {}
void Event::wait() {}

Graph::Graph(cudaStream_t, std::function<void()> launches) : launches_(std::move(launches)) {}
Graph::~Graph() = default;
void Graph::replay(cudaStream_t) const {
  const emulate::Overlap overlap;
  launches_();
}

#endif

}  // namespace chorus::kernels::cuda
