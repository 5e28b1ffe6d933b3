// The choice of experts for one token, on the host: what both CPU backends do for route_experts.
#pragma once

#include "kernels/ops.h"

namespace chorus::kernels {

// Row `row` of args.experts and args.weights from the same row of args.logits.
void route_row(const RouteArgs& args, int64_t row);

}  // namespace chorus::kernels
