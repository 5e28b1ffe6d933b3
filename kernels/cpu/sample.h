// Choosing tokens on the workers.
#pragma once

#include "kernels/cpu/backend.h"
#include "kernels/ops.h"

namespace chorus::kernels {

Phase sample_phase(const SampleArgs& args, const Backend& backend);

}  // namespace chorus::kernels
