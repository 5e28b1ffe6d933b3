// A mixture of experts over packed weights.
#pragma once

#include "kernels/cpu/backend.h"
#include "kernels/ops.h"

namespace chorus::kernels {

// Asks for the scratch it needs.
Phases experts_phases(const ExpertsArgs& args, const Backend& backend);

}  // namespace chorus::kernels
