// The matrix product over packed weights: out[r] = W x[r] + bias.
#pragma once

#include "kernels/cpu/backend.h"
#include "kernels/cpu/packed_weight.h"
#include "kernels/view.h"

namespace chorus::kernels {

struct MatmulCall {
  View out, x;
  std::shared_ptr<const MatrixWeight> weight;
  std::shared_ptr<const VectorWeight> bias;  // or null
};

// Asks for the scratch it needs.
Phases matmul_phases(const MatmulCall& call, const Backend& backend);

// The pieces of a product, for who cuts several products' work himself (experts.cc). Tiles of 8
// rows of x, or of 1 where there is but one row, lie one behind the other.
int64_t tile_bytes(const MatrixWeight& weight);  // of a tile of 8 rows; one of 1 needs less
// One tile's rows into the `tile`th place behind `tiles`.
void make_tile(const MatmulCall& call, const Backend& backend, std::byte* tiles, int64_t tile);
int64_t group_count(const MatrixWeight& weight);  // groups of 16 rows of the weight
// How many groups a worker takes at a time, of a product with so many rows of x.
int64_t chunk_groups(const MatrixWeight& weight, const Backend& backend, int64_t rows);
// out's columns of these groups. Needs the worker's own scratch: own_bytes.
void run_groups(const MatmulCall& call, const Backend& backend, int worker, Range groups,
                const std::byte* tiles);
int64_t own_bytes(const MatrixWeight& weight);

}  // namespace chorus::kernels
