// Chooses one token per wanted row; contract: SampleArgs in kernels/ops.h and kernels/sampling.h.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/ops.h"

namespace chorus::kernels::cuda {

// Zeroed before its first use. Sized by the rows of args.results, whatever the launch's rows.
int64_t sample_workspace_bytes(const SampleArgs& args);

// One rank: the whole vocabulary is here. args.logits.rows is what is launched for. The token and
// the logprobs are those of the host's sampler for the same logits.
//
// A row whose logits hold no number that could be drawn (all NaN or -inf, or inf) gets the token
// -1, a logprob of NaN, and stores nothing: whoever reads the results has to end the shard then.
void sample(const SampleArgs& args, void* workspace, cudaStream_t stream);

}  // namespace chorus::kernels::cuda
