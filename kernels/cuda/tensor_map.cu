// The real make_tensor_map: asks the driver to encode a TMA descriptor. Not part of emulated
// builds. The driver's function is looked up at run time, so that nothing links against libcuda.
#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

#include "kernels/cuda/hopper.h"

namespace chorus::kernels::cuda::hopper {

CUtensorMap make_tensor_map(const Matrix& matrix, int box_rows) {
  void* encode = nullptr;
  cudaDriverEntryPointQueryResult found;
  cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &encode, 12000,
                                                       cudaEnableDefault, &found);
  if (error != cudaSuccess || !encode)
    throw DeviceError("this driver has no cuTensorMapEncodeTiled");
  const cuuint64_t sizes[] = {cuuint64_t(matrix.columns), cuuint64_t(matrix.rows)};
  const cuuint64_t row_bytes[] = {cuuint64_t(matrix.stride) * 2};
  const cuuint32_t box[] = {64, cuuint32_t(box_rows)};
  const cuuint32_t steps[] = {1, 1};
  CUtensorMap map;
  const CUresult result = reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(encode)(
      &map,
      matrix.element == Element::bf16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
                                      : CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
      2, const_cast<void*>(matrix.data), sizes, row_bytes, box, steps,
      CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
      CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) {
    throw std::invalid_argument(
        "make_tensor_map: the driver refused " + std::to_string(matrix.rows) + " x " +
        std::to_string(matrix.columns) + ", stride " + std::to_string(matrix.stride) +
        ", boxes of " + std::to_string(box_rows) + " rows (error " + std::to_string(result) + ")");
  }
  return map;
}

}  // namespace chorus::kernels::cuda::hopper
