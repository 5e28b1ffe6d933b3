#include "shard/models/families/parts.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <cmath>

#include "modelfile/error.h"

namespace chorus::models {

using modelfile::FileError;
using weights::Role;
using weights::Split;

namespace {

[[noreturn]] void unsupported(const modelfile::Config& config, const std::string& message) {
  throw FileError(FileError::Kind::unsupported, config.source() + ": " + message);
}

kernels::Gate gate_of(const modelfile::Config& config, kernels::Gate otherwise) {
  auto name = config.find_text("hidden_activation", "");
  if (!name) name = config.find_text("hidden_act", "");
  if (!name) return otherwise;
  if (*name == "silu" || *name == "swish") return kernels::Gate::silu;
  if (*name == "gelu_pytorch_tanh") return kernels::Gate::gelu_tanh;
  unsupported(config, fmt::format("hidden_act \"{}\" is not built yet (silu and "
                                  "gelu_pytorch_tanh are)",
                                  *name));
}

}  // namespace

int64_t within(int64_t value, int64_t most, std::string_view what) {
  if (value >= 1 && value <= most) return value;
  throw FileError(
      FileError::Kind::corrupt,
      fmt::format("the model's configuration has {} = {} (1 to {})", what, value, most));
}

DecoderSpec numbers(const modelfile::Config& config, kernels::Gate gate) {
  DecoderSpec spec;
  spec.gate = gate_of(config, gate);
  spec.hidden = within(config.integer("hidden_size", ".embedding_length"), 1 << 20, "hidden_size");
  spec.layers = static_cast<int>(
      within(config.integer("num_hidden_layers", ".block_count"), 4096, "num_hidden_layers"));
  auto& shape = spec.shape;
  shape.heads = within(config.integer("num_attention_heads", ".attention.head_count"), 4096,
                       "num_attention_heads");
  shape.kv_heads = within(
      config.find_integer("num_key_value_heads", ".attention.head_count_kv").value_or(shape.heads),
      shape.heads, "num_key_value_heads");
  shape.head_dim = within(
      config.find_integer("head_dim", ".attention.key_length").value_or(spec.hidden / shape.heads),
      1024, "head_dim");
  shape.ffn = within(config.integer("intermediate_size", ".feed_forward_length"), 1 << 22,
                     "intermediate_size");
  spec.context_max = within(config.integer("max_position_embeddings", ".context_length"), 1 << 26,
                            "max_position_embeddings");
  spec.norm_eps =
      static_cast<float>(config.number("rms_norm_eps", ".attention.layer_norm_rms_epsilon"));
  spec.query_scale = static_cast<float>(1 / std::sqrt(static_cast<double>(shape.head_dim)));
  if (shape.heads % shape.kv_heads != 0) {
    throw FileError(FileError::Kind::corrupt,
                    fmt::format("{} attention heads are no multiple of {} KV heads", shape.heads,
                                shape.kv_heads));
  }
  if (shape.head_dim % 16 != 0) {
    unsupported(config, fmt::format("head_dim {} is no multiple of 16", shape.head_dim));
  }
  return spec;
}

void refuse_flags(const modelfile::Config& config, std::initializer_list<std::string_view> flags) {
  for (const std::string_view flag : flags) {
    if (config.find_flag(flag, "").value_or(false)) {
      unsupported(config, fmt::format("{} = true is not built for this architecture", flag));
    }
  }
}

void use_one_group(DecoderSpec& spec, kernels::RopeDescription rope, int64_t window) {
  spec.kv_groups = {{.window = window, .rope = std::move(rope)}};
  spec.group_of_layer.assign(static_cast<size_t>(spec.layers), 0);
}

void use_two_groups(DecoderSpec& spec, const TwoKinds& kinds) {
  int group_of_kind[] = {-1, -1};
  for (const bool slides : kinds.slides) {
    int& group = group_of_kind[slides ? 1 : 0];
    if (group < 0) {
      group = static_cast<int>(spec.kv_groups.size());
      spec.kv_groups.push_back(slides ? kinds.sliding : kinds.full);
    }
    spec.group_of_layer.push_back(group);
  }
}

std::vector<bool> narrow_layers(const modelfile::Config& config, int layers,
                                std::string_view narrow) {
  std::vector<bool> found;
  for (const std::string& type : config.find_texts("layer_types", "")) {
    if (type != narrow && type != "full_attention") {
      unsupported(config, fmt::format("layer_types has \"{}\", which is not built for this "
                                      "architecture",
                                      type));
    }
    found.push_back(type == narrow);
  }
  if (found.empty() || static_cast<int>(found.size()) == layers) return found;
  throw FileError(FileError::Kind::corrupt,
                  config.source() + ": layer_types does not have one entry per layer");
}

std::vector<weights::TensorEntry> llama_tensors(kernels::RowOrder gguf_qk_order) {
  return {
      {.role = Role::embedding,
       .parts = {{"token_embd.weight", "model.embed_tokens.weight", Split::vocabulary}}},
      {.role = Role::output,
       .parts = {{"output.weight", "lm_head.weight", Split::vocabulary}},
       .optional = true},
      {.role = Role::output_norm, .parts = {{"output_norm.weight", "model.norm.weight"}}},
      {.role = Role::attention_norm,
       .parts = {{"blk.{}.attn_norm.weight", "model.layers.{}.input_layernorm.weight"}}},
      {.role = Role::qkv,
       .parts = {{"blk.{}.attn_q.weight", "model.layers.{}.self_attn.q_proj.weight",
                  Split::query_heads, gguf_qk_order},
                 {"blk.{}.attn_k.weight", "model.layers.{}.self_attn.k_proj.weight",
                  Split::kv_heads, gguf_qk_order},
                 {"blk.{}.attn_v.weight", "model.layers.{}.self_attn.v_proj.weight",
                  Split::kv_heads}}},
      {.role = Role::qkv_bias,
       .parts = {{"blk.{}.attn_q.bias", "model.layers.{}.self_attn.q_proj.bias", Split::query_heads,
                  gguf_qk_order},
                 {"blk.{}.attn_k.bias", "model.layers.{}.self_attn.k_proj.bias", Split::kv_heads,
                  gguf_qk_order},
                 {"blk.{}.attn_v.bias", "model.layers.{}.self_attn.v_proj.bias", Split::kv_heads}},
       .optional = true},
      {.role = Role::attention_out,
       .parts = {{"blk.{}.attn_output.weight", "model.layers.{}.self_attn.o_proj.weight",
                  Split::heads_input}}},
      {.role = Role::ffn_norm,
       .parts = {{"blk.{}.ffn_norm.weight", "model.layers.{}.post_attention_layernorm.weight"}}},
      {.role = Role::gate_up,
       .parts = {{"blk.{}.ffn_gate.weight", "model.layers.{}.mlp.gate_proj.weight", Split::ffn},
                 {"blk.{}.ffn_up.weight", "model.layers.{}.mlp.up_proj.weight", Split::ffn}}},
      {.role = Role::ffn_down,
       .parts = {{"blk.{}.ffn_down.weight", "model.layers.{}.mlp.down_proj.weight",
                  Split::ffn_input}}},
  };
}

weights::TensorEntry& entry_of(DecoderSpec& spec, Role role) {
  const auto found = std::find_if(spec.tensors.begin(), spec.tensors.end(),
                                  [&](const auto& entry) { return entry.role == role; });
  assert(found != spec.tensors.end());
  return *found;
}

void add_qk_norms(DecoderSpec& spec, float add) {
  spec.tensors.push_back(
      {.role = Role::q_norm,
       .parts = {{"blk.{}.attn_q_norm.weight", "model.layers.{}.self_attn.q_norm.weight"}},
       .safetensors_add = add});
  spec.tensors.push_back(
      {.role = Role::k_norm,
       .parts = {{"blk.{}.attn_k_norm.weight", "model.layers.{}.self_attn.k_norm.weight"}},
       .safetensors_add = add});
}

void use_mixture(const modelfile::Config& config, DecoderSpec& spec, std::string_view experts_key,
                 const MixtureNames& names) {
  MixtureSpec& mixture = spec.mixture;
  mixture.experts = within(config.integer(experts_key, ".expert_count"), 4096, experts_key);
  mixture.chosen = within(config.integer("num_experts_per_tok", ".expert_used_count"),
                          mixture.experts, "num_experts_per_tok");
  mixture.layers.assign(static_cast<size_t>(spec.layers), true);
  spec.tensors.push_back(
      {.role = Role::router, .parts = {{"blk.{}.ffn_gate_inp.weight", names.router}}});
  spec.tensors.push_back({.role = Role::expert_gate_up,
                          .parts = {{"blk.{}.ffn_gate_exps.weight", names.gate, Split::expert_ffn},
                                    {"blk.{}.ffn_up_exps.weight", names.up, Split::expert_ffn}}});
  spec.tensors.push_back(
      {.role = Role::expert_down,
       .parts = {{"blk.{}.ffn_down_exps.weight", names.down, Split::expert_ffn_input}}});
}

}  // namespace chorus::models
