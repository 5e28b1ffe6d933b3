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

// Layers that share a block table and a rotation.
struct KvGroupSpec {
  int64_t window = 0;  // 0: every earlier position is seen
  kernels::RopeDescription rope;
};

struct DecoderSpec {
  int64_t hidden = 0;
  int layers = 0;
  weights::ModelShape shape;
  int64_t context_max = 0;
  float norm_eps = 0;
  kernels::Gate gate = kernels::Gate::silu;
  float embedding_scale = 1;
  float query_scale = 1;
  std::vector<KvGroupSpec> kv_groups;
  std::vector<int> group_of_layer;  // [layers]: index into kv_groups
  std::vector<weights::TensorEntry> tensors;

  const weights::TensorEntry* find(weights::Role role) const;
};

// The description of a model's family. Throws modelfile::FileError(unsupported) naming the
// architecture and the ones that exist, or the configuration value that Chorus cannot honour.
DecoderSpec describe(const modelfile::Model& model);

}  // namespace chorus::models
