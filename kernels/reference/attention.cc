#include "kernels/reference/attention.h"

#include <cmath>
#include <limits>
#include <new>

namespace chorus::kernels::reference {
namespace {

// A token row's place in its sequence.
struct Place {
  int64_t row = 0;
  int64_t position = 0;
  const int32_t* blocks = nullptr;  // the sequence's block table
};

// Calls visit(place) for every token row that belongs to a span.
template <class Visit>
void for_each_token(const View& spans, const View& block_table, const Visit& visit) {
  for (int64_t i = 0; i < live_rows(spans); ++i) {
    const int32_t* numbers = row_of<int32_t>(spans, i);
    const Span span{numbers[0], numbers[1], numbers[2], numbers[3]};
    for (int64_t t = 0; t < span.count; ++t) {
      visit(Place{span.row + t, span.position + t, row_of<int32_t>(block_table, span.slot)});
    }
  }
}

float q_growth(const QkvArgs& args, int64_t position) {
  const float steps = std::floor(static_cast<float>(position + 1) / args.q_growth_positions);
  return 1 + args.q_growth * std::log1p(steps);
}

int64_t first_seen(const AttentionArgs& args, int64_t position) {
  if (args.chunk > 0) return position - position % args.chunk;
  return args.window > 0 ? std::max<int64_t>(0, position - args.window + 1) : 0;
}

void split_row(const QkvArgs& args, const Place& place) {
  const VectorWeight* q_norm = vector(args.q_norm);
  const VectorWeight* k_norm = vector(args.k_norm);
  const auto* rope = static_cast<const RopeTables*>(args.rope);
  const auto* kv = static_cast<const KvBlocks*>(args.kv);
  const int64_t dim = args.head_dim;
  const int32_t block = place.blocks[place.position / kBlockTokens];
  const int64_t offset = place.position % kBlockTokens;

  const float q_scale = args.q_scale * q_growth(args, place.position);
  float* x = row_of<float>(args.qkv, place.row);
  for (int head = 0; head < args.q_heads; ++head, x += dim) {
    if (q_norm != nullptr) normalize(x, x, *q_norm, dim, args.norm_eps);
    if (rope != nullptr) rope->rotate(x, place.position);
    for (int64_t i = 0; i < dim; ++i) x[i] *= q_scale;
  }
  for (int head = 0; head < args.kv_heads; ++head, x += dim) {
    if (k_norm != nullptr) normalize(x, x, *k_norm, dim, args.norm_eps);
    if (rope != nullptr) rope->rotate(x, place.position);
    std::copy_n(x, dim, kv->key(block, args.layer, head, offset));
  }
  for (int head = 0; head < args.kv_heads; ++head, x += dim) {
    std::copy_n(x, dim, kv->value(block, args.layer, head, offset));
  }
}

void attend(const AttentionArgs& args, const Place& place, int head, std::vector<float>& scores) {
  const auto* kv = static_cast<const KvBlocks*>(args.kv);
  const int kv_head = args.kv_head_of[static_cast<size_t>(head)];
  const int64_t dim = args.head_dim;
  const int64_t first = first_seen(args, place.position);
  const float* q = row_of<float>(args.qkv, place.row) + head * dim;
  float* out = row_of<float>(args.out, place.row) + head * dim;

  scores.clear();
  float max = -std::numeric_limits<float>::infinity();
  for (int64_t p = first; p <= place.position; ++p) {
    const int32_t block = place.blocks[p / kBlockTokens];
    const float score = dot(q, kv->key(block, args.layer, kv_head, p % kBlockTokens), dim);
    scores.push_back(args.soft_cap > 0 ? capped(score, args.soft_cap) : score);
    max = std::max(max, scores.back());
  }
  float sum = 0;
  std::fill_n(out, dim, 0.0F);
  for (int64_t p = first; p <= place.position; ++p) {
    const float weight = std::exp(scores[static_cast<size_t>(p - first)] - max);
    const int32_t block = place.blocks[p / kBlockTokens];
    const float* value = kv->value(block, args.layer, kv_head, p % kBlockTokens);
    sum += weight;
    for (int64_t i = 0; i < dim; ++i) out[i] += weight * value[i];
  }
  for (int64_t i = 0; i < dim; ++i) out[i] /= sum;
}

}  // namespace

RopeTables::RopeTables(const RopeDescription& description, int64_t positions_max)
    : half_(static_cast<int64_t>(description.frequencies.size())) {
  for (int64_t position = 0; position < positions_max; ++position) {
    for (const float frequency : description.frequencies) {
      const double angle = static_cast<double>(position) * static_cast<double>(frequency);
      const double magnitude = description.magnitude;
      cosines_.push_back(static_cast<float>(std::cos(angle) * magnitude));
      sines_.push_back(static_cast<float>(std::sin(angle) * magnitude));
    }
  }
}

void RopeTables::rotate(float* x, int64_t position) const {
  assert((position + 1) * half_ <= static_cast<int64_t>(cosines_.size()));
  const float* cosines = cosines_.data() + position * half_;
  const float* sines = sines_.data() + position * half_;
  for (int64_t i = 0; i < half_; ++i) {
    const float a = x[i], b = x[half_ + i];
    x[i] = a * cosines[i] - b * sines[i];
    x[half_ + i] = b * cosines[i] + a * sines[i];
  }
}

KvBlocks::KvBlocks(const KvShape& wanted)
    : floats_(static_cast<float*>(
          std::calloc(static_cast<size_t>(std::max<int64_t>(1, wanted.blocks)),
                      static_cast<size_t>(std::max<int64_t>(1, block_floats(wanted))) * 4))) {
  if (floats_ == nullptr) throw std::bad_alloc();
  shape = wanted;
}

int64_t KvBlocks::block_floats(const KvShape& shape) {
  return int64_t{2} * shape.layers * shape.kv_heads * kBlockTokens * shape.head_dim;
}

float* KvBlocks::block(int32_t idx) const {
  assert(idx >= 0 && idx < shape.blocks);
  return floats_.get() + idx * block_floats(shape);
}

float* KvBlocks::key(int32_t block_idx, int layer, int head, int64_t offset) const {
  assert(layer < shape.layers && head < shape.kv_heads);
  const int64_t pair = int64_t{layer} * shape.kv_heads + head;
  return block(block_idx) + (pair * 2 * kBlockTokens + offset) * shape.head_dim;
}

float* KvBlocks::value(int32_t block_idx, int layer, int head, int64_t offset) const {
  return key(block_idx, layer, head, offset + kBlockTokens);
}

void split_qkv(const QkvArgs& args, Share share) {
  const Range mine = share.of(live_rows(args.qkv));
  for_each_token(args.spans, args.block_table, [&](const Place& place) {
    if (place.row >= mine.begin && place.row < mine.end) split_row(args, place);
  });
}

void attention(const AttentionArgs& args, Share share) {
  // Heads in turn, not in ranges: late rows see more positions than early ones.
  std::vector<float> scores;
  for_each_token(args.spans, args.block_table, [&](const Place& place) {
    for (int head = 0; head < args.q_heads; ++head) {
      const int64_t turn = place.row * args.q_heads + head;
      if (turn % share.workers == share.worker) attend(args, place, head, scores);
    }
  });
}

}  // namespace chorus::kernels::reference
