#include "kernels/cuda/large_matmul.h"

#include <initializer_list>

#include "kernels/rounding.h"

namespace chorus::kernels::cuda {
namespace {

// What a tile takes besides its multiplications, in columns' worth of time: narrow tiles load more
// for each of their sums. An estimate; the best tile by measurement is within 7 % of its choice
// (H200, 512 to 8192 rows).
constexpr int64_t kTileOverhead = 24;
constexpr int64_t kSplitKMin = 1024;  // k of a split
constexpr int64_t kSplitCost = 32;    // in a quarter of the same unit

}  // namespace

// The width whose whole waves of tiles take the shortest time; the wider one of equals. A product
// of one row of tiles is bound by the weights' bytes, which it takes a multiprocessor for each tile
// to fetch: there k is cut as well, where that keeps more of them busy.
HopperPlan plan_hopper(const LargeMatmul& shape, int multiprocessors) {
  HopperPlan best;
  int64_t best_time = INT64_MAX;
  const bool few = shape.rows <= kHopperTileRows && !shape.gated;
  for (const int columns : {256, 192, 128, 64}) {
    const int64_t tiles = ceil_div(shape.rows, kHopperTileRows) *
                          ceil_div(shape.out_columns, shape.gated ? columns / 2 : columns);
    for (const int splits : {1, 2, 4}) {
      if (splits > 1 && (!few || shape.k < splits * kSplitKMin)) break;
      const int64_t time = ceil_div(tiles * splits, multiprocessors) *
                           (4 * (columns + kTileOverhead) / splits + (splits > 1 ? kSplitCost : 0));
      if (time < best_time) best = {columns, splits}, best_time = time;
    }
  }
  return best;
}

}  // namespace chorus::kernels::cuda
