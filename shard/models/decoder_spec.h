// A decoder-only transformer described as data: numbers, and small enums named after the
// mathematics. A family (families/*.cc) turns a model's configuration into one of these; the
// forward pass (decoder.cc) knows nothing else about it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/ops.h"
#include "modelfile/model.h"
#include "shard/weights/partition.h"
#include "shard/weights/tensor_table.h"

namespace chorus::models {

// Layers that share a block table and the way they attend.
struct KvGroupSpec {
  int64_t window = 0;             // 0: every earlier position is seen
  bool chunked = false;           // the window does not slide: it begins at multiples of its size
  kernels::RopeDescription rope;  // without frequencies: nothing is rotated
  // Where not 0, contexts longer than this rotate by `long_rope`. A served context is short or long
  // as a whole, whatever the length of its sequences: keys in the cache must go with later ones.
  int64_t short_context = 0;
  kernels::RopeDescription long_rope = {};
  bool unit_qk_norm = false;  // q and k of each head are divided by their root mean square
  float q_growth = 0;         // as in kernels::QkvArgs
  float q_growth_positions = 1;
};

// Feed-forward layers of experts, of which the router chooses some for each token.
struct MixtureSpec {
  int64_t experts = 0;
  int64_t chosen = 0;
  kernels::RouterScore score = kernels::RouterScore::softmax;
  bool normalised = true;    // the weights of the chosen ones have the sum 1
  bool weigh_input = false;  // the weight meets an expert's input, not what it puts out
  std::vector<bool> layers;  // [layers]: those of experts; empty: none
};

struct DecoderSpec {
  int64_t hidden = 0;
  int layers = 0;
  weights::ModelShape shape;
  int64_t context_max = 0;  // of the model; who serves less may lower it
  float norm_eps = 0;
  kernels::Gate gate = kernels::Gate::silu;
  float embedding_scale = 1;
  float query_scale = 1;
  float attention_cap = 0;  // 0, or a score s becomes cap * tanh(s / cap)
  float logit_cap = 0;      // the same of logits
  std::vector<KvGroupSpec> kv_groups;
  std::vector<int> group_of_layer;  // [layers]: index into kv_groups
  MixtureSpec mixture;
  std::vector<weights::TensorEntry> tensors;

  const weights::TensorEntry* find(weights::Role role) const;
};

// The description of a model's family. Throws modelfile::FileError(unsupported) naming the
// architecture and the ones that exist, or the configuration value that Chorus cannot honour.
DecoderSpec describe(const modelfile::Model& model);

}  // namespace chorus::models
