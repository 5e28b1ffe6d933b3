// The operations that go row by row: embedding, norms, gates, gathering.
#pragma once

#include <memory>

#include "kernels/cpu/backend.h"
#include "kernels/cpu/packed_weight.h"
#include "kernels/ops.h"

namespace chorus::kernels {

struct EmbedCall {
  View out;
  std::shared_ptr<const TableWeight> table;
  View tokens, slots, last_tokens;
  float scale = 1;
};
void run_embed(const EmbedCall& call, const Backend& backend);

struct NormCall {
  View out, residual, x;  // `residual` without data: the norm of x alone
  std::shared_ptr<const VectorWeight> weight;
  float eps = 0;
};
void run_norm(const NormCall& call, const Backend& backend);

void run_gate(const View& out, const View& gate_up, Gate gate, const Backend& backend);
void run_gather(const View& out, const View& x, const View& index, const Backend& backend);

}  // namespace chorus::kernels
