#include "kernels/cuda/large_matmul.h"

#include <catch2/catch.hpp>

namespace chorus::tests {

using kernels::cuda::choose_tile_columns;

TEST_CASE("large matmuls get the tile that fills whole waves") {
  // On 132 multiprocessors. 4 x 32 tiles of 192 are one wave; of 256, three quarters of a wave.
  CHECK(choose_tile_columns({.rows = 512, .out_columns = 6144, .k = 4096}, 132) == 192);
  CHECK(choose_tile_columns({.rows = 512, .out_columns = 4096, .k = 4096}, 132) == 128);
  CHECK(choose_tile_columns({.rows = 8192, .out_columns = 8192, .k = 8192}, 132) == 256);
  CHECK(choose_tile_columns({.rows = 128, .out_columns = 4096, .k = 4096}, 132) == 64);
  // A gated tile of 256 holds 128 outputs.
  CHECK(choose_tile_columns({.rows = 4096, .out_columns = 14336, .k = 4096, .gated = true}, 132) ==
        256);
  CHECK(choose_tile_columns({.rows = 1, .out_columns = 4, .k = 8}, 1) == 64);
}

}  // namespace chorus::tests
