#include "kernels/cuda/large_matmul.h"

#include <catch2/catch.hpp>

namespace chorus::tests {

using kernels::cuda::plan_hopper;

TEST_CASE("large matmuls get the tile that fills whole waves") {
  // On 132 multiprocessors. 4 x 32 tiles of 192 are one wave; of 256, three quarters of a wave.
  CHECK(plan_hopper({.rows = 512, .out_columns = 6144, .k = 4096}, 132).tile_columns == 192);
  CHECK(plan_hopper({.rows = 512, .out_columns = 4096, .k = 4096}, 132).tile_columns == 128);
  CHECK(plan_hopper({.rows = 8192, .out_columns = 8192, .k = 8192}, 132).tile_columns == 256);
  // 32 tiles of 128 would leave a hundred multiprocessors without a share of the weights.
  CHECK(plan_hopper({.rows = 64, .out_columns = 4096, .k = 4096}, 132).splits == 4);
  CHECK(plan_hopper({.rows = 129, .out_columns = 4096, .k = 4096}, 132).splits == 1);
  // A gated tile of 256 holds 128 outputs.
  CHECK(plan_hopper({.rows = 4096, .out_columns = 14336, .k = 4096, .gated = true}, 132)
            .tile_columns == 256);
  CHECK(plan_hopper({.rows = 1, .out_columns = 4, .k = 8}, 1).tile_columns == 64);
}

}  // namespace chorus::tests
