// The few things that the backend asks of CUDA's runtime, behind functions that the emulation has
// too. One thread uses a device; errors throw DeviceError, full memory std::bad_alloc.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>

namespace chorus::kernels::cuda {

class DeviceError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct DeviceFacts {
  std::string name;    // "NVIDIA H200"
  int capability = 0;  // 90 for compute capability 9.0
  int multiprocessors = 0;
  int64_t memory_bytes = 0;
  int64_t l2_bytes = 0;
};

// How many CUDA devices there are; 0 with the reason in `why_none` where there is no driver either.
int device_count(std::string& why_none);
// Makes device `index` this thread's. Refuses one that the kernels were not built for.
DeviceFacts select_device(int index);
int64_t free_bytes();

// Device memory, aligned to 256 bytes, filled with zeros. The pointer owns it.
struct Release {
  void operator()(void* memory) const;
};
using Memory = std::unique_ptr<void, Release>;
Memory allocate(int64_t bytes);

// Host memory that the device copies from and to at full speed.
struct ReleaseHost {
  void operator()(void* memory) const;
};
using HostMemory = std::unique_ptr<void, ReleaseHost>;
HostMemory allocate_host(int64_t bytes);

// In the order of `stream`; the host's memory must stay as it is until the copy is done (it is at
// once where it is not from allocate_host).
void copy_to_device(void* to, const void* from, int64_t bytes, cudaStream_t stream);
void copy_to_host(void* to, const void* from, int64_t bytes, cudaStream_t stream);
void copy_on_device(void* to, const void* from, int64_t bytes, cudaStream_t stream);
// `rows` pieces of `bytes` each, `pitch` bytes apart on both sides.
void copy_rows_on_device(void* to, const void* from, int64_t pitch, int64_t bytes, int64_t rows,
                         cudaStream_t stream);
void wait_for(cudaStream_t stream);
// Before memory is given back: an error has been told to who waited for the step, or nobody did.
void wait_quietly(cudaStream_t stream) noexcept;

class Stream {
 public:
  Stream();
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

// A point in a stream's work that the host can wait for.
class Event {
 public:
  Event();
  ~Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  void record(cudaStream_t stream);
  void wait();

 private:
  cudaEvent_t event_ = nullptr;
};

// Launches captured once, replayed as one. The emulation keeps the closure and calls it.
class Graph {
 public:
  Graph(cudaStream_t stream, std::function<void()> launches);
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  void replay(cudaStream_t stream) const;

 private:
  std::function<void()> launches_;  // emulation
  cudaGraphExec_t graph_ = nullptr;
};

}  // namespace chorus::kernels::cuda
