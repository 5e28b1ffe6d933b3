// Matmuls of few rows with the codings of four bits and no more.
#include "kernels/cuda/quantised_few.h"

namespace chorus::kernels::cuda {

void launch_few_q4_0(const FewRowsArgs& args, DType x_type, const DeviceLimits& limits,
                     cudaStream_t stream) {
  launch_few<Coding::q4_0>(args, x_type, limits, stream);
}
void launch_few_q4_1(const FewRowsArgs& args, DType x_type, const DeviceLimits& limits,
                     cudaStream_t stream) {
  launch_few<Coding::q4_1>(args, x_type, limits, stream);
}
void launch_few_i4_by_32(const FewRowsArgs& args, DType x_type, const DeviceLimits& limits,
                         cudaStream_t stream) {
  launch_few<Coding::i4_by_32>(args, x_type, limits, stream);
}
void launch_few_i4_by_128(const FewRowsArgs& args, DType x_type, const DeviceLimits& limits,
                          cudaStream_t stream) {
  launch_few<Coding::i4_by_128>(args, x_type, limits, stream);
}

}  // namespace chorus::kernels::cuda
