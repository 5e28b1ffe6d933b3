#include "shard/weights/partition.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

#include "kernels/rounding.h"

namespace chorus::weights {
namespace {

using kernels::Range;

// Cuts `count` into `ranks` ranges whose borders are multiples of `unit` (but for the end).
Range cut(int64_t count, int64_t unit, int rank, int ranks) {
  const int64_t units = kernels::ceil_div(count, unit);
  const auto border = [&](int64_t r) { return std::min(count, units * r / ranks * unit); };
  return {border(rank), border(rank + 1)};
}

}  // namespace

Partition partition(const ModelShape& shape, int rank, int ranks) {
  if (ranks > shape.heads) {
    throw std::invalid_argument(fmt::format(
        "the model has {} attention heads: {} shards are too many", shape.heads, ranks));
  }
  const int64_t group = shape.heads / shape.kv_heads;
  Partition part;
  if (ranks <= shape.kv_heads) {
    part.kv_heads = cut(shape.kv_heads, 1, rank, ranks);
    part.heads = {part.kv_heads.begin * group, part.kv_heads.end * group};
  } else {
    part.heads = cut(shape.heads, 1, rank, ranks);
    part.kv_heads = {part.heads.begin / group, kernels::ceil_div(part.heads.end, group)};
  }
  // Multiples of 32 keep most cuts on the borders of quantised blocks; where they fall inside one
  // (K quants of 256), both ranks hold that block. Small layers are cut finer, so that none is
  // empty.
  const auto columns = [&](int64_t count) {
    return cut(count, count >= 32 * ranks ? 32 : 1, rank, ranks);
  };
  part.ffn = columns(shape.ffn);
  part.expert_ffn = columns(shape.expert_ffn);
  part.vocab = cut(shape.vocab, shape.vocab >= 16 * ranks ? 16 : 1, rank, ranks);
  return part;
}

}  // namespace chorus::weights
