#include "kernels/cuda/large_matmul.h"

#include <initializer_list>

namespace chorus::kernels::cuda {
namespace {

constexpr int kTileRows = 128;
// What a tile takes besides its multiplications, in columns' worth of time: narrow tiles load more
// for each of their sums. An estimate, not yet measured.
constexpr int64_t kTileOverhead = 24;
constexpr int64_t kClusterRowsMin = 1024;  // not yet measured either

int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

}  // namespace

// The width whose whole waves of tiles take the shortest time; the wider one of equals. Clusters
// where their second block is seldom idle.
HopperTile choose_tile(const LargeMatmul& shape, int multiprocessors) {
  HopperTile best;
  int64_t best_time = INT64_MAX;
  for (const int columns : {256, 192, 128, 64}) {
    const int64_t tiles = ceil_div(shape.rows, kTileRows) *
                          ceil_div(shape.out_columns, shape.gated ? columns / 2 : columns);
    const int64_t time = ceil_div(tiles, multiprocessors) * (columns + kTileOverhead);
    if (time < best_time) best.columns = columns, best_time = time;
  }
  const bool has_clusters = best.columns == 256 || best.columns == 128;
  if (has_clusters && shape.rows >= kClusterRowsMin) best.cluster = 2;
  return best;
}

// Not yet measured: our own kernel until a figure says otherwise.
bool prefers_cublaslt(const LargeMatmul&) {
  return false;
}

}  // namespace chorus::kernels::cuda
