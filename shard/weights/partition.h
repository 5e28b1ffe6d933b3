// Who holds what in a tensor-parallel group: heads, KV heads, FFN columns and vocabulary are cut
// into ranges that need not be equal.
#pragma once

#include <cstdint>

#include "kernels/weight.h"

namespace chorus::weights {

struct ModelShape {  // what is cut, of the whole model
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t ffn = 0;         // columns of the dense feed-forward layers
  int64_t expert_ffn = 0;  // of an expert's, and of the expert that all tokens share
  int64_t vocab = 0;
};

struct Partition {  // one rank's part
  kernels::Range heads;
  kernels::Range kv_heads;  // those that `heads` read; replicated where ranks outnumber them
  kernels::Range ffn;
  kernels::Range expert_ffn;
  kernels::Range vocab;
};

// Throws std::invalid_argument naming the counts where a rank would be left without a head.
Partition partition(const ModelShape& shape, int rank, int ranks);

}  // namespace chorus::weights
