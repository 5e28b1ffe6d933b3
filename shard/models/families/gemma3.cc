// Gemma 3, text part: five layers of sliding windows to one of full attention, each kind with a
// rotation of its own; norms on q and k and on what attention and feed-forward put out; tanh-GELU;
// the embedding scaled by sqrt(hidden). Checkpoints in safetensors store norm weights minus one,
// GGUF's converter has added it already.
#include <cmath>

#include "modelfile/error.h"
#include "shard/models/families/list.h"
#include "shard/models/families/parts.h"

namespace chorus::models {

using weights::Role;

namespace {

constexpr int kFull = 0;
constexpr int kSliding = 1;

std::vector<int> groups_of_layers(const modelfile::Config& config, int layers) {
  std::vector<int> groups;
  for (const std::string& type : config.find_texts("layer_types", "")) {
    groups.push_back(type == "full_attention" ? kFull : kSliding);
  }
  if (!groups.empty()) {
    if (static_cast<int>(groups.size()) == layers) return groups;
    throw modelfile::FileError(modelfile::FileError::Kind::corrupt,
                               "config.json: layer_types does not have one entry per layer");
  }
  const int64_t pattern =
      config.find_integer("sliding_window_pattern", ".attention.sliding_window_pattern")
          .value_or(6);
  for (int layer = 0; layer < layers; ++layer) {
    groups.push_back(pattern > 0 && (layer + 1) % pattern == 0 ? kFull : kSliding);
  }
  return groups;
}

}  // namespace

DecoderSpec gemma3(const modelfile::Config& config) {
  if (config.find_number("final_logit_softcapping", ".final_logit_softcapping").value_or(0) > 0) {
    throw modelfile::FileError(modelfile::FileError::Kind::unsupported,
                               "soft-capped logits are not built yet");
  }
  DecoderSpec spec = numbers(config);
  spec.gate = kernels::Gate::gelu_tanh;
  spec.embedding_scale = std::sqrt(static_cast<float>(spec.hidden));
  if (const auto scalar = config.find_number("query_pre_attn_scalar", "")) {
    spec.query_scale = static_cast<float>(1 / std::sqrt(*scalar));
  }

  const double base = config.find_number("rope_theta", ".rope.freq_base").value_or(1e6);
  const double local_base =
      config.find_number("rope_local_base_freq", ".rope.freq_base_swa").value_or(1e4);
  kernels::RopeDescription local;  // never scaled
  for (int64_t i = 0; i < spec.shape.head_dim / 2; ++i) {
    local.frequencies.push_back(static_cast<float>(std::pow(
        local_base, -2.0 * static_cast<double>(i) / static_cast<double>(spec.shape.head_dim))));
  }
  spec.kv_groups = {
      {.window = 0, .rope = rope(config, base, spec.shape.head_dim)},
      {.window = config.integer("sliding_window", ".attention.sliding_window"),
       .rope = std::move(local)},
  };
  spec.group_of_layer = groups_of_layers(config, spec.layers);

  spec.tensors = llama_tensors(kernels::RowOrder::as_stored);
  for (auto& entry : spec.tensors) {
    // "post_attention_layernorm" is Llama's name for the norm before the feed-forward layer; here
    // it is the one behind attention.
    if (entry.role == Role::ffn_norm) {
      entry.parts.front().safetensors = "model.layers.{}.pre_feedforward_layernorm.weight";
    }
    if (entry.role == Role::output_norm || entry.role == Role::attention_norm ||
        entry.role == Role::ffn_norm) {
      entry.safetensors_add = 1;
    }
  }
  const auto add_norm = [&](Role role, std::string_view gguf, std::string_view safetensors) {
    spec.tensors.push_back({.role = role, .parts = {{gguf, safetensors}}, .safetensors_add = 1});
  };
  add_norm(Role::q_norm, "blk.{}.attn_q_norm.weight", "model.layers.{}.self_attn.q_norm.weight");
  add_norm(Role::k_norm, "blk.{}.attn_k_norm.weight", "model.layers.{}.self_attn.k_norm.weight");
  add_norm(Role::attention_post_norm, "blk.{}.post_attention_norm.weight",
           "model.layers.{}.post_attention_layernorm.weight");
  add_norm(Role::ffn_post_norm, "blk.{}.post_ffw_norm.weight",
           "model.layers.{}.post_feedforward_layernorm.weight");
  return spec;
}

}  // namespace chorus::models
