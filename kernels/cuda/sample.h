// Chooses one token per wanted row; contract: SampleArgs in kernels/ops.h and kernels/sampling.h.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/ops.h"

namespace chorus::kernels::cuda {

int64_t sample_workspace_bytes(const SampleArgs& args);
// One rank: the whole vocabulary is here.
void sample(const SampleArgs& args, void* workspace, cudaStream_t stream);

}  // namespace chorus::kernels::cuda
