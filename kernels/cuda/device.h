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
#include <stdexcept>
#include <type_traits>

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

// Queues kernel<<<grid, block, shared_bytes, stream>>>(arguments...). With `overlap` the kernel may
// start before its predecessor ends and must call wait_for_predecessor() before reading its
// results.
template <typename... Parameters>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
            cudaStream_t stream, std::type_identity_t<Parameters>... arguments) {
#ifdef __CUDACC__
  // Above 48 KB a kernel must opt in; real code does this once per kernel, not per launch.
  if (shared_bytes > 48 * 1024) {
    cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared_bytes));
  }
  cudaLaunchAttribute overlap{};
  overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  overlap.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  config.attrs = &overlap;
  config.numAttrs = 1;
  cudaError_t error = cudaLaunchKernelEx(&config, kernel, arguments...);
  if (error != cudaSuccess) throw std::runtime_error(cudaGetErrorString(error));
#else
  (void)stream;
  emulate::run_grid(grid, block, shared_bytes, [&] { kernel(arguments...); });
#endif
}

}  // namespace chorus::kernels::cuda
