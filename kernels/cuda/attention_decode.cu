// Attention for few query rows: tiles of 16 rows (the heads of a KV head's group, times a few
// tokens) over a run of key spans each, or over all keys.
//
// A block of 4 warps walks the tiles of its items, one span after the other; a ring of tiles in
// shared memory is filled by cp.async across item borders, so that 64 KB and more are on their way
// in each multiprocessor. For a tile, each warp multiplies the 16 query rows with a quarter of the
// keys (mma, queries as the 16-row operand), the warps exchange the rows' maxima, write their
// weights to shared memory, and then each sums up a quarter of the head's dimensions over all keys.
// The last block of a row tile to finish merges the parts in order.
//
// Bound: bytes of keys and values, each read once. A tile of 64 tokens of 128 dimensions is 32 KB:
// at 4.8 TB/s a multiprocessor of an H200 has 900 ns for it, and takes about 400 ns when one block
// is alone (two mma chains of 8 and 4 links, three barriers); two blocks overlap. An item costs
// some microseconds beside its tiles, in which nothing is multiplied: it and its queries are read,
// one after the other, and its end is counted. With one span an item, which is four tiles, 64
// sequences reached 51 to 59 % of an H200's bandwidth; hence the runs.
#include <algorithm>

#include "kernels/cuda/attention_work.h"

namespace chorus::kernels::cuda::attention_work {
namespace {

constexpr int kWarps = 4, kThreads = 32 * kWarps;
constexpr int kMergedAtOnce = 32;  // parts, one per lane

template <typename Kv, int dim, int stages>
struct DecodeShared {
  using T = Operand<Kv>;
  Kv keys[stages][kKeys<dim>][kPitch<Kv, dim>];
  Kv values[stages][kKeys<dim>][kPitch<Kv, dim>];
  T queries[kDecodeRows][kPitch<T, dim>];
  T weights[kDecodeRows][kKeys<dim> + 8];
  float highest[kWarps][kDecodeRows];
  Shares shares[kWarps][kMergedAtOnce];
  float sums[kWarps][kMergedAtOnce];
  uint32_t arrived;
};

// Where the parts of an item's tile keep row `r`.
__device__ inline int64_t partial_of(const Shape& shape, const Item& item, int kv_head, int part,
                                     int r) {
  const int rows = min(kDecodeRows, item.count * shape.group_max);
  return item.partials + int64_t(kv_head * item.parts + part) * rows + r;
}

// What a block has found in one span, for the block that merges: row 0 goes to `at`.
template <typename Kv, int pairs>
__device__ inline void store_part(const Shape& shape, const Work& work,
                                  const State<2 * pairs>& state, const Rows& rows, int64_t at,
                                  int warp, int lane) {
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int r = lane / 4 + 8 * h;
    if (r >= rows.count) continue;
    if (warp == 0 && lane % 4 == 0) work.states[at + r] = {state.maximum[h], state.sum[2 * h]};
#pragma unroll
    for (int f = 0; f < 2 * pairs; ++f) {
      const auto pair = neighbours_of<Kv>(state, lane, f, h);
      const int column = (warp + f / 2 * kWarps) * 16 + pair.column;
      if (column < shape.head_dim) {
        *reinterpret_cast<float2*>(work.values + (at + r) * shape.head_dim + column) = {pair.x,
                                                                                        pair.y};
      }
    }
  }
}

// The last block of a tile merges its parts, a warp per row, 32 parts at a time: lanes find out
// what each is multiplied by, then hold two dimensions each.
template <typename Kv, int dim, typename Shared>
__device__ inline void merge_parts(const Shape& shape, const Work& work, const Item& item,
                                   const Rows& rows, int kv_head, Shared& shared) {
  constexpr int kPairs = dim / 64;  // of dimensions a lane
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  for (int r = warp; r < rows.count; r += kWarps) {
    float maximum = kLowest, sum = 0;
    float2 value[kPairs]{};
    for (int begin = 0; begin < item.parts; begin += kMergedAtOnce) {
      const bool some = begin + lane < item.parts;
      float2 state{kLowest, 0};
      if (some) state = work.states[partial_of(shape, item, kv_head, begin + lane, r)];
      // The maximum before and after each part, as if they came one after the other.
      float after = state.x;
      for (int distance = 1; distance < 32; distance *= 2) {
        const float earlier = __shfl_up_sync(~0U, after, distance);
        if (lane >= distance) after = fmaxf(after, earlier);
      }
      after = fmaxf(after, maximum);
      float before = __shfl_up_sync(~0U, after, 1);
      if (lane == 0) before = maximum;
      maximum = __shfl_sync(~0U, after, 31);
      __syncwarp();  // the round before has read them
      shared.shares[warp][lane] = merge_maximum(before, state.x);
      shared.sums[warp][lane] = state.y;
      __syncwarp();
      const int count = min(kMergedAtOnce, item.parts - begin);
#pragma unroll 8
      for (int p = 0; p < count; ++p) {  // many loads under way
        const Shares shares = shared.shares[warp][p];
        sum = merged(sum, shared.sums[warp][p], shares);
        const float* from =
            work.values + partial_of(shape, item, kv_head, begin + p, r) * shape.head_dim;
#pragma unroll
        for (int i = 0; i < kPairs; ++i) {
          const int column = 64 * i + 2 * lane;
          if (column < shape.head_dim) {
            const float2 part = *reinterpret_cast<const float2*>(from + column);
            value[i].x = merged(value[i].x, part.x, shares);
            value[i].y = merged(value[i].y, part.y, shares);
          }
        }
      }
    }
    const float inverse = kUnit<Kv> / sum;
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      const int column = 64 * i + 2 * lane;
      if (column < shape.head_dim) {
        store_pair(shape, item.row + rows.token(r), rows.head_of(r) * shape.head_dim + column,
                   value[i].x * inverse, value[i].y * inverse);
      }
    }
  }
}

// Scores of eight keys, which stand in eight rows of shared memory.
template <typename Kv, int dim>
__device__ inline void multiply_keys(float (&scores)[4], const ptx::Fragment4 (&queries)[dim / 16],
                                     const Kv (*keys)[kPitch<Kv, dim>], int lane) {
  if constexpr (kFp8<Kv>) {
#pragma unroll
    for (int k = 0; k < dim / 16; k += 4) {
      const auto b = ptx::ldmatrix_x4(&keys[lane % 8][k * 16 + lane / 8 * 16]);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        ptx::mma_m16n8k16<__half>(scores, queries[k + i],
                                  {{even_bytes(b.x[i]), odd_bytes(b.x[i])}});
      }
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) scores[i] *= kUnit<Kv>;
  } else {
#pragma unroll
    for (int k = 0; k < dim / 16; k += 2) {
      const auto b = ptx::ldmatrix_x4(&keys[lane % 8][k * 16 + lane / 8 * 8]);
      ptx::mma_m16n8k16<Kv>(scores, queries[k], {{b.x[0], b.x[1]}});
      ptx::mma_m16n8k16<Kv>(scores, queries[k + 1], {{b.x[2], b.x[3]}});
    }
  }
}

// Sums up the warp's dimensions of the values of a tile, 16 * (warp + 4 p) ....
template <typename Kv, int dim, typename T = Operand<Kv>>
__device__ inline void add_values(State<dim / 8 / kWarps>& state,
                                  const T (&weights)[kDecodeRows][kKeys<dim> + 8],
                                  const Kv (&values)[kKeys<dim>][kPitch<Kv, dim>], int warp,
                                  int lane) {
  constexpr int pairs = dim / 16 / kWarps;  // of 8 dimensions
  constexpr int step = kFp8<Kv> ? 2 : 1;    // groups of 16 keys an ldmatrix of values
#pragma unroll
  for (int k = 0; k < kKeys<dim> / 16; k += step) {
    ptx::Fragment4 a[step];
#pragma unroll
    for (int i = 0; i < step; ++i) {
      a[i] = ptx::ldmatrix_x4(&weights[lane % 16][(k + i) * 16 + lane / 16 * 8]);
      ptx::mma_m16n8k16<T>(state.sum, a[i], ones<T>());
    }
#pragma unroll
    for (int p = 0; p < pairs; ++p) {
      const int column = (warp + kWarps * p) * 16;
      if constexpr (kFp8<Kv>) {
        const auto b = ptx::ldmatrix_x4_transposed(&values[k * 16 + lane][column]);
#pragma unroll
        for (int i = 0; i < step; ++i) {
          const uint32_t* x = &b.x[2 * i];
          ptx::mma_m16n8k16<T>(state.values[2 * p], a[i], {{even_bytes(x[0]), even_bytes(x[1])}});
          ptx::mma_m16n8k16<T>(state.values[2 * p + 1], a[i], {{odd_bytes(x[0]), odd_bytes(x[1])}});
        }
      } else {
        const auto b =
            ptx::ldmatrix_x4_transposed(&values[k * 16 + lane % 16][column + lane / 16 * 8]);
        ptx::mma_m16n8k16<T>(state.values[2 * p], a[0], {{b.x[0], b.x[1]}});
        ptx::mma_m16n8k16<T>(state.values[2 * p + 1], a[0], {{b.x[2], b.x[3]}});
      }
    }
  }
}

// How many blocks of a multiprocessor find registers.
template <int dim>
inline constexpr int kBlocksAtOnce = dim == 64    ? 4
                                     : dim == 128 ? 3
                                                  : 2;

template <typename Kv, int dim, int stages>
__global__ void __launch_bounds__(kThreads, kBlocksAtOnce<dim>)
    attention_decode_kernel(const __grid_constant__ Shape shape,
                            const __grid_constant__ Work work) {
  constexpr int keys = kKeys<dim>, warp_keys = keys / kWarps;
  constexpr int pairs = dim / 16 / kWarps;  // of 8 dimensions, a warp
  using Shared = DecodeShared<Kv, dim, stages>;
  using T = Operand<Kv>;
  Shared& shared = shared_memory<Shared>();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  ptx::let_successor_start();
  ptx::wait_for_predecessor();

  const int item_count = work.counts[0], run = work.counts[2];
  const Item* items = work.decode + (work.decode_capacity - item_count);
  Walk<kDecodeRows, keys> ahead(shape, items, item_count, run);
  const auto fetch = [&](int stage) {
    if (!ahead.done()) {
      copy_tile<Kv, dim, kThreads>(shape, ahead, &shared.keys[stage][0][0],
                                   &shared.values[stage][0][0]);
      ahead.advance(shape);
    }
    ptx::commit_copies();
  };
  for (int stage = 0; stage < stages; ++stage) fetch(stage);

  int stage = 0;
  bool full = true;  // as fetched at first: nothing has been used up yet
  for (int index = int(blockIdx.x); index < item_count * shape.kv_heads; index += int(gridDim.x)) {
    const Item item = items[index / shape.kv_heads];
    const int kv_head = index % shape.kv_heads;
    const Rows rows = rows_of<kDecodeRows>(shape, item, kv_head);
    if (rows.count == 0) continue;
    const bool whole = item.part == kWhole;
    const Range range = range_of(shape, item, rows, run);
    const Range spans = whole ? Range{range.begin / kSpanTokens, (range.end - 1) / kSpanTokens + 1}
                              : spans_of(shape, item, run);

    load_queries<Kv, dim, kThreads, kDecodeRows>(shape, item, rows, &shared.queries[0][0]);
    __syncthreads();
    ptx::Fragment4 queries[dim / 16];
#pragma unroll
    for (int k = 0; k < dim / 16; ++k) {
      queries[k] = ptx::ldmatrix_x4(&shared.queries[lane % 16][k * 16 + lane / 16 * 8]);
    }
    Sight sight[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) sight[h] = sight_of(shape, item, rows, lane / 4 + 8 * h);

    State<2 * pairs> total;
    total.clear();
    for (int span = spans.begin; span < spans.end; ++span) {
      State<2 * pairs> state;
      state.clear();
      const int end = min(range.end, (span + 1) * kSpanTokens);
      for (int begin = max(range.begin / keys * keys, span * kSpanTokens); begin < end;
           begin += keys) {
        if (full) {
          ptx::wait_copies<stages - 1>();
        } else {
          ptx::wait_copies<stages - 2>();
        }
        __syncthreads();  // the tile is there for all, and nobody reads the one before any more
        if (!full) fetch((stage + stages - 1) % stages);
        full = false;

        // Scores of this warp's keys.
        float scores[warp_keys / 8][4] = {};
        float highest[2] = {-INFINITY, -INFINITY};
#pragma unroll
        for (int n = 0; n < warp_keys / 8; ++n) {
          const int key = warp * warp_keys + n * 8;
          multiply_keys<Kv, dim>(scores[n], queries, &shared.keys[stage][key], lane);
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            const bool seen = sight[i / 2].sees(begin + key + lane % 4 * 2 + i % 2);
            if (shape.soft_cap > 0) scores[n][i] = capped(shape, scores[n][i]);
            if (!seen) scores[n][i] = -INFINITY;
            highest[i / 2] = fmaxf(highest[i / 2], scores[n][i]);
          }
        }
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          highest[h] = ptx::warp_max<4>(highest[h]);
          if (lane % 4 == 0) shared.highest[warp][lane / 4 + 8 * h] = highest[h];
        }
        __syncthreads();
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          for (int w = 0; w < kWarps; ++w) {
            highest[h] = fmaxf(highest[h], shared.highest[w][lane / 4 + 8 * h]);
          }
        }
        state.raise(highest);
#pragma unroll
        for (int n = 0; n < warp_keys / 8; ++n) {
#pragma unroll
          for (int h = 0; h < 2; ++h) {
            *reinterpret_cast<uint32_t*>(
                &shared.weights[lane / 4 + 8 * h][warp * warp_keys + n * 8 + lane % 4 * 2]) =
                ptx::pack<T>(weight_of(scores[n][2 * h], state.maximum[h]),
                             weight_of(scores[n][2 * h + 1], state.maximum[h]));
          }
        }
        __syncthreads();

        add_values<Kv, dim>(state, shared.weights, shared.values[stage], warp, lane);
        stage = (stage + 1) % stages;
      }
      if (whole) {
        total.merge(state);
      } else {
        const int part = item.part + span - spans.begin;
        store_part<Kv, pairs>(shape, work, state, rows, partial_of(shape, item, kv_head, part, 0),
                              warp, lane);
      }
    }

    if (whole) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int r = lane / 4 + 8 * h;
        if (r >= rows.count) continue;
        const float inverse = kUnit<Kv> / total.sum[2 * h];
#pragma unroll
        for (int f = 0; f < 2 * pairs; ++f) {
          const auto pair = neighbours_of<Kv>(total, lane, f, h);
          const int column = (warp + f / 2 * kWarps) * 16 + pair.column;
          if (column < shape.head_dim) {
            store_pair(shape, item.row + rows.token(r), rows.head_of(r) * shape.head_dim + column,
                       pair.x * inverse, pair.y * inverse);
          }
        }
      }
    } else {
      // The barrier hands the block's writes to thread 0, whose counting hands them on.
      __syncthreads();
      if (threadIdx.x == 0) {
        uint32_t* arrived = work.arrived + item.partials / 2 + kv_head;
        shared.arrived = ptx::fetch_add(arrived, 1);
        if (shared.arrived + 1 == uint32_t(items_of(item.parts, run)))
          *arrived = 0;  // for the next launch
      }
      __syncthreads();
      if (shared.arrived + 1 == uint32_t(items_of(item.parts, run))) {
        merge_parts<Kv, dim>(shape, work, item, rows, kv_head, shared);
      }
    }
    __syncthreads();  // queries and `arrived` may be written again
  }
  ptx::wait_copies<0>();
}

template <typename Key, int head_dim, int ring>
struct Variant {
  using Kv = Key;
  static constexpr int dim = head_dim, stages = ring;
  static constexpr int64_t shared_bytes = sizeof(DecodeShared<Kv, dim, stages>);
  static constexpr auto kernel = attention_decode_kernel<Kv, dim, stages>;
};

// Calls visit(variant) for the kernel of a shape. Three tiles in the ring where they fit, else two
// (devices with 100 KB); those of fp8 and of narrow heads always fit.
template <typename Kv, int dim, typename Visit>
auto visit_ring(int64_t shared_bytes_max, const Visit& visit) {
  if constexpr (dim > 64 && !kFp8<Kv>) {
    if (Variant<Kv, dim, 3>::shared_bytes + 1024 > shared_bytes_max) {
      return visit(Variant<Kv, dim, 2>());
    }
  }
  return visit(Variant<Kv, dim, 3>());
}
template <typename Kv, typename Visit>
auto visit_dim(int head_dim, int64_t shared_bytes_max, const Visit& visit) {
  if (head_dim <= 64) return visit_ring<Kv, 64>(shared_bytes_max, visit);
  if (head_dim <= 128) return visit_ring<Kv, 128>(shared_bytes_max, visit);
  return visit_ring<Kv, 256>(shared_bytes_max, visit);
}
template <typename Visit>
auto visit_variant(DType cache, int head_dim, int64_t shared_bytes_max, const Visit& visit) {
  if (cache == DType::f16) return visit_dim<__half>(head_dim, shared_bytes_max, visit);
  if (cache == DType::e4m3) return visit_dim<__nv_fp8_e4m3>(head_dim, shared_bytes_max, visit);
  return visit_dim<__nv_bfloat16>(head_dim, shared_bytes_max, visit);
}

}  // namespace

// So many as find shared memory and registers.
int decode_blocks(const Shape& shape, DType cache, int64_t shared_bytes_max) {
  return visit_variant(cache, shape.head_dim, shared_bytes_max, [&](auto variant) {
    const int64_t fit = shared_bytes_max / (variant.shared_bytes + 1024);
    return shape.multiprocessors * int(std::clamp<int64_t>(fit, 1, kBlocksAtOnce<variant.dim>));
  });
}

void decode(const Shape& shape, const Work& work, DType cache, int64_t shared_bytes_max,
            cudaStream_t stream) {
  const int blocks = decode_blocks(shape, cache, shared_bytes_max);
  visit_variant(cache, shape.head_dim, shared_bytes_max, [&](auto variant) {
    launch(variant.kernel, dim3(unsigned(blocks)), dim3(kThreads), size_t(variant.shared_bytes),
           stream, shape, work);
  });
}

}  // namespace chorus::kernels::cuda::attention_work
