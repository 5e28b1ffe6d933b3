// The operations that go row by row: embedding, norms, gates, caps, choice of experts, gathering.
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
Phase embed_phase(const EmbedCall& call, const Backend& backend);

struct NormCall {
  View out, residual, x;  // `residual` without data: the norm of x alone
  std::shared_ptr<const VectorWeight> weight;
  float eps = 0;
};
Phase norm_phase(const NormCall& call, const Backend& backend);

Phase gate_phase(const View& out, const View& gate_up, Gate gate, const Backend& backend);
Phase soft_cap_phase(const View& x, float cap, const Backend& backend);
Phase route_phase(const RouteArgs& args, const Backend& backend);
Phase gather_phase(const View& out, const View& x, const View& index, const Backend& backend);

}  // namespace chorus::kernels
