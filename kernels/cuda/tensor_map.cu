// The real make_tensor_map: asks the driver to encode a TMA descriptor. Not part of emulated
// builds. The driver's function is looked up at run time, so that nothing links against libcuda.
#include <cuda_runtime.h>

#include <stdexcept>

#include "kernels/cuda/hopper.h"

namespace chorus::kernels::cuda::hopper {

CUtensorMap make_tensor_map(const __nv_bfloat16* matrix, int rows, int columns, int box_rows) {
  void* encode = nullptr;
  cudaDriverEntryPointQueryResult found;
  cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &encode, 12000,
                                                       cudaEnableDefault, &found);
  if (error != cudaSuccess || !encode)
    throw std::runtime_error("this driver has no cuTensorMapEncodeTiled");
  const cuuint64_t sizes[] = {cuuint64_t(columns), cuuint64_t(rows)},
                   row_bytes[] = {cuuint64_t(columns) * 2};
  const cuuint32_t box[] = {64, cuuint32_t(box_rows)}, steps[] = {1, 1};
  CUtensorMap map;
  CUresult result = reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(encode)(
      &map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, const_cast<__nv_bfloat16*>(matrix), sizes,
      row_bytes, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
      CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS)
    throw std::invalid_argument("make_tensor_map: the driver refused the shape or alignment");
  return map;
}

}  // namespace chorus::kernels::cuda::hopper
