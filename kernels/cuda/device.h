// What every kernel source includes: CUDA itself under nvcc, its emulation under any other
// compiler.
#pragma once
#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <cuda_runtime.h>
#else
#include "kernels/emulate/emulate.h"
#endif

#include <cstdint>
#include <map>
#include <string>
#include <type_traits>
#include <utility>

#include "kernels/cuda/runtime.h"

namespace chorus::kernels::cuda {

// All shared memory of a kernel is one struct, so that its size is `sizeof`, its layout is visible,
// and the emulation can poison it and find accesses past its end.
template <typename Layout>
__device__ inline Layout& shared_memory() {
#ifdef __CUDACC__
  extern __shared__ __align__(1024) unsigned char dynamic_shared_memory[];
  return *reinterpret_cast<Layout*>(dynamic_shared_memory);
#else
  return *reinterpret_cast<Layout*>(emulate::dynamic_shared());
#endif
}

#ifdef __CUDACC__
inline std::string text_of(cudaError_t error) {
  return std::string(cudaGetErrorString(error)) + " (" + cudaGetErrorName(error) + ")";
}

// Lets `kernel` have `bytes` of shared memory on the device of the calling thread, which above
// 48 KB it must be told, once. Throws where the device has less.
inline void allow_shared_memory(const void* kernel, size_t bytes) {
  thread_local std::map<std::pair<int, const void*>, size_t> allowed;
  int device = 0;
  cudaGetDevice(&device);
  size_t& most = allowed[{device, kernel}];
  if (bytes <= most) return;
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(bytes));
  if (error != cudaSuccess) {
    throw DeviceError("a kernel asks for " + std::to_string(bytes) +
                      " bytes of shared memory: " + text_of(error));
  }
  most = bytes;
}

inline void check_launch(cudaError_t error, const void* kernel) {
  if (error == cudaSuccess) return;
  const char* name = nullptr;
  cudaFuncGetName(&name, kernel);
  throw DeviceError(std::string("launch of ") + (name ? name : "a kernel") + ": " + text_of(error));
}
#endif

#ifdef __CUDACC__
// `early`: see launch_early.
template <typename... Parameters>
void launch_with(bool early, void (*kernel)(Parameters...), dim3 grid, dim3 block,
                 size_t shared_bytes, cudaStream_t stream, Parameters... arguments) {
  const auto function = reinterpret_cast<const void*>(kernel);
  if (shared_bytes > 48 * 1024) allow_shared_memory(function, shared_bytes);
  cudaLaunchAttribute overlap{};
  overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  overlap.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  config.attrs = &overlap;
  config.numAttrs = early ? 1 : 0;
  check_launch(cudaLaunchKernelEx(&config, kernel, arguments...), function);
}
#endif

// Queues kernel<<<grid, block, shared_bytes, stream>>>(arguments...). Throws DeviceError.
//
// Every kernel calls ptx::wait_for_predecessor() before it reads what earlier kernels wrote and
// before it writes what they may still read, as if it were launched early; few are (launch_early).
template <typename... Parameters>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
            cudaStream_t stream, std::type_identity_t<Parameters>... arguments) {
#ifdef __CUDACC__
  launch_with<Parameters...>(false, kernel, grid, block, shared_bytes, stream, arguments...);
#else
  (void)stream;
  emulate::run_grid({grid, block, shared_bytes, [=] { kernel(arguments...); }});
#endif
}

// The same, and the kernel may start before its predecessor in the stream ends, once that has
// called let_successor_start() in all of its blocks: its weights are on their way before it waits.
// Only for kernels of one block on every multiprocessor: blocks of others gather where there is
// room first, and stay there (8B at batch 1 on an H200: 7.3 ms a token with all kernels launched
// so, 4.7 with none).
template <typename... Parameters>
void launch_early(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
                  cudaStream_t stream, std::type_identity_t<Parameters>... arguments) {
#ifdef __CUDACC__
  launch_with<Parameters...>(true, kernel, grid, block, shared_bytes, stream, arguments...);
#else
  (void)stream;
  emulate::run_grid({grid, block, shared_bytes, [=] { kernel(arguments...); }});
#endif
}

// The same for a kernel whose blocks wait for each other, or for blocks of other devices: refuses a
// grid that the device cannot hold at once. (No cooperative launch is needed: whatever else runs on
// the device ends without this kernel.) Sums over GPUs (one_shot.cu) use it.
template <typename... Parameters>
void launch_together(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
                     cudaStream_t stream, std::type_identity_t<Parameters>... arguments) {
#ifdef __CUDACC__
  const auto function = reinterpret_cast<const void*>(kernel);
  if (shared_bytes > 48 * 1024) allow_shared_memory(function, shared_bytes);  // counts below
  int device = 0, multiprocessors = 0, blocks = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
  check_launch(cudaOccupancyMaxActiveBlocksPerMultiprocessor(
                   &blocks, function, int(block.x * block.y * block.z), shared_bytes),
               function);
  if (int64_t{blocks} * multiprocessors < int64_t{grid.x} * grid.y * grid.z)
    check_launch(cudaErrorCooperativeLaunchTooLarge, function);
  launch_with<Parameters...>(false, kernel, grid, block, shared_bytes, stream, arguments...);
#else
  (void)stream;
  emulate::run_grid({grid, block, shared_bytes, [=] { kernel(arguments...); }, true});
#endif
}

}  // namespace chorus::kernels::cuda
