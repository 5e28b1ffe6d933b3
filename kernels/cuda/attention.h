// Causal attention over paged keys and values; contract: AttentionArgs in kernels/ops.h.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/ops.h"

namespace chorus::kernels::cuda {

// Memory that the spans' partial results and the work list stand in, for these capacities.
int64_t attention_workspace_bytes(const AttentionArgs& args, int64_t tokens_max, int64_t spans_max,
                                  int64_t context_max);

// args.out.rows is the bucket of token rows, args.spans.rows that of spans; `workspace` as sized
// above, shared by all layers of a step.
void attention(const AttentionArgs& args, void* workspace, bool deterministic, cudaStream_t stream);

}  // namespace chorus::kernels::cuda
