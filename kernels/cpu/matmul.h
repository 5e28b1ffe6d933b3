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

// Asks for the scratch it needs.
Phases matmul_phases(const MatmulCall& call, const Backend& backend);

}  // namespace chorus::kernels
