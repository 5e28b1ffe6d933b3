// What most families have in common, as values that a family takes and changes: the numbers every
// configuration has, and the tensor names that Llama started.
#pragma once

#include "shard/models/decoder_spec.h"

namespace chorus::models {

// Layers, widths, heads, context and norm epsilon; query_scale = 1 / sqrt(head_dim); no KV groups
// and no tensors yet.
DecoderSpec numbers(const modelfile::Config& config);

// One KV group of full attention for all layers, with this rotation.
void use_full_attention(DecoderSpec& spec, kernels::RopeDescription rope);

// frequency[i] = base^(-2i / head_dim), with the configuration's scaling (linear, llama3).
// Throws modelfile::FileError(unsupported) for scalings that Chorus does not know.
kernels::RopeDescription rope(const modelfile::Config& config, double base, int64_t head_dim);

// Llama's tensors. GGUF's converter permutes the rows of Q and K in the families for which
// `gguf_qk_order` says so.
std::vector<weights::TensorEntry> llama_tensors(kernels::RowOrder gguf_qk_order);

}  // namespace chorus::models
