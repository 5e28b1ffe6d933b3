#include "shard/models/families/parts.h"

#include <fmt/format.h>

#include <cmath>
#include <numbers>

#include "modelfile/error.h"

namespace chorus::models {

using modelfile::FileError;
using weights::Role;
using weights::Split;

namespace {

[[noreturn]] void unsupported(const std::string& message) {
  throw FileError(FileError::Kind::unsupported, message);
}

int64_t within(int64_t value, int64_t most, std::string_view what) {
  if (value >= 1 && value <= most) return value;
  throw FileError(
      FileError::Kind::corrupt,
      fmt::format("the model's configuration has {} = {} (1 to {})", what, value, most));
}

// Llama 3's scaling (its reference implementation, and "rope_type": "llama3" in config.json): long
// wavelengths are stretched by `factor`, short ones kept, those between blended.
void scale_llama3(const modelfile::Config& config, std::vector<float>& frequencies) {
  const double factor = config.number("rope_scaling.factor", ".rope.scaling.factor");
  const double low = config.number("rope_scaling.low_freq_factor", "");
  const double high = config.number("rope_scaling.high_freq_factor", "");
  const double trained = config.number("rope_scaling.original_max_position_embeddings", "");
  for (float& frequency : frequencies) {
    const double wavelength = 2 * std::numbers::pi / frequency;
    if (wavelength > trained / low) {
      frequency = static_cast<float>(frequency / factor);
    } else if (wavelength > trained / high) {
      const double blend = (trained / wavelength - low) / (high - low);
      frequency = static_cast<float>((1 - blend) * frequency / factor + blend * frequency);
    }
  }
}

}  // namespace

DecoderSpec numbers(const modelfile::Config& config) {
  DecoderSpec spec;
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
    unsupported(fmt::format("head_dim {} is no multiple of 16", shape.head_dim));
  }
  return spec;
}

void use_full_attention(DecoderSpec& spec, kernels::RopeDescription rope) {
  spec.kv_groups = {{.window = 0, .rope = std::move(rope)}};
  spec.group_of_layer.assign(static_cast<size_t>(spec.layers), 0);
}

kernels::RopeDescription rope(const modelfile::Config& config, double base, int64_t head_dim) {
  kernels::RopeDescription description;
  for (int64_t i = 0; i < head_dim / 2; ++i) {
    description.frequencies.push_back(static_cast<float>(
        std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim))));
  }
  auto kind = config.find_text("rope_scaling.rope_type", ".rope.scaling.type");
  if (!kind) kind = config.find_text("rope_scaling.type", "");
  const std::string type = kind.value_or("none");
  if (type == "linear") {
    const double factor = config.number("rope_scaling.factor", ".rope.scaling.factor");
    for (float& frequency : description.frequencies) {
      frequency = static_cast<float>(frequency / factor);
    }
  } else if (type == "llama3") {
    scale_llama3(config, description.frequencies);
  } else if (type != "none" && type != "default") {
    unsupported(
        fmt::format("rope scaling of type \"{}\" is not built yet (linear and llama3 are)", type));
  }
  return description;
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

}  // namespace chorus::models
