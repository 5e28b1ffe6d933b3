// What most families have in common, as values that a family takes and changes: the numbers every
// configuration has, the tensor names that Llama started, the ways layers see the past.
#pragma once

#include <initializer_list>
#include <string_view>

#include "shard/models/decoder_spec.h"

namespace chorus::models {

// Layers, widths, heads, context and norm epsilon; the gate that the configuration names, or else
// `gate`; query_scale = 1 / sqrt(head_dim); no KV groups and no tensors yet.
DecoderSpec numbers(const modelfile::Config& config, kernels::Gate gate = kernels::Gate::silu);

// Throws modelfile::FileError(unsupported) naming the first of config.json's flags that is true.
void refuse_flags(const modelfile::Config& config, std::initializer_list<std::string_view> flags);

// A key that must lie within 1 and `most`; throws modelfile::FileError(corrupt).
int64_t within(int64_t value, int64_t most, std::string_view what);

// One KV group for all layers, with this rotation; `window` 0: of full attention.
void use_one_group(DecoderSpec& spec, kernels::RopeDescription rope, int64_t window = 0);

// A KV group of full attention and one of sliding windows, those that some layer is in.
struct TwoKinds {
  std::vector<bool> slides;  // [layers]
  KvGroupSpec full, sliding;
};
void use_two_groups(DecoderSpec& spec, const TwoKinds& kinds);

// config.json's layer_types: which layers slide. Empty where the key is absent; throws
// modelfile::FileError for a list of another length and for types other than full_attention and
// `narrow`.
std::vector<bool> narrow_layers(const modelfile::Config& config, int layers,
                                std::string_view narrow = "sliding_attention");

// Llama's tensors. GGUF's converter permutes the rows of Q and K in the families for which
// `gguf_qk_order` says so.
std::vector<weights::TensorEntry> llama_tensors(kernels::RowOrder gguf_qk_order);

// The entry of a role, which must be there.
weights::TensorEntry& entry_of(DecoderSpec& spec, weights::Role role);

// Norms on q and k of each head, as Qwen 3 and Gemma 3 have them; `add` as in TensorEntry.
void add_qk_norms(DecoderSpec& spec, float add = 0);

// Numbers and tensors of a mixture; safetensors names of each family's own. Every layer is one of
// experts, and has no other feed-forward layer.
struct MixtureNames {
  std::string_view router, gate, up, down;  // safetensors; {} is the layer, the second the expert
};
void use_mixture(const modelfile::Config& config, DecoderSpec& spec, std::string_view experts_key,
                 const MixtureNames& names);

}  // namespace chorus::models
