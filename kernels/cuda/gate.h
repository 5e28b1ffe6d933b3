// What gates are of their inputs. Both are x / (1 + e^-z): silu with z = x; gelu_tanh, since
// 0.5 (1 + tanh u) is 1 / (1 + e^-2u), with z = 2u, u = sqrt(2 / pi) (x + 0.044715 x^3).
// Included by .cu files only.
#pragma once

#include "kernels/cuda/device.h"
#include "kernels/ops.h"

namespace chorus::kernels::cuda {

__device__ inline float gate_exponent(Gate gate, float x) {
  return gate == Gate::silu ? x : 1.59576912F * (x + 0.044715F * x * x * x);
}

__device__ inline float activate(Gate gate, float x) {
  return x / (1.0F + expf(-gate_exponent(gate, x)));
}

// Good to a few units in the last place of f32, more where x is far below zero and the result
// small.
__device__ inline float activate_fast(Gate gate, float x) {
  return __fdividef(x, 1.0F + __expf(-gate_exponent(gate, x)));
}

}  // namespace chorus::kernels::cuda
