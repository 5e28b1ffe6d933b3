#include "kernels/cuda/large_matmul.h"

#include <initializer_list>

namespace chorus::kernels::cuda {
namespace {

constexpr int kTileRows = 128;
// What a tile takes besides its multiplications, in columns' worth of time: narrow tiles load more
// for each of their sums. An estimate, not yet measured.
constexpr int64_t kTileOverhead = 24;

int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

}  // namespace

// The width whose whole waves of tiles take the shortest time; the wider one of equals.
int choose_tile_columns(const LargeMatmul& shape, int multiprocessors) {
  int best = 256;
  int64_t best_time = INT64_MAX;
  for (const int columns : {256, 192, 128, 64}) {
    const int64_t tiles = ceil_div(shape.rows, kTileRows) *
                          ceil_div(shape.out_columns, shape.gated ? columns / 2 : columns);
    const int64_t time = ceil_div(tiles, multiprocessors) * (columns + kTileOverhead);
    if (time < best_time) best = columns, best_time = time;
  }
  return best;
}

// Not yet measured: our own kernel until a figure says otherwise.
bool prefers_cublaslt(const LargeMatmul&) {
  return false;
}

}  // namespace chorus::kernels::cuda
