// Norm, rotation and storing of keys and values, row by row.
#include <cassert>
#include <cmath>

#include "kernels/cpu/attention.h"

namespace chorus::kernels {
namespace {

const float* values_of(const Weight& weight) {
  return weight ? static_cast<const VectorWeight&>(*weight).values.data() : nullptr;
}

struct RowPlace {
  int64_t row = 0;
  int64_t position = 0;
  int64_t block = 0;
};

float q_growth(const QkvArgs& args, int64_t position) {
  const float steps = std::floor(static_cast<float>(position + 1) / args.q_growth_positions);
  return 1 + args.q_growth * std::log1p(steps);
}

// Rotates the first elements of a head, as many as the tables are for; scales them all.
void rotate_head(float* x, int64_t head_dim, const RopeTables* rope, int64_t position,
                 const CpuKernels& kernels, float factor) {
  const int64_t rotated = rope == nullptr ? 0 : 2 * rope->half();
  if (rope != nullptr) {
    kernels.rotate(x, rope->cosines(position), rope->sines(position), rope->half(), factor);
  }
  if (rotated < head_dim) kernels.scale(x + rotated, x + rotated, factor, head_dim - rotated);
}

void split_row(const QkvArgs& args, const CpuKernels& kernels, const RowPlace& place) {
  const auto& kv = static_cast<const KvBlocks&>(*args.kv);
  const auto* rope = static_cast<const RopeTables*>(args.rope);
  const int head_dim = args.head_dim;
  const int rotated_heads = args.q_heads + args.kv_heads;
  const int lane = static_cast<int>(place.position % kLaneRows);
  const float q_scale = args.q_scale * q_growth(args, place.position);
  float* x = row_of<float>(args.qkv, place.row);
  for (int head = 0; head < rotated_heads; ++head, x += head_dim) {
    const bool query = head < args.q_heads;
    const float* norm = values_of(query ? args.q_norm : args.k_norm);
    if (norm != nullptr) kernels.rms_norm(x, x, norm, head_dim, args.norm_eps);
    rotate_head(x, head_dim, rope, place.position, kernels, query ? q_scale : 1.0f);
    if (query) continue;
    kernels.to_f16_strided(kv.keys(place.block, args.layer, head - args.q_heads) + lane, kLaneRows,
                           x, head_dim);
  }
  const int64_t stride = padded_head_dim(head_dim);
  for (int head = 0; head < args.kv_heads; ++head, x += head_dim) {
    kernels.to_f16(kv.values(place.block, args.layer, head) + lane * stride, x, head_dim);
  }
}

}  // namespace

RopeTables::RopeTables(const RopeDescription& description, int64_t positions_max)
    : half_(static_cast<int64_t>(description.frequencies.size())) {
  cosines_.reserve(static_cast<size_t>(positions_max * half_));
  sines_.reserve(static_cast<size_t>(positions_max * half_));
  for (int64_t position = 0; position < positions_max; ++position) {
    for (const float frequency : description.frequencies) {
      const double angle = static_cast<double>(position) * static_cast<double>(frequency);
      const double magnitude = description.magnitude;
      cosines_.push_back(static_cast<float>(std::cos(angle) * magnitude));
      sines_.push_back(static_cast<float>(std::sin(angle) * magnitude));
    }
  }
}

Phase split_qkv_phase(const QkvArgs& args, const Backend& backend) {
  const auto cut = [&backend, qkv = args.qkv] {
    const int64_t rows = live_rows(qkv);
    return Cut{rows,
               std::clamp<int64_t>(rows / (backend.workers.count() * int64_t{4}), 1, kLaneRows)};
  };
  return cut_phase(cut, [&backend, args](int64_t row, int) {
    const int64_t spans = live_rows(args.spans);
    for (int64_t i = 0; i < spans; ++i) {
      const Span& span = *reinterpret_cast<const Span*>(row_of<int32_t>(args.spans, i));
      if (row < span.row || row >= span.row + span.count) continue;
      const int64_t position = span.position + row - span.row;
      const int32_t block = row_of<int32_t>(args.block_table, span.slot)[position / kLaneRows];
      split_row(args, backend.kernels, {row, position, block});
      return;
    }
  });
}

}  // namespace chorus::kernels
