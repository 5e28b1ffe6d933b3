#include "shard/models/decoder.h"

#include <cassert>

#include "shard/weights/loader.h"

namespace chorus::models {

using kernels::DType;
using kernels::View;
using kernels::Weight;
using weights::Role;

Decoder::Decoder(kernels::Ops& ops, const modelfile::Model& model, DecoderSpec spec,
                 const weights::Partition& partition, bool group,
                 const std::function<void(double)>& progress)
    : ops_(ops), spec_(std::move(spec)), partition_(partition), group_(group) {
  weights::Loader loader(ops, model, spec_.shape, partition);
  const auto load = [&](Role role, int layer) -> Weight {
    const auto* entry = spec_.find(role);
    if (entry == nullptr) return nullptr;
    Weight weight = loader.load(*entry, layer);
    if (weight) weights_bytes_ += weight->bytes;
    return weight;
  };

  const int64_t heads_per_kv = spec_.shape.heads / spec_.shape.kv_heads;
  for (int64_t head = partition.heads.begin; head < partition.heads.end; ++head) {
    kv_head_of_.push_back(static_cast<int>(head / heads_per_kv - partition.kv_heads.begin));
  }
  for (const auto& kv_group : spec_.kv_groups) {
    ropes_.push_back(ops.make_rope(kv_group.rope, spec_.context_max));
  }

  const double parts = spec_.layers + 2;
  embedding_ = loader.load_table(*spec_.find(Role::embedding));
  std::vector<int> layers_in_group(spec_.kv_groups.size());
  for (int i = 0; i < spec_.layers; ++i) {
    progress(i / parts);
    const int kv_group = spec_.group_of_layer[static_cast<size_t>(i)];
    layers_.push_back({.attention_norm = load(Role::attention_norm, i),
                       .qkv = load(Role::qkv, i),
                       .qkv_bias = load(Role::qkv_bias, i),
                       .q_norm = load(Role::q_norm, i),
                       .k_norm = load(Role::k_norm, i),
                       .attention_out = load(Role::attention_out, i),
                       .attention_post_norm = load(Role::attention_post_norm, i),
                       .ffn_norm = load(Role::ffn_norm, i),
                       .gate_up = load(Role::gate_up, i),
                       .ffn_down = load(Role::ffn_down, i),
                       .ffn_post_norm = load(Role::ffn_post_norm, i),
                       .group = kv_group,
                       .index_in_group = layers_in_group[static_cast<size_t>(kv_group)]++});
  }
  progress(spec_.layers / parts);
  output_norm_ = load(Role::output_norm, 0);
  output_ = load(Role::output, 0);
  if (!output_) output_ = load(Role::embedding, 0);  // tied
  progress(1);
}

kernels::KvShape Decoder::kv_shape(int group) const {
  kernels::KvShape shape{.kv_heads = static_cast<int>(partition_.kv_heads.size()),
                         .head_dim = static_cast<int>(spec_.shape.head_dim)};
  for (const Layer& layer : layers_) shape.layers += layer.group == group;
  return shape;
}

StepBuffers Decoder::make_buffers(const StepLimits& limits) {
  StepBuffers buffers;
  buffers.counts = ops_.allocate(DType::i32, 1, 3);
  const auto* counts = static_cast<const int32_t*>(buffers.counts.data);
  buffers.tokens = ops_.allocate(DType::i32, limits.tokens, 1, counts);
  buffers.slots = ops_.allocate(DType::i32, limits.tokens, 1, counts);
  buffers.spans = ops_.allocate(DType::i32, limits.rows, 4, counts + 1);
  buffers.wanted = ops_.allocate(DType::i32, limits.wanted, 1, counts + 2);
  buffers.params =
      ops_.allocate(DType::u8, limits.wanted, sizeof(kernels::SamplingParams), counts + 2);
  buffers.results = ops_.allocate(DType::u8, limits.wanted, sizeof(kernels::Sampled), counts + 2);
  buffers.last_tokens = ops_.allocate(DType::i32, limits.slots, 1);
  buffers.adjustments =
      ops_.allocate(DType::u8, limits.slots,
                    limits.adjustments * static_cast<int64_t>(sizeof(kernels::Adjustment)));
  buffers.adjustment_counts = ops_.allocate(DType::i32, limits.slots, 1);
  for (size_t group = 0; group < spec_.kv_groups.size(); ++group) {
    buffers.block_tables.push_back(ops_.allocate(DType::i32, limits.slots, limits.blocks_max));
  }
  buffers.logits = ops_.allocate(DType::f32, limits.wanted, partition_.vocab.size(), counts + 2);
  return buffers;
}

Decoder::Activations Decoder::make_activations(const StepBuffers& buffers,
                                               const StepLimits& limits) {
  const auto* tokens = buffers.tokens.live_rows;
  const int64_t heads = partition_.heads.size(), kv_heads = partition_.kv_heads.size();
  const auto make = [&](int64_t cols) {
    return ops_.allocate(DType::f32, limits.tokens, cols, tokens);
  };
  const auto make_operand = [&](int64_t cols) {
    return ops_.allocate(ops_.operand_type(), limits.tokens, cols, tokens);
  };
  return {.residual = make(spec_.hidden),
          .normed = make_operand(spec_.hidden),
          .qkv = make((heads + 2 * kv_heads) * spec_.shape.head_dim),
          .attended = make_operand(heads * spec_.shape.head_dim),
          .projected = make(spec_.hidden),
          .gate_up = make(2 * partition_.ffn.size()),
          .gated = make_operand(partition_.ffn.size()),
          .last = ops_.allocate(ops_.operand_type(), limits.wanted, spec_.hidden,
                                buffers.wanted.live_rows)};
}

Programs Decoder::record(const StepBuffers& buffers, const StepLimits& limits,
                         const std::vector<kernels::KvStore*>& kv) {
  assert(kv.size() == spec_.kv_groups.size());
  const Activations x = make_activations(buffers, limits);
  ops_.record();
  ops_.embed(x.residual, embedding_, buffers.tokens, buffers.slots, buffers.last_tokens,
             spec_.embedding_scale);
  ops_.rms_norm(x.normed, x.residual, layers_.front().attention_norm, spec_.norm_eps);
  for (size_t i = 0; i < layers_.size(); ++i) {
    record_attention(layers_[i], x, buffers, kv);
    ops_.add_rms_norm(x.normed, x.residual, x.projected, layers_[i].ffn_norm, spec_.norm_eps);
    record_feed_forward(layers_[i], x);
    const bool last = i + 1 == layers_.size();
    ops_.add_rms_norm(x.normed, x.residual, x.projected,
                      last ? output_norm_ : layers_[i + 1].attention_norm, spec_.norm_eps);
  }
  record_sampling(x, buffers);
  Programs programs;
  programs.step = ops_.end_record();
  ops_.record();
  record_sampling(x, buffers);
  programs.sample_again = ops_.end_record();
  return programs;
}

// Behind the last layer; leaves x.normed as it is.
void Decoder::record_sampling(const Activations& x, const StepBuffers& buffers) {
  ops_.gather_rows(x.last, x.normed, buffers.wanted);
  ops_.matmul(buffers.logits, x.last, output_, nullptr);
  ops_.sample({.logits = buffers.logits,
               .vocab = partition_.vocab,
               .vocab_size = spec_.shape.vocab,
               .params = buffers.params,
               .results = buffers.results,
               .last_tokens = buffers.last_tokens,
               .adjustments = buffers.adjustments,
               .adjustment_counts = buffers.adjustment_counts});
}

void Decoder::record_attention(const Layer& layer, const Activations& x, const StepBuffers& buffers,
                               const std::vector<kernels::KvStore*>& kv) {
  const auto group = static_cast<size_t>(layer.group);
  const int heads = static_cast<int>(partition_.heads.size());
  const int kv_heads = static_cast<int>(partition_.kv_heads.size());
  const int head_dim = static_cast<int>(spec_.shape.head_dim);
  ops_.matmul(x.qkv, x.normed, layer.qkv, layer.qkv_bias);
  ops_.split_qkv({.qkv = x.qkv,
                  .q_heads = heads,
                  .kv_heads = kv_heads,
                  .head_dim = head_dim,
                  .q_norm = layer.q_norm,
                  .k_norm = layer.k_norm,
                  .norm_eps = spec_.norm_eps,
                  .rope = ropes_[group].get(),
                  .q_scale = spec_.query_scale,
                  .spans = buffers.spans,
                  .block_table = buffers.block_tables[group],
                  .kv = kv[group],
                  .layer = layer.index_in_group});
  ops_.attention({.out = x.attended,
                  .qkv = x.qkv,
                  .q_heads = heads,
                  .kv_heads = kv_heads,
                  .head_dim = head_dim,
                  .kv_head_of = kv_head_of_,
                  .window = spec_.kv_groups[group].window,
                  .spans = buffers.spans,
                  .block_table = buffers.block_tables[group],
                  .kv = kv[group],
                  .layer = layer.index_in_group});
  ops_.matmul(x.projected, x.attended, layer.attention_out, nullptr);
  if (group_) ops_.all_reduce(x.projected);
  if (layer.attention_post_norm) {
    ops_.rms_norm(x.projected, x.projected, layer.attention_post_norm, spec_.norm_eps);
  }
}

void Decoder::record_feed_forward(const Layer& layer, const Activations& x) {
  ops_.matmul(x.gate_up, x.normed, layer.gate_up, nullptr);
  ops_.gated_activation(x.gated, x.gate_up, spec_.gate);
  ops_.matmul(x.projected, x.gated, layer.ffn_down, nullptr);
  if (group_) ops_.all_reduce(x.projected);
  if (layer.ffn_post_norm) {
    ops_.rms_norm(x.projected, x.projected, layer.ffn_post_norm, spec_.norm_eps);
  }
}

}  // namespace chorus::models
