// Qwen2 and Qwen2.5: Llama with biases on q, k and v. Qwen3: norms on q and k of each head instead;
// Qwen3-MoE: and experts. GGUF keeps the rows as they are.
#include <cmath>

#include "modelfile/error.h"
#include "shard/models/families/list.h"
#include "shard/models/families/parts.h"
#include "shard/models/families/rope.h"

namespace chorus::models {
namespace {

// With use_sliding_window the layers from max_window_layers on slide, or those that layer_types
// names. Without it sliding_window is a number of no meaning.
void use_windows(const modelfile::Config& config, DecoderSpec& spec,
                 const kernels::RopeDescription& rope) {
  const bool windows = config.find_flag("use_sliding_window", "").value_or(false);
  const auto window = config.find_integer("sliding_window", "");
  if (!windows || !window) return use_one_group(spec, rope);
  TwoKinds kinds{.slides = narrow_layers(config, spec.layers),
                 .full = {.window = 0, .rope = rope},
                 .sliding = {.window = *window, .rope = rope}};
  if (kinds.slides.empty()) {
    const int64_t first = config.find_integer("max_window_layers", "").value_or(28);
    for (int layer = 0; layer < spec.layers; ++layer) kinds.slides.push_back(layer >= first);
  }
  use_two_groups(spec, kinds);
}

DecoderSpec common(const modelfile::Config& config) {
  DecoderSpec spec = numbers(config);
  use_windows(config, spec, rope(config, rope_base(config, 10000), spec.shape.head_dim));
  spec.tensors = llama_tensors(kernels::RowOrder::as_stored);
  return spec;
}

}  // namespace

DecoderSpec qwen2(const modelfile::Config& config) {
  return common(config);
}

DecoderSpec qwen3(const modelfile::Config& config) {
  refuse_flags(config, {"attention_bias"});
  DecoderSpec spec = common(config);
  add_qk_norms(spec);
  return spec;
}

DecoderSpec qwen3_moe(const modelfile::Config& config) {
  refuse_flags(config, {"attention_bias"});
  DecoderSpec spec = numbers(config);
  // Here a window is for all layers.
  const bool windows = config.find_flag("use_sliding_window", "").value_or(false);
  use_one_group(spec, rope(config, rope_base(config, 10000), spec.shape.head_dim),
                windows ? config.find_integer("sliding_window", "").value_or(0) : 0);
  spec.tensors = llama_tensors(kernels::RowOrder::as_stored);
  add_qk_norms(spec);
  use_mixture(config, spec, "num_experts",
              {.router = "model.layers.{}.mlp.gate.weight",
               .gate = "model.layers.{}.mlp.experts.{}.gate_proj.weight",
               .up = "model.layers.{}.mlp.experts.{}.up_proj.weight",
               .down = "model.layers.{}.mlp.experts.{}.down_proj.weight"});
  spec.shape.expert_ffn =
      within(config.integer("moe_intermediate_size", ".expert_feed_forward_length"), 1 << 22,
             "moe_intermediate_size");
  const bool gguf = config.format() == modelfile::Format::gguf;
  spec.mixture.normalised = config.find_flag("norm_topk_prob", "").value_or(gguf);
  const int64_t step = within(config.find_integer("decoder_sparse_step", "").value_or(1),
                              spec.layers, "decoder_sparse_step");
  for (int layer = 0; layer < spec.layers; ++layer) {
    spec.mixture.layers[static_cast<size_t>(layer)] = (layer + 1) % step == 0;
  }
  for (const double layer : config.find_numbers("mlp_only_layers", "")) {
    if (layer < 0 || layer >= spec.layers) {
      throw modelfile::FileError(modelfile::FileError::Kind::corrupt,
                                 config.source() + ": mlp_only_layers names a layer that is not");
    }
    spec.mixture.layers[static_cast<size_t>(layer)] = false;
  }
  return spec;
}

}  // namespace chorus::models
