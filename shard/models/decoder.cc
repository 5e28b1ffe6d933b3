#include "shard/models/decoder.h"

#include <cassert>

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
  const int64_t heads_per_kv = spec_.shape.heads / spec_.shape.kv_heads;
  for (int64_t head = partition.heads.begin; head < partition.heads.end; ++head) {
    kv_head_of_.push_back(static_cast<int>(head / heads_per_kv - partition.kv_heads.begin));
  }
  make_ropes();
  const std::vector<float> ones(static_cast<size_t>(spec_.shape.head_dim), 1);
  ones_ = ops.prepare_vector({.parts = {{.data = reinterpret_cast<const std::byte*>(ones.data()),
                                         .type = kernels::WeightType::f32,
                                         .range = {0, spec_.shape.head_dim}}}});

  const double parts = spec_.layers + 2;
  embedding_ = loader.load_table(*spec_.find(Role::embedding));
  std::vector<int> layers_in_group(spec_.kv_groups.size());
  for (int i = 0; i < spec_.layers; ++i) {
    progress(i / parts);
    layers_.push_back(load_layer(loader, i));
    layers_.back().index_in_group = layers_in_group[static_cast<size_t>(layers_.back().group)]++;
  }
  progress(spec_.layers / parts);
  output_norm_ = load(loader, Role::output_norm);
  output_ = load(loader, Role::output);
  if (!output_) output_ = load(loader, Role::embedding);  // tied
  progress(1);
}

void Decoder::make_ropes() {
  for (const KvGroupSpec& group : spec_.kv_groups) {
    const bool is_long = group.short_context > 0 && spec_.context_max > group.short_context;
    const auto& rope = is_long ? group.long_rope : group.rope;
    ropes_.push_back(rope.frequencies.empty() ? nullptr : ops_.make_rope(rope, spec_.context_max));
  }
}

Weight Decoder::load(weights::Loader& loader, Role role, int layer) {
  const auto* entry = spec_.find(role);
  if (entry == nullptr) return nullptr;
  Weight weight = loader.load(*entry, layer);
  if (weight) weights_bytes_ += weight->bytes;
  return weight;
}

std::vector<Weight> Decoder::load_experts(weights::Loader& loader, Role role, int layer) {
  auto weights = loader.load_experts(*spec_.find(role), layer, spec_.mixture.experts);
  for (const Weight& weight : weights) weights_bytes_ += weight->bytes;
  return weights;
}

Decoder::Layer Decoder::load_layer(weights::Loader& loader, int index) {
  const auto at = static_cast<size_t>(index);
  const int group = spec_.group_of_layer[at];
  const auto part = [&](Role role) { return load(loader, role, index); };
  const bool unit = spec_.kv_groups[static_cast<size_t>(group)].unit_qk_norm;
  Layer layer;
  layer.group = group;
  layer.attention_norm = part(Role::attention_norm);
  layer.qkv = part(Role::qkv);
  layer.qkv_bias = part(Role::qkv_bias);
  layer.q_norm = unit ? ones_ : part(Role::q_norm);
  layer.k_norm = unit ? ones_ : part(Role::k_norm);
  layer.attention_out = part(Role::attention_out);
  layer.attention_post_norm = part(Role::attention_post_norm);
  layer.ffn_norm = part(Role::ffn_norm);
  layer.ffn_post_norm = part(Role::ffn_post_norm);
  if (!spec_.mixture.layers.empty() && spec_.mixture.layers[at]) {
    layer.gate_up = part(Role::shared_gate_up);
    layer.ffn_down = part(Role::shared_down);
    layer.router = part(Role::router);
    layer.expert_gate_up = load_experts(loader, Role::expert_gate_up, index);
    layer.expert_down = load_experts(loader, Role::expert_down, index);
  } else {
    layer.gate_up = part(Role::gate_up);
    layer.ffn_down = part(Role::ffn_down);
  }
  return layer;
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
  buffers.activations = make_activations(buffers, limits);
  return buffers;
}

Activations Decoder::make_activations(const StepBuffers& buffers, const StepLimits& limits) {
  const auto* tokens = buffers.tokens.live_rows;
  const int64_t heads = partition_.heads.size(), kv_heads = partition_.kv_heads.size();
  const auto make = [&](int64_t cols, DType type = DType::f32) {
    return ops_.allocate(type, limits.tokens, cols, tokens);
  };
  const auto make_operand = [&](int64_t cols) { return make(cols, ops_.operand_type()); };
  Activations x;
  x.residual = make(spec_.hidden);
  x.normed = make_operand(spec_.hidden);
  x.qkv = make((heads + 2 * kv_heads) * spec_.shape.head_dim);
  x.attended = make_operand(heads * spec_.shape.head_dim);
  x.projected = make(spec_.hidden);
  if (spec_.shape.ffn > 0) {
    x.gate_up = make(2 * partition_.ffn.size());
    x.gated = make_operand(partition_.ffn.size());
  }
  if (spec_.find(Role::shared_gate_up) != nullptr) {
    x.shared_gate_up = make(2 * partition_.expert_ffn.size());
    x.shared_gated = make_operand(partition_.expert_ffn.size());
  }
  if (spec_.mixture.experts > 0) {
    x.router = make(spec_.mixture.experts);
    x.experts = make(spec_.mixture.chosen, DType::i32);
    x.expert_weights = make(spec_.mixture.chosen);
  }
  x.last =
      ops_.allocate(ops_.operand_type(), limits.wanted, spec_.hidden, buffers.wanted.live_rows);
  return x;
}

Programs Decoder::record(const StepBuffers& buffers, const std::vector<kernels::KvStore*>& kv) {
  assert(kv.size() == spec_.kv_groups.size());
  const Activations& x = buffers.activations;
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
  if (spec_.logit_cap > 0) ops_.soft_cap(buffers.logits, spec_.logit_cap);
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
  const KvGroupSpec& attends = spec_.kv_groups[group];
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
                  .q_growth = attends.q_growth,
                  .q_growth_positions = attends.q_growth_positions,
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
                  .window = attends.chunked ? 0 : attends.window,
                  .chunk = attends.chunked ? attends.window : 0,
                  .soft_cap = spec_.attention_cap,
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
  if (layer.gate_up) {
    const View& gate_up = layer.mixture() ? x.shared_gate_up : x.gate_up;
    const View& gated = layer.mixture() ? x.shared_gated : x.gated;
    ops_.matmul(gate_up, x.normed, layer.gate_up, nullptr);
    ops_.gated_activation(gated, gate_up, spec_.gate);
    ops_.matmul(x.projected, gated, layer.ffn_down, nullptr);
  }
  if (layer.mixture()) record_experts(layer, x);
  if (group_) ops_.all_reduce(x.projected);
  if (layer.ffn_post_norm) {
    ops_.rms_norm(x.projected, x.projected, layer.ffn_post_norm, spec_.norm_eps);
  }
}

// Every rank routes alike: the router is whole on each, and its input has the same bits.
void Decoder::record_experts(const Layer& layer, const Activations& x) {
  const MixtureSpec& mixture = spec_.mixture;
  ops_.matmul(x.router, x.normed, layer.router, nullptr);
  ops_.route_experts({.logits = x.router,
                      .experts = x.experts,
                      .weights = x.expert_weights,
                      .score = mixture.score,
                      .normalised = mixture.normalised});
  ops_.experts({.out = x.projected,
                .x = x.normed,
                .experts = x.experts,
                .weights = x.expert_weights,
                .gate_up = layer.expert_gate_up,
                .down = layer.expert_down,
                .gate = spec_.gate,
                .weigh_input = mixture.weigh_input,
                .add = layer.gate_up != nullptr});
}

}  // namespace chorus::models
