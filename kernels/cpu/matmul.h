// The matrix product over packed weights: out[r] = W x[r] + bias.
#pragma once

#include "kernels/cpu/backend.h"
#include "kernels/cpu/packed_weight.h"
#include "kernels/view.h"

namespace chorus::kernels {

struct MatmulCall {
  View out, x;
  std::shared_ptr<const MatrixWeight> weight;
  std::shared_ptr<const VectorWeight> bias;  // or null
};

void plan_matmul(const MatmulCall& call, Scratch& scratch);  // asks for the scratch it needs
void run_matmul(const MatmulCall& call, const Backend& backend, int worker);

}  // namespace chorus::kernels
