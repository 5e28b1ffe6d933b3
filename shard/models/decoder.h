// The forward pass: one for all decoder-only families, over the operations of kernels/ops.h.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "kernels/ops.h"
#include "modelfile/model.h"
#include "shard/models/decoder_spec.h"
#include "shard/weights/loader.h"
#include "shard/weights/partition.h"

namespace chorus::models {

// The fixed buffers that a step's inputs are written to and its results read from. Capacities:
// `tokens` rows, `rows` sequences with a part in the step (each wants at most one sample), `wanted`
// logit rows, `slots` seats, `blocks_max` entries of a block table, `adjustments` of a seat's list.
struct StepLimits {
  int tokens = 0;
  int rows = 0;
  int wanted = 0;
  int slots = 0;
  int64_t blocks_max = 0;
  int64_t adjustments = 0;
};

// What passes from one operation to the next. Operand: Ops::operand_type().
struct Activations {
  kernels::View residual;                      // f32 [tokens, hidden]
  kernels::View normed;                        // operand [tokens, hidden]
  kernels::View qkv;                           // f32 [tokens, (heads + 2 kv_heads) * head_dim]
  kernels::View attended;                      // operand [tokens, heads * head_dim]
  kernels::View projected;                     // f32 [tokens, hidden]
  kernels::View gate_up;                       // f32 [tokens, 2 * ffn]
  kernels::View gated;                         // operand [tokens, ffn]
  kernels::View shared_gate_up, shared_gated;  // the same of the experts' width
  kernels::View router;                        // f32 [tokens, experts]
  kernels::View experts;                       // i32 [tokens, chosen]
  kernels::View expert_weights;                // f32 [tokens, chosen]
  kernels::View last;                          // operand [wanted, hidden]
};

struct StepBuffers {
  kernels::View counts;                     // i32 [1, 3]: live tokens, spans, wanted rows
  kernels::View tokens;                     // i32 [tokens, 1]; -1: the slot's last token
  kernels::View slots;                      // i32 [tokens, 1]
  kernels::View spans;                      // i32 [rows, 4]: kernels::Span
  kernels::View wanted;                     // i32 [wanted, 1]: token rows whose logits are wanted
  kernels::View params;                     // u8 [wanted, sizeof(SamplingParams)]
  kernels::View results;                    // u8 [wanted, sizeof(Sampled)]
  kernels::View last_tokens;                // i32 [slots, 1]
  kernels::View adjustments;                // u8 [slots, adjustments * sizeof(Adjustment)]
  kernels::View adjustment_counts;          // i32 [slots, 1]
  std::vector<kernels::View> block_tables;  // per KV group: i32 [slots, blocks_max]
  kernels::View logits;                     // f32 [wanted, vocabulary slice]
  Activations activations;
};

struct Programs {
  std::unique_ptr<kernels::Program> step;
  // Logits and samples of other `wanted` rows of the step that ran last: for prompt logprobs, which
  // are many and are worked off a part at a time.
  std::unique_ptr<kernels::Program> sample_again;
};

class Decoder {
 public:
  // Loads the rank's weights; `progress` hears fractions from 0 to 1. `ops`, `model` must outlive
  // the decoder. Throws modelfile::FileError.
  Decoder(kernels::Ops& ops, const modelfile::Model& model, DecoderSpec spec,
          const weights::Partition& partition, bool group,
          const std::function<void(double)>& progress);

  const DecoderSpec& spec() const { return spec_; }
  int64_t weights_bytes() const { return weights_bytes_; }
  // This rank's KV of one group, without blocks.
  kernels::KvShape kv_shape(int group) const;

  StepBuffers make_buffers(const StepLimits& limits);
  // Records the pass for these buffers. `kv` [groups] must outlive the programs.
  Programs record(const StepBuffers& buffers, const std::vector<kernels::KvStore*>& kv);

 private:
  struct Layer {
    kernels::Weight attention_norm, qkv, qkv_bias, q_norm, k_norm, attention_out;
    kernels::Weight attention_post_norm, ffn_norm, gate_up, ffn_down, ffn_post_norm;
    // Of a layer of experts. The feed-forward layer that all tokens go through, where there is one
    // beside them, stands in gate_up and ffn_down.
    kernels::Weight router;
    std::vector<kernels::Weight> expert_gate_up, expert_down;
    int group = 0;
    int index_in_group = 0;
    bool mixture() const { return router != nullptr; }
  };
  kernels::Weight load(weights::Loader& loader, weights::Role role, int layer = 0);
  std::vector<kernels::Weight> load_experts(weights::Loader& loader, weights::Role role, int layer);
  Layer load_layer(weights::Loader& loader, int index);
  void make_ropes();
  Activations make_activations(const StepBuffers& buffers, const StepLimits& limits);
  void record_attention(const Layer& layer, const Activations& x, const StepBuffers& buffers,
                        const std::vector<kernels::KvStore*>& kv);
  void record_feed_forward(const Layer& layer, const Activations& x);
  void record_experts(const Layer& layer, const Activations& x);
  void record_sampling(const Activations& x, const StepBuffers& buffers);

  kernels::Ops& ops_;
  DecoderSpec spec_;
  weights::Partition partition_;
  bool group_;  // more than one rank: partial sums are reduced
  std::vector<int> kv_head_of_;
  kernels::Weight embedding_, output_, output_norm_;
  std::vector<Layer> layers_;
  std::vector<std::unique_ptr<kernels::Rope>> ropes_;  // per KV group, null: nothing is rotated
  kernels::Weight ones_;                               // [head_dim], for norms without weights
  int64_t weights_bytes_ = 0;
};

}  // namespace chorus::models
