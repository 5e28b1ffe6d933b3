// Element-wise operations and norms over rows; contracts in kernels/ops.h. `rows` of each view is
// what is launched for; rows beyond *live_rows are not written. Norms take up to 16384 columns.
#pragma once

#include <cuda_runtime_api.h>

#include <span>

#include "kernels/cuda/prefetch.h"
#include "kernels/ops.h"

namespace chorus::kernels::cuda {

// Outputs are f32, f16 or bf16.
void embed(View out, const Weight& table, View tokens, View slots, View last_tokens, float scale,
           cudaStream_t stream);
// `ahead`: what the product behind it reads first.
void rms_norm(View out, View x, const float* weight, float eps, cudaStream_t stream,
              const Prefetch& ahead = {});
void add_rms_norm(View out, View residual, View x, const float* weight, float eps,
                  cudaStream_t stream, const Prefetch& ahead = {});
void gated_activation(View out, View gate_up, Gate gate, cudaStream_t stream);
// out is of x's type. What an index outside x names becomes NaN, as with embed.
void gather_rows(View out, View x, View index, cudaStream_t stream);
// x = cap * tanh(x / cap), in place; f32.
void soft_cap(View x, float cap, cudaStream_t stream);
// Puts rows together that an all-gather brought in slices: out[r][slices[k].begin + i] =
// gathered[k * rank_stride + r * slices[k].size() + i]; f32. Slices stand in the order of ranks, of
// which there are up to 64.
void join_columns(View out, const float* gathered, int64_t rank_stride,
                  std::span<const Range> slices, cudaStream_t stream);

}  // namespace chorus::kernels::cuda
