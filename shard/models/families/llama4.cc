// Llama 4, text part: three layers that attend within chunks and rotate to one that sees everything
// and rotates nothing, whose queries grow with the position instead; experts with a shared one
// beside them. The rotation turns neighbours, in both formats. Expert weights lie in safetensors as
// one tensor for all, transposed.
#include <algorithm>

#include "modelfile/error.h"
#include "shard/models/families/list.h"
#include "shard/models/families/parts.h"
#include "shard/models/families/rope.h"

namespace chorus::models {

using modelfile::Config;
using modelfile::FileError;
using weights::Role;
using weights::Split;

namespace {

constexpr int kLayersPerFull = 4;
constexpr int64_t kChunk = 8192;  // what GGUF does not carry: the published models' numbers
constexpr double kGrowth = 0.1, kGrowthPositions = 8192;
constexpr int64_t kExpertsWithoutNorm = 128;  // Maverick, which GGUF does not tell apart otherwise

std::vector<bool> rotating_layers(const Config& config, int layers) {
  std::vector<bool> rotates;
  for (const double flag : config.find_numbers("no_rope_layers", "")) rotates.push_back(flag != 0);
  if (rotates.empty()) {
    const int64_t interval =
        within(config.find_integer("no_rope_layer_interval", "").value_or(kLayersPerFull), 1 << 20,
               "no_rope_layer_interval");
    for (int layer = 0; layer < layers; ++layer) rotates.push_back((layer + 1) % interval != 0);
  }
  if (static_cast<int>(rotates.size()) == layers) return rotates;
  throw FileError(FileError::Kind::corrupt,
                  config.source() + ": no_rope_layers does not have one entry per layer");
}

KvGroupSpec group(const Config& config, const DecoderSpec& spec, bool rotates, bool chunked) {
  const bool gguf = config.format() == modelfile::Format::gguf;
  KvGroupSpec group;
  group.chunked = chunked;
  if (chunked) {
    group.window = within(
        config.find_integer("attention_chunk_size", ".attention.sliding_window").value_or(kChunk),
        1 << 26, "attention_chunk_size");
  }
  if (rotates) {
    group.rope = rope(config, rope_base(config, 500000), spec.shape.head_dim);
    group.unit_qk_norm = gguf ? spec.mixture.experts != kExpertsWithoutNorm
                              : config.find_flag("use_qk_norm", "").value_or(true);
  } else if (config.find_flag("attn_temperature_tuning", "").value_or(true)) {
    group.q_growth = static_cast<float>(config.find_number("attn_scale", "").value_or(kGrowth));
    group.q_growth_positions =
        static_cast<float>(config.find_number("floor_scale", "").value_or(kGrowthPositions));
  }
  return group;
}

// One KV group for each way of attending that some layer has.
void use_groups(const Config& config, DecoderSpec& spec) {
  std::vector<bool> rotates = rotating_layers(config, spec.layers);
  std::vector<bool> chunked = narrow_layers(config, spec.layers, "chunked_attention");
  if (chunked.empty()) chunked = rotates;
  // In GGUF a window of 0 says: no chunks, and every layer rotates.
  if (config.find_integer("", ".attention.sliding_window") == 0) {
    rotates.assign(rotates.size(), true);
    chunked.assign(chunked.size(), false);
  }
  int group_of_kind[] = {-1, -1, -1, -1};
  for (size_t i = 0; i < rotates.size(); ++i) {
    int& index = group_of_kind[(rotates[i] ? 2 : 0) + (chunked[i] ? 1 : 0)];
    if (index < 0) {
      index = static_cast<int>(spec.kv_groups.size());
      spec.kv_groups.push_back(group(config, spec, rotates[i], chunked[i]));
    }
    spec.group_of_layer.push_back(index);
  }
}

// Widths: config.json calls the experts' intermediate_size, GGUF the dense layers'
// feed_forward_length.
void use_experts(const Config& config, DecoderSpec& spec) {
  auto& shape = spec.shape;
  if (config.format() == modelfile::Format::gguf) {
    shape.expert_ffn = within(config.integer("", ".expert_feed_forward_length"), 1 << 22,
                              "expert_feed_forward_length");
  } else {
    shape.expert_ffn = shape.ffn;
    shape.ffn =
        within(config.integer("intermediate_size_mlp", ""), 1 << 22, "intermediate_size_mlp");
  }
  use_mixture(config, spec, "num_local_experts",
              {.router = "model.layers.{}.feed_forward.router.weight",
               .gate = "model.layers.{}.feed_forward.experts.gate_up_proj",
               .up = "model.layers.{}.feed_forward.experts.gate_up_proj",
               .down = "model.layers.{}.feed_forward.experts.down_proj"});
  auto& gate_up = entry_of(spec, Role::expert_gate_up).parts;
  gate_up[0].safetensors_fused = {0, 2 * shape.expert_ffn};
  gate_up[1].safetensors_fused = {shape.expert_ffn, 2 * shape.expert_ffn};
  for (auto& part : gate_up) part.safetensors_transposed = true;
  entry_of(spec, Role::expert_down).parts.front().safetensors_transposed = true;

  MixtureSpec& mixture = spec.mixture;
  mixture.score = kernels::RouterScore::sigmoid;
  mixture.normalised = false;
  mixture.weigh_input = true;
  const int64_t step = within(
      config.find_integer("interleave_moe_layer_step", ".interleave_moe_layer_step").value_or(1),
      1 << 20, "interleave_moe_layer_step");
  const auto named = config.find_numbers("moe_layers", "");
  for (int layer = 0; layer < spec.layers; ++layer) {
    mixture.layers[static_cast<size_t>(layer)] =
        named.empty() ? (layer + 1) % step == 0
                      : std::find(named.begin(), named.end(), layer) != named.end();
  }
}

void name_tensors(DecoderSpec& spec) {
  spec.tensors = llama_tensors(kernels::RowOrder::rope_pairs_to_halves);
  auto& qkv = entry_of(spec, Role::qkv).parts;
  qkv[0].safetensors_order = qkv[1].safetensors_order = kernels::RowOrder::rope_pairs_to_halves;
  auto& gate_up = entry_of(spec, Role::gate_up).parts;
  gate_up[0].safetensors = "model.layers.{}.feed_forward.gate_proj.weight";
  gate_up[1].safetensors = "model.layers.{}.feed_forward.up_proj.weight";
  entry_of(spec, Role::ffn_down).parts[0].safetensors =
      "model.layers.{}.feed_forward.down_proj.weight";
  spec.tensors.push_back(
      {.role = Role::shared_gate_up,
       .parts = {
           {"blk.{}.ffn_gate_shexp.weight",
            "model.layers.{}.feed_forward.shared_expert.gate_proj.weight", Split::expert_ffn},
           {"blk.{}.ffn_up_shexp.weight",
            "model.layers.{}.feed_forward.shared_expert.up_proj.weight", Split::expert_ffn}}});
  spec.tensors.push_back({.role = Role::shared_down,
                          .parts = {{"blk.{}.ffn_down_shexp.weight",
                                     "model.layers.{}.feed_forward.shared_expert.down_proj.weight",
                                     Split::expert_ffn_input}}});
}

}  // namespace

DecoderSpec llama4(const Config& config) {
  refuse_flags(config, {"attention_bias"});
  DecoderSpec spec = numbers(config);
  name_tensors(spec);
  use_experts(config, spec);
  use_groups(config, spec);
  return spec;
}

}  // namespace chorus::models
