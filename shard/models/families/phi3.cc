// Phi-3, Phi-3.5 and Phi-4: Llama with q, k and v in one tensor, gate and up in another, a part of
// each head rotated and, for long contexts, "longrope".
#include "shard/models/families/list.h"
#include "shard/models/families/parts.h"
#include "shard/models/families/rope.h"

namespace chorus::models {

using weights::Fused;
using weights::Role;
using weights::Source;
using weights::Split;

namespace {

// Both formats keep the rows alike.
Source rows(std::string_view gguf, std::string_view safetensors, Split split, Fused fused) {
  return {.gguf = gguf,
          .safetensors = safetensors,
          .split = split,
          .gguf_fused = fused,
          .safetensors_fused = fused};
}

}  // namespace

DecoderSpec phi3(const modelfile::Config& config) {
  refuse_flags(config, {"attention_bias", "mlp_bias", "lm_head_bias"});
  DecoderSpec spec = numbers(config);
  const auto& shape = spec.shape;
  use_one_group(spec, {},
                config.find_integer("sliding_window", ".attention.sliding_window").value_or(0));
  use_long_rope(config, spec.kv_groups.front(), rope_base(config, 10000), shape.head_dim);

  spec.tensors = llama_tensors(kernels::RowOrder::as_stored);
  const int64_t q = shape.heads * shape.head_dim, kv = shape.kv_heads * shape.head_dim;
  const auto qkv = [&](Split split, int64_t first) {
    return rows("blk.{}.attn_qkv.weight", "model.layers.{}.self_attn.qkv_proj.weight", split,
                {first, q + 2 * kv});
  };
  entry_of(spec, Role::qkv).parts = {qkv(Split::query_heads, 0), qkv(Split::kv_heads, q),
                                     qkv(Split::kv_heads, q + kv)};
  const auto gate_up = [&](int64_t first) {
    return rows("blk.{}.ffn_up.weight", "model.layers.{}.mlp.gate_up_proj.weight", Split::ffn,
                {first, 2 * shape.ffn});
  };
  entry_of(spec, Role::gate_up).parts = {gate_up(0), gate_up(shape.ffn)};
  return spec;
}

}  // namespace chorus::models
