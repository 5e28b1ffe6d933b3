// A model family's tensors as data: what each is for, what it is called in either format, and how
// a tensor-parallel group cuts it. Families write such tables (shard/models/families/); this
// folder reads the slices that they name.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "kernels/weight.h"

namespace chorus::weights {

enum class Role : uint8_t {
  embedding,
  output,
  output_norm,
  attention_norm,
  qkv,
  qkv_bias,
  q_norm,
  k_norm,
  attention_out,
  attention_post_norm,  // on the attention's output, before it joins the residual stream
  ffn_norm,
  gate_up,
  ffn_down,
  ffn_post_norm,
  router,  // [experts, hidden]
  expert_gate_up,
  expert_down,
  shared_gate_up,  // of the expert that every token goes through
  shared_down,
};

// How ranks share a tensor.
enum class Split : uint8_t {
  none,         // every rank holds it whole
  query_heads,  // rows: the rank's query heads
  kv_heads,     // rows: the rank's KV heads
  heads_input,  // columns: what the rank's query heads put out
  ffn,          // rows: the rank's FFN columns
  ffn_input,    // columns: the rank's FFN columns
  expert_ffn,   // as ffn and ffn_input, of an expert's feed-forward layer
  expert_ffn_input,
  vocabulary,  // rows: the rank's tokens
};

// Where a source lies in a tensor that holds the rows of several; without rows it is all of it.
struct Fused {
  int64_t first_row = 0;
  int64_t rows = 0;  // of the whole tensor
};

// An expert's matrix is a tensor of its own, whose name has a second {} for the expert, or a slice
// of a tensor with three dimensions, the first of which counts the experts.
struct Source {
  std::string_view gguf;         // "blk.{}.attn_q.weight": {} is the layer
  std::string_view safetensors;  // "model.layers.{}.self_attn.q_proj.weight"
  Split split = Split::none;
  kernels::RowOrder gguf_order = kernels::RowOrder::as_stored;
  kernels::RowOrder safetensors_order = kernels::RowOrder::as_stored;
  Fused gguf_fused = {};
  Fused safetensors_fused = {};
  bool safetensors_transposed = false;  // the file holds the matrix's columns as rows
};

struct TensorEntry {
  Role role;
  std::vector<Source> parts;  // stacked by rows
  bool optional = false;      // absent in some checkpoints of the family (biases, a tied output)
  float safetensors_add = 0;  // added to each element of a safetensors vector (Gemma's norms)
};

}  // namespace chorus::weights
