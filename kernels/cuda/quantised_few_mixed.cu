// Matmuls of few rows with the codings of GGUF that take two planes of codes or two levels of
// scales.
#include "kernels/cuda/quantised_few.h"

namespace chorus::kernels::cuda {

void launch_few_q5_0(const FewRowsArgs& args, DType x_type, const DeviceLimits& limits,
                     cudaStream_t stream) {
  launch_few<Coding::q5_0>(args, x_type, limits, stream);
}
void launch_few_q5_1(const FewRowsArgs& args, DType x_type, const DeviceLimits& limits,
                     cudaStream_t stream) {
  launch_few<Coding::q5_1>(args, x_type, limits, stream);
}
void launch_few_q4_k(const FewRowsArgs& args, DType x_type, const DeviceLimits& limits,
                     cudaStream_t stream) {
  launch_few<Coding::q4_k>(args, x_type, limits, stream);
}
void launch_few_q5_k(const FewRowsArgs& args, DType x_type, const DeviceLimits& limits,
                     cudaStream_t stream) {
  launch_few<Coding::q5_k>(args, x_type, limits, stream);
}
void launch_few_q6_k(const FewRowsArgs& args, DType x_type, const DeviceLimits& limits,
                     cudaStream_t stream) {
  launch_few<Coding::q6_k>(args, x_type, limits, stream);
}

}  // namespace chorus::kernels::cuda
