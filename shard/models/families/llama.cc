// Llama 2, 3 and what copies it (SmolLM2, TinyLlama, ...), Mistral and Mixtral: RMS norms, rotary
// halves, SiLU gate. GGUF calls all three "llama"; its converter permutes the rows of Q and K for
// another pairing of the rotation.
#include "shard/models/families/list.h"
#include "shard/models/families/parts.h"
#include "shard/models/families/rope.h"

namespace chorus::models {
namespace {

// What the three share. Mistral's config.json may name a window, for all layers.
DecoderSpec common(const modelfile::Config& config, bool windows) {
  refuse_flags(config, {"attention_bias", "mlp_bias"});
  DecoderSpec spec = numbers(config);
  const double base = rope_base(config, 10000);
  const int64_t window = windows ? config.find_integer("sliding_window", "").value_or(0) : 0;
  use_one_group(spec, rope(config, base, spec.shape.head_dim), window);
  spec.tensors = llama_tensors(kernels::RowOrder::rope_pairs_to_halves);
  return spec;
}

void use_mixtral_experts(const modelfile::Config& config, DecoderSpec& spec) {
  use_mixture(config, spec, "num_local_experts",
              {.router = "model.layers.{}.block_sparse_moe.gate.weight",
               .gate = "model.layers.{}.block_sparse_moe.experts.{}.w1.weight",
               .up = "model.layers.{}.block_sparse_moe.experts.{}.w3.weight",
               .down = "model.layers.{}.block_sparse_moe.experts.{}.w2.weight"});
  spec.shape.expert_ffn = spec.shape.ffn;
  spec.shape.ffn = 0;
}

}  // namespace

DecoderSpec llama(const modelfile::Config& config) {
  DecoderSpec spec = common(config, false);
  if (config.find_integer("", ".expert_count").value_or(0) > 0) use_mixtral_experts(config, spec);
  return spec;
}

DecoderSpec mistral(const modelfile::Config& config) {
  return common(config, true);
}

DecoderSpec mixtral(const modelfile::Config& config) {
  DecoderSpec spec = common(config, true);
  use_mixtral_experts(config, spec);
  return spec;
}

}  // namespace chorus::models
