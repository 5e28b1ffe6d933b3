// Attention for many query rows: tiles of 128 rows (a prompt's tokens times the heads of a group)
// walk all keys that they see, FlashAttention-2 style.
//
// Each of 8 warps has 16 rows: scores, weights and sums stay in its registers, queries are read
// from shared memory for each tile of keys, keys and values come by cp.async while the tile before
// is computed. At each multiple of kSpanTokens the sums are merged into totals in other registers,
// so that a row has the same bits as from the decode kernel. Heads of more than 128 dimensions:
// tiles of 64 rows, and two warps share 16 of them, each with half of the dimensions of the values
// (both multiply queries with keys).
//
// Keys and values of fp8 are turned into f16 once for all warps, before they are multiplied: each
// thread does so with the pieces that it copied, from a place apart to the tile of f16.
//
// Bound: the tensor cores; but each ldmatrix of keys or values feeds two mma only, so shared memory
// (2048 clocks for 128 rows x 64 keys x 128 dimensions) is as narrow as an A100's tensor cores, and
// twice as narrow as Hopper's, whose kernel for speed is attention_hopper.cu.
#include "kernels/cuda/attention_work.h"

namespace chorus::kernels::cuda::attention_work {
namespace {

constexpr int kWarps = 8, kThreads = 32 * kWarps;
template <int dim>
constexpr int kSlices = dim > 128 ? 2 : 1;
template <int dim>
constexpr int kRows = 16 * kWarps / kSlices<dim>;

template <typename Kv, int dim>
struct PrefillShared {
  Kv keys[2][kKeys<dim>][kPitch<Kv, dim>];
  Kv values[2][kKeys<dim>][kPitch<Kv, dim>];
  Kv queries[kRows<dim>][kPitch<Kv, dim>];
};
// A tile of fp8 on its way: half of the threads bring keys, the others values.
template <int dim>
struct Stored {
  static constexpr int kHalf = kThreads / 2;
  static constexpr int kPieces = kKeys<dim> * dim / 16 / kHalf;  // a thread

  uint4 piece[kPieces][kThreads];

  template <int tile_rows, int keys>
  __device__ void fetch(const Shape& shape, const Walk<tile_rows, keys>& walk) {
    const bool of_keys = threadIdx.x < kHalf;
    const auto* all = static_cast<const __nv_fp8_e4m3*>(of_keys ? shape.keys : shape.values);
    for_pieces<__nv_fp8_e4m3, dim, kHalf>(
        shape, walk, int(threadIdx.x) % kHalf, [&](int i, int, int, int64_t from, bool wanted) {
          ptx::copy_async_16(&piece[i][threadIdx.x], all + from, wanted ? 16 : 0);
        });
  }
  // The thread's own copies have been waited for.
  template <typename Shared>
  __device__ void convert(Shared& shared, int stage) const {
    auto& tile = threadIdx.x < kHalf ? shared.keys[stage] : shared.values[stage];
    const int thread = int(threadIdx.x) % kHalf;
#pragma unroll 1
    for (int i = 0; i < kPieces; ++i) {
      constexpr int a_row = dim / 16;
      const uint4 x = piece[i][threadIdx.x];
      __half* to = &tile[i * (kHalf / a_row) + thread / a_row][thread % a_row * 16];
#pragma unroll
      for (int round = 0; round < 2; ++round) {
        // Four threads beside four others whose banks are the same begin with the odd bytes.
        const int odd = dim > 64 ? (round ^ thread / 4) & 1 : round;
        const int shift = odd != 0 ? 0 : 8;
        *reinterpret_cast<uint4*>(to + 8 * odd) = {odd_bytes(x.x << shift), odd_bytes(x.y << shift),
                                                   odd_bytes(x.z << shift),
                                                   odd_bytes(x.w << shift)};
      }
    }
  }
};
template <int dim>
struct PrefillShared<__nv_fp8_e4m3, dim> : PrefillShared<__half, dim> {
  Stored<dim> stored;
};

template <typename Kv, int dim>
__global__ void __launch_bounds__(kThreads, 1)
    attention_prefill_kernel(const __grid_constant__ Shape shape,
                             const __grid_constant__ Work work) {
  constexpr int keys = kKeys<dim>;
  constexpr int pairs = dim / 16 / kSlices<dim>;  // of 8 dimensions, a warp
  using Shared = PrefillShared<Kv, dim>;
  using T = Operand<Kv>;
  Shared& shared = shared_memory<Shared>();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int warp_row = warp / kSlices<dim> * 16, slice = warp % kSlices<dim> * pairs * 16;
  ptx::let_successor_start();
  ptx::wait_for_predecessor();

  const int item_count = work.counts[1];
  const Item* items = work.prefill + (work.prefill_capacity - item_count);
  Walk<kRows<dim>, keys> ahead(shape, items, item_count, 1);
  const auto fetch = [&](int stage) {
    if (!ahead.done()) {
      if constexpr (kFp8<Kv>) {
        shared.stored.fetch(shape, ahead);
      } else {
        copy_tile<Kv, dim, kThreads>(shape, ahead, &shared.keys[stage][0][0],
                                     &shared.values[stage][0][0]);
      }
      ahead.advance(shape);
    }
    ptx::commit_copies();
  };
  fetch(0);

  int stage = 0;
  for (int index = int(blockIdx.x); index < item_count * shape.kv_heads; index += int(gridDim.x)) {
    const Item item = items[index / shape.kv_heads];
    const int kv_head = index % shape.kv_heads;
    const Rows rows = rows_of<kRows<dim>>(shape, item, kv_head);
    if (rows.count == 0) continue;
    const Range range = range_of(shape, item, rows, 1);
    load_queries<Kv, dim, kThreads, kRows<dim>>(shape, item, rows, &shared.queries[0][0]);

    Sight sight[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) sight[h] = sight_of(shape, item, rows, warp_row + lane / 4 + 8 * h);
    const Sight latest = sight_of(shape, item, rows, warp_row + 15);
    const Sight common = {
        // what all rows of the warp see
        latest.first, latest.last < 0 ? -1 : sight_of(shape, item, rows, warp_row).last};

    State<2 * pairs> total, state;
    total.clear();
    state.clear();
    for (int begin = range.begin / keys * keys; begin < range.end; begin += keys) {
      if (begin % kSpanTokens == 0 && begin > range.begin) {
        total.merge(state);
        state.clear();
      }
      ptx::wait_copies<0>();
      if constexpr (kFp8<Kv>) shared.stored.convert(shared, stage);
      __syncthreads();  // queries and tile are there for all; the tile before is free
      fetch(stage ^ 1);

      float scores[keys / 8][4] = {};
#pragma unroll
      for (int k = 0; k < dim / 16; ++k) {
        const auto a =
            ptx::ldmatrix_x4(&shared.queries[warp_row + lane % 16][k * 16 + lane / 16 * 8]);
#pragma unroll
        for (int n = 0; n < keys / 16; ++n) {
          const auto b = ptx::ldmatrix_x4(
              &shared.keys[stage][n * 16 + lane / 16 * 8 + lane % 8][k * 16 + lane / 8 % 2 * 8]);
          ptx::mma_m16n8k16<T>(scores[2 * n], a, {{b.x[0], b.x[1]}});
          ptx::mma_m16n8k16<T>(scores[2 * n + 1], a, {{b.x[2], b.x[3]}});
        }
      }
      if constexpr (kFp8<Kv>) {
#pragma unroll
        for (auto& fragment : scores) {
#pragma unroll
          for (float& score : fragment) score *= kUnit<Kv>;
        }
      }
      if (shape.soft_cap > 0) {
#pragma unroll
        for (auto& fragment : scores) {
#pragma unroll
          for (float& score : fragment) score = capped(shape, score);
        }
      }
      if (!common.sees(begin) || !common.sees(begin + keys - 1)) {
#pragma unroll
        for (int n = 0; n < keys / 8; ++n) {
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            if (!sight[i / 2].sees(begin + n * 8 + lane % 4 * 2 + i % 2)) scores[n][i] = -INFINITY;
          }
        }
      }
      float highest[2] = {-INFINITY, -INFINITY};
#pragma unroll
      for (int n = 0; n < keys / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) highest[i / 2] = fmaxf(highest[i / 2], scores[n][i]);
      }
#pragma unroll
      for (float& x : highest) x = ptx::warp_max<4>(x);
      state.raise(highest);

      // A warp's weights are the mma's accumulators turned into the operand of the next.
#pragma unroll
      for (int k = 0; k < keys / 16; ++k) {
        ptx::Fragment4 a;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const float* pair = &scores[2 * k + i / 2][i % 2 * 2];
          a.x[i] = ptx::pack<T>(weight_of(pair[0], state.maximum[i % 2]),
                                weight_of(pair[1], state.maximum[i % 2]));
        }
        ptx::mma_m16n8k16<T>(state.sum, a, ones<T>());
#pragma unroll
        for (int p = 0; p < pairs; ++p) {
          const auto b = ptx::ldmatrix_x4_transposed(
              &shared.values[stage][k * 16 + lane % 16][slice + p * 16 + lane / 16 * 8]);
          ptx::mma_m16n8k16<T>(state.values[2 * p], a, {{b.x[0], b.x[1]}});
          ptx::mma_m16n8k16<T>(state.values[2 * p + 1], a, {{b.x[2], b.x[3]}});
        }
      }
      stage ^= 1;
    }
    total.merge(state);

#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int r = warp_row + lane / 4 + 8 * h;
      if (r >= rows.count) continue;
      const float inverse = kUnit<Kv> / total.sum[2 * h];
      const int64_t row = item.row + rows.token(r);
      const int64_t from = rows.head_of(r) * shape.head_dim;
#pragma unroll
      for (int f = 0; f < 2 * pairs; ++f) {
        const auto pair = neighbours_of<Kv>(total, lane, f, h);
        const int column = slice + f / 2 * 16 + pair.column;
        if (column < shape.head_dim) {
          store_pair(shape, row, from + column, pair.x * inverse, pair.y * inverse);
        }
      }
    }
    __syncthreads();  // queries may be written again
  }
  ptx::wait_copies<0>();
}

template <typename Kv, int dim>
void launch_prefill(const Shape& shape, const Work& work, cudaStream_t stream) {
  // Registers allow one block a multiprocessor.
  launch(attention_prefill_kernel<Kv, dim>, dim3(unsigned(shape.multiprocessors)), dim3(kThreads),
         sizeof(PrefillShared<Kv, dim>), stream, shape, work);
}

template <typename Kv>
void prefill_as(const Shape& shape, const Work& work, cudaStream_t stream) {
  if (shape.head_dim <= 64) {
    launch_prefill<Kv, 64>(shape, work, stream);
  } else if (shape.head_dim <= 128) {
    launch_prefill<Kv, 128>(shape, work, stream);
  } else {
    launch_prefill<Kv, 256>(shape, work, stream);
  }
}

template <typename Kv>
int64_t shared_bytes_of(int head_dim) {
  return head_dim <= 64    ? sizeof(PrefillShared<Kv, 64>)
         : head_dim <= 128 ? sizeof(PrefillShared<Kv, 128>)
                           : sizeof(PrefillShared<Kv, 256>);
}

}  // namespace

int prefill_rows(int head_dim) {
  return head_dim > 128 ? kRows<256> : kRows<128>;
}

int64_t prefill_shared_bytes(DType cache, int head_dim) {
  return cache == DType::e4m3 ? shared_bytes_of<__nv_fp8_e4m3>(head_dim)
                              : shared_bytes_of<__half>(head_dim);
}

void prefill(const Shape& shape, const Work& work, DType cache, cudaStream_t stream) {
  if (cache == DType::f16) {
    prefill_as<__half>(shape, work, stream);
  } else if (cache == DType::e4m3) {
    prefill_as<__nv_fp8_e4m3>(shape, work, stream);
  } else {
    prefill_as<__nv_bfloat16>(shape, work, stream);
  }
}

}  // namespace chorus::kernels::cuda::attention_work
