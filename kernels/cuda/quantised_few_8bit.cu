// Matmuls of few rows with the codings with a byte a code.
#include "kernels/cuda/quantised_few.h"

namespace chorus::kernels::cuda {

void launch_few_q8_0(const FewRowsArgs& args, DType x_type, const DeviceLimits& limits,
                     cudaStream_t stream) {
  launch_few<Coding::q8_0>(args, x_type, limits, stream);
}
void launch_few_e4m3(const FewRowsArgs& args, DType x_type, const DeviceLimits& limits,
                     cudaStream_t stream) {
  launch_few<Coding::e4m3>(args, x_type, limits, stream);
}
void launch_few_i8(const FewRowsArgs& args, DType x_type, const DeviceLimits& limits,
                   cudaStream_t stream) {
  launch_few<Coding::i8>(args, x_type, limits, stream);
}

}  // namespace chorus::kernels::cuda
