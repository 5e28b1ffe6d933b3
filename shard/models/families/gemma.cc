// Gemma 2 and Gemma 3, text part: layers of sliding windows between layers of full attention; norms
// on what attention and feed-forward put out; tanh-GELU; the embedding scaled by sqrt(hidden).
// Gemma 2 caps attention's scores and the logits; Gemma 3 has norms on q and k instead, and a
// rotation of their own for the windows. Checkpoints in safetensors store norm weights minus one,
// GGUF's converter has added it already.
#include <cmath>

#include "modelfile/error.h"
#include "shard/models/families/list.h"
#include "shard/models/families/parts.h"
#include "shard/models/families/rope.h"

namespace chorus::models {

using weights::Role;

namespace {

// GGUF does not carry query_pre_attn_scalar: 1 / sqrt(head_dim) for all sizes but the largest,
// which has hidden / heads there.
void scale_queries(const modelfile::Config& config, DecoderSpec& spec, int layers_of_largest) {
  auto scalar = config.find_number("query_pre_attn_scalar", "");
  if (config.format() == modelfile::Format::gguf && spec.layers == layers_of_largest) {
    scalar = static_cast<double>(spec.hidden / spec.shape.heads);
  }
  if (scalar) spec.query_scale = static_cast<float>(1 / std::sqrt(*scalar));
}

// Layers of full attention are every `period`th.
std::vector<bool> sliding_layers(const modelfile::Config& config, int layers, int64_t period) {
  std::vector<bool> slides = narrow_layers(config, layers);
  if (!slides.empty()) return slides;
  for (int layer = 0; layer < layers; ++layer) {
    slides.push_back(period <= 0 || (layer + 1) % period != 0);
  }
  return slides;
}

DecoderSpec common(const modelfile::Config& config) {
  refuse_flags(config, {"attention_bias", "use_bidirectional_attention"});
  DecoderSpec spec = numbers(config, kernels::Gate::gelu_tanh);
  spec.embedding_scale = std::sqrt(static_cast<float>(spec.hidden));
  spec.attention_cap = static_cast<float>(
      config.find_number("attn_logit_softcapping", ".attn_logit_softcapping").value_or(0));
  spec.logit_cap = static_cast<float>(
      config.find_number("final_logit_softcapping", ".final_logit_softcapping").value_or(0));
  spec.tensors = llama_tensors(kernels::RowOrder::as_stored);
  // "post_attention_layernorm" is Llama's name for the norm before the feed-forward layer; here it
  // is the one behind attention.
  entry_of(spec, Role::ffn_norm).parts.front().safetensors =
      "model.layers.{}.pre_feedforward_layernorm.weight";
  for (const Role role : {Role::output_norm, Role::attention_norm, Role::ffn_norm}) {
    entry_of(spec, role).safetensors_add = 1;
  }
  spec.tensors.push_back({.role = Role::attention_post_norm,
                          .parts = {{"blk.{}.post_attention_norm.weight",
                                     "model.layers.{}.post_attention_layernorm.weight"}},
                          .safetensors_add = 1});
  spec.tensors.push_back({.role = Role::ffn_post_norm,
                          .parts = {{"blk.{}.post_ffw_norm.weight",
                                     "model.layers.{}.post_feedforward_layernorm.weight"}},
                          .safetensors_add = 1});
  return spec;
}

}  // namespace

DecoderSpec gemma2(const modelfile::Config& config) {
  DecoderSpec spec = common(config);
  if (config.format() == modelfile::Format::gguf) {  // the first converters left them out
    if (!config.find_number("", ".attn_logit_softcapping")) spec.attention_cap = 50;
    if (!config.find_number("", ".final_logit_softcapping")) spec.logit_cap = 30;
  }
  scale_queries(config, spec, 46);
  const auto turns = rope(config, rope_base(config, 10000), spec.shape.head_dim);
  const int64_t window =
      config.find_integer("sliding_window", ".attention.sliding_window").value_or(4096);
  use_two_groups(spec, {.slides = sliding_layers(config, spec.layers, 2),
                        .full = {.window = 0, .rope = turns},
                        .sliding = {.window = window, .rope = turns}});
  return spec;
}

DecoderSpec gemma3(const modelfile::Config& config) {
  DecoderSpec spec = common(config);
  scale_queries(config, spec, 62);
  const int64_t dim = spec.shape.head_dim;
  auto local_base = config.find_number("rope_local_base_freq", ".rope.freq_base_swa");
  if (!local_base) {
    local_base = config.find_number("rope_parameters.sliding_attention.rope_theta", "");
  }
  const int64_t pattern =
      config.find_integer("sliding_window_pattern", ".attention.sliding_window_pattern")
          .value_or(6);
  const int64_t window = config.integer("sliding_window", ".attention.sliding_window");
  use_two_groups(
      spec, {.slides = sliding_layers(config, spec.layers, pattern),
             .full = {.window = 0,
                      .rope = rope(config, rope_base(config, 1e6, "full_attention"), dim,
                                   "full_attention")},
             .sliding = {.window = window, .rope = plain_rope(local_base.value_or(1e4), dim)}});
  add_qk_norms(spec, 1);
  return spec;
}

}  // namespace chorus::models
