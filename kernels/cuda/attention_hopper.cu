// Attention for many query rows by the asynchronous units of sm_90a, FlashAttention-3 style, for
// steps that need not have the decode kernel's bits.
//
// A tile is 128 query rows (a prompt's tokens times the heads of a group): 64 for each of two
// warpgroups, the consumers. One thread of a third, the producer, brings blocks of keys and values
// in by TMA, a box per block and 64 dimensions, into a ring of tiles of 128 keys. A consumer starts
// the multiplication of its queries with the next tile's keys, then that of this tile's weights
// (from registers) with its values, and while both run makes the next weights of the first one's
// result. The other consumer's multiplications fill what gaps are left. The producer runs ahead
// into the next item.
//
// Keys that nobody may see are masked, wherever they came from; values of such tokens get a weight
// of zero, which does not do away with what is no number: rows of values outside an item's range
// are set to zero before they are multiplied.
//
// Bound: flops of the tensor cores and, as much, exponentials: a multiprocessor makes 16 a clock,
// so the 128 x 128 weights of a tile take 1024 clocks, its multiplications 2048 (head of 128).
#include "kernels/cuda/attention_work.h"
#include "kernels/cuda/hopper.h"

namespace chorus::kernels::cuda::attention_work {
namespace {

constexpr int kConsumers = 2, kGroupThreads = 128, kThreads = (kConsumers + 1) * kGroupThreads;
constexpr int kRows = kHopperRows, kGroupRows = kRows / kConsumers;
constexpr int kStages = 2;
template <int dim>
constexpr int kTileKeys = dim > 128 ? 64 : 128;
// Named barriers: of each consumer's threads, and of both.
constexpr int kOwnBarrier = 1, kBothBarrier = kOwnBarrier + kConsumers;

template <typename T, int dim>
struct HopperShared {
  // Boxes of 64 dimensions, swizzled.
  T queries[kConsumers][dim / 64][kGroupRows][64];
  T keys[kStages][dim / 64][kTileKeys<dim>][64];
  T values[kStages][dim / 64][kTileKeys<dim>][64];
  hopper::Barrier keys_full[kStages], values_full[kStages];
  hopper::Barrier keys_empty[kStages], values_empty[kStages];
};

// Where a box keeps columns [column, column + 8) of a row, in elements.
__device__ inline int swizzled(int row, int column) {
  return row * 64 + (column / 8 ^ row % 8) * 8;
}

// A place in the ring: `turn` counts its tiles.
__device__ inline int stage_of(int turn) {
  return turn % kStages;
}
__device__ inline int parity_of(int turn) {
  return turn / kStages % 2;
}

template <typename T, int dim>
struct Producer {
  using Shared = HopperShared<T, dim>;
  static constexpr int keys = kTileKeys<dim>;

  static __device__ void run(const Shape& shape, const CUtensorMap& keys_map,
                             const CUtensorMap& values_map, const Item* items, int item_count,
                             Shared& shared) {
    Walk<kRows, keys> walk(shape, items, item_count, 1);
    for (int turn = 0; !walk.done(); ++turn, walk.advance(shape)) {
      const int stage = stage_of(turn);
      int row[keys / kBlockTokens], blocks = 0;
#pragma unroll
      for (int b = 0; b < keys / kBlockTokens; ++b) {
        const bool wanted = walk.block[b] >= 0;
        blocks += wanted;
        row[b] = wanted ? (walk.block[b] * shape.kv_heads + walk.kv_head) * kBlockTokens : -1;
      }
      load(row, blocks, keys_map, shared.keys[stage], shared.keys_empty[stage],
           shared.keys_full[stage], parity_of(turn) ^ 1);
      load(row, blocks, values_map, shared.values[stage], shared.values_empty[stage],
           shared.values_full[stage], parity_of(turn) ^ 1);
    }
  }

  static __device__ void load(const int (&row)[keys / kBlockTokens], int blocks,
                              const CUtensorMap& map, T (&to)[dim / 64][keys][64],
                              hopper::Barrier& empty, hopper::Barrier& full, int parity) {
    hopper::wait(empty, parity);
    hopper::arrive_expecting(full, blocks * kBlockTokens * dim * int(sizeof(T)));
#pragma unroll
    for (int b = 0; b < keys / kBlockTokens; ++b) {
      if (row[b] < 0) continue;
#pragma unroll
      for (int box = 0; box < dim / 64; ++box) {
        hopper::load_box(&to[box][b * kBlockTokens][0], map, box * 64, row[b], full);
      }
    }
  }
};

template <typename T, int dim>
struct Consumer {
  using Shared = HopperShared<T, dim>;
  static constexpr int keys = kTileKeys<dim>;

  const Shape& shape;
  Shared& shared;
  const int group = int(threadIdx.x) / kGroupThreads, warp = int(threadIdx.x) / 32 % 4,
            lane = int(threadIdx.x) % 32;
  int turn = 0;

  // Of the item at hand.
  Sight sight[2];
  Sight common;  // what all of the warpgroup's rows see
  Range range;
  float maximum[2], sum[2], shrink[2];
  float scores[keys / 2], values[dim / 2];
  ptx::Fragment4 weights[keys / 16];

  __device__ Consumer(const Shape& of, Shared& in) : shape(of), shared(in) {}

  // Queries of 64 rows, rounded, into this warpgroup's boxes.
  __device__ void load_queries(const Item& item, const Rows& rows) {
    constexpr int pieces = dim / 8, count = kGroupRows * pieces / kGroupThreads;
    constexpr int at_once = count < 8 ? count : 8;
    static_assert(count % at_once == 0);
    const int thread = int(threadIdx.x) % kGroupThreads;
    ptx::barrier_sync(kOwnBarrier + group, kGroupThreads);  // the last item's have been read
#pragma unroll 1
    for (int i = 0; i < count; i += at_once) {
      float4 x[at_once][2];
#pragma unroll
      for (int j = 0; j < at_once; ++j) {
        const int index = thread + (i + j) * kGroupThreads;
        const int r = group * kGroupRows + index / pieces, column = index % pieces * 8;
        x[j][0] = x[j][1] = {0, 0, 0, 0};
        if (r < rows.count && column < shape.head_dim) {
          const auto* from = reinterpret_cast<const float4*>(
              shape.qkv + (item.row + rows.token(r)) * shape.qkv_cols +
              rows.head_of(r) * shape.head_dim + column);
          x[j][0] = from[0];
          x[j][1] = from[1];
        }
      }
#pragma unroll
      for (int j = 0; j < at_once; ++j) {
        const int index = thread + (i + j) * kGroupThreads;
        const int r = index / pieces, column = index % pieces * 8;
        T* box = &shared.queries[group][column / 64][0][0];
        *reinterpret_cast<uint4*>(box + swizzled(r, column % 64)) = {
            ptx::pack<T>(x[j][0].x, x[j][0].y), ptx::pack<T>(x[j][0].z, x[j][0].w),
            ptx::pack<T>(x[j][1].x, x[j][1].y), ptx::pack<T>(x[j][1].z, x[j][1].w)};
      }
    }
    hopper::publish_writes();
    ptx::barrier_sync(kOwnBarrier + group, kGroupThreads);
  }

  // False: there is nothing to do.
  __device__ bool begin_item(const Item& item, const Rows& rows) {
    if (rows.count == 0) return false;
    load_queries(item, rows);
    range = range_of(shape, item, rows, 1);
    const int first = group * kGroupRows;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      sight[h] = sight_of(shape, item, rows, first + warp * 16 + lane / 4 + 8 * h);
      maximum[h] = kLowest;
      sum[h] = 0;
    }
    const Sight latest = sight_of(shape, item, rows, first + kGroupRows - 1);
    common = {latest.first, latest.last < 0 ? -1 : sight_of(shape, item, rows, first).last};
#pragma unroll
    for (float& x : values) x = 0;
    return true;
  }

  // Queries times the keys of a turn: begun here, done when waited for.
  __device__ void begin_scores(int of_turn) {
    const int stage = stage_of(of_turn);
    hopper::wait(shared.keys_full[stage], parity_of(of_turn));
    hopper::settle(scores);
    hopper::begin_multiply();
#pragma unroll
    for (int k = 0; k < dim / 16; ++k) {
      const int box = k / 4, step = k % 4 * 2;
      const uint64_t a =
          hopper::matrix_descriptor(hopper::shared_address(&shared.queries[group][box][0][0]));
      const uint64_t b =
          hopper::matrix_descriptor(hopper::shared_address(&shared.keys[stage][box][0][0]));
      hopper::multiply<T, keys>(scores, a + step, b + step, k > 0);
    }
    hopper::commit_multiply();
  }
  // Weights times the values of this turn.
  __device__ void begin_values(int begin) {
    const int stage = stage_of(turn);
    hopper::wait(shared.values_full[stage], parity_of(turn));
    if (begin < range.begin || begin + keys > range.end) clear_values(stage, begin);
    const uint64_t b = hopper::transposed_descriptor(
        hopper::shared_address(&shared.values[stage][0][0][0]), keys * 128);
    hopper::settle(values);
    hopper::begin_multiply();
#pragma unroll
    for (int k = 0; k < keys / 16; ++k) {
      hopper::multiply<T, dim, true>(values, weights[k], b + k * (2048 / 16), true);
    }
    hopper::commit_multiply();
  }
  // Sets rows of values to zero that are not in the item's range; both consumers together.
  __device__ void clear_values(int stage, int begin) {
    constexpr int pieces = dim / 8, threads = kConsumers * kGroupThreads;
    for (int i = int(threadIdx.x); i < keys * pieces; i += threads) {
      const int r = i / pieces, column = i % pieces * 8, token = begin + r;
      if (token >= range.begin && token < range.end) continue;
      T* box = &shared.values[stage][column / 64][0][0];
      *reinterpret_cast<uint4*>(box + swizzled(r, column % 64)) = {0, 0, 0, 0};
    }
    hopper::publish_writes();
    ptx::barrier_sync(kBothBarrier, threads);
  }

  // From the scores of the tile at `begin` to weights in f32, in place.
  __device__ void weigh(int begin) {
    hopper::settle(scores);
    if (shape.soft_cap > 0) {
#pragma unroll
      for (float& score : scores) score = capped(shape, score);
    }
    if (!common.sees(begin) || !common.sees(begin + keys - 1)) {
#pragma unroll
      for (int i = 0; i < keys / 2; ++i) {
        const int token = begin + i / 4 * 8 + lane % 4 * 2 + i % 2;
        if (!sight[i / 2 % 2].sees(token)) scores[i] = -INFINITY;
      }
    }
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float highest = -INFINITY;
#pragma unroll
      for (int i = 2 * h; i < keys / 2; i += 4) {
        highest = fmaxf(highest, fmaxf(scores[i], scores[i + 1]));
      }
      const float higher = fmaxf(maximum[h], ptx::warp_max<4>(highest) * kLog2E);
      shrink[h] = ptx::exp2_approximate(maximum[h] - higher);
      maximum[h] = higher;
      sum[h] *= shrink[h];
#pragma unroll
      for (int i = 2 * h; i < keys / 2; i += 4) {
        scores[i] = weight_of(scores[i], higher);
        scores[i + 1] = weight_of(scores[i + 1], higher);
        sum[h] += scores[i] + scores[i + 1];
      }
    }
  }
  // The weights as the next multiplication takes them, the values so far scaled to match.
  __device__ void take_weights() {
#pragma unroll
    for (int k = 0; k < keys / 16; ++k) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        weights[k].x[i] = ptx::pack<T>(scores[8 * k + 2 * i], scores[8 * k + 2 * i + 1]);
      }
    }
#pragma unroll
    for (int i = 0; i < dim / 2; ++i) values[i] *= shrink[i / 2 % 2];
  }
  __device__ void give_back(hopper::Barrier& empty) {
    if (lane == 0) hopper::arrive(empty);
  }

  __device__ void walk_keys() {
    int begin = range.begin / keys * keys;
    begin_scores(turn);
    hopper::wait_multiply<0>();
    give_back(shared.keys_empty[stage_of(turn)]);
    weigh(begin);
    take_weights();
    for (; begin + keys < range.end; begin += keys, ++turn) {
      begin_scores(turn + 1);
      begin_values(begin);
      hopper::wait_multiply<1>();
      give_back(shared.keys_empty[stage_of(turn + 1)]);
      weigh(begin + keys);
      hopper::wait_multiply<0>();
      hopper::settle(values);
      give_back(shared.values_empty[stage_of(turn)]);
      take_weights();
    }
    begin_values(begin);
    hopper::wait_multiply<0>();
    hopper::settle(values);
    give_back(shared.values_empty[stage_of(turn)]);
    ++turn;
  }

  __device__ void store(const Item& item, const Rows& rows) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int r = group * kGroupRows + warp * 16 + lane / 4 + 8 * h;
      const float inverse = 1.0F / ptx::warp_sum<4>(sum[h]);
      if (r >= rows.count) continue;
      const int64_t row = item.row + rows.token(r);
      const int64_t from = rows.head_of(r) * shape.head_dim;
#pragma unroll
      for (int j = 0; j < dim / 8; ++j) {
        const int column = 8 * j + lane % 4 * 2;
        if (column < shape.head_dim) {
          store_pair(shape, row, from + column, values[4 * j + 2 * h] * inverse,
                     values[4 * j + 2 * h + 1] * inverse);
        }
      }
    }
  }
};

template <typename T, int dim>
__global__ void __launch_bounds__(kThreads, 1)
    attention_hopper_kernel(const __grid_constant__ Shape shape, const __grid_constant__ Work work,
                            const __grid_constant__ CUtensorMap keys_map,
                            const __grid_constant__ CUtensorMap values_map) {
  using Shared = HopperShared<T, dim>;
  Shared& shared = shared_memory<Shared>();
  ptx::let_successor_start();
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < kStages; ++stage) {
      hopper::init(shared.keys_full[stage], 1);
      hopper::init(shared.values_full[stage], 1);
      hopper::init(shared.keys_empty[stage], kConsumers * 4);  // a thread of each warp
      hopper::init(shared.values_empty[stage], kConsumers * 4);
    }
    hopper::publish_inits();
    hopper::prefetch_map(keys_map);
    hopper::prefetch_map(values_map);
  }
  __syncthreads();
  ptx::wait_for_predecessor();
  const int item_count = work.counts[1];
  const Item* items = work.prefill + (work.prefill_capacity - item_count);

  if (threadIdx.x / kGroupThreads == kConsumers) {
    hopper::shrink_registers<24>();
    if (threadIdx.x % kGroupThreads == 0) {
      Producer<T, dim>::run(shape, keys_map, values_map, items, item_count, shared);
    }
    return;
  }
  hopper::grow_registers<240>();
  Consumer<T, dim> consumer(shape, shared);
  for (int index = int(blockIdx.x); index < item_count * shape.kv_heads; index += int(gridDim.x)) {
    const Item* item = items + index / shape.kv_heads;
    const int kv_head = index % shape.kv_heads;
    if (!consumer.begin_item(*item, rows_of<kRows>(shape, *item, kv_head))) continue;
    consumer.walk_keys();
    // Read again rather than kept: registers are what this kernel has least of.
    consumer.store(*item, rows_of<kRows>(shape, *item, kv_head));
  }
}

template <typename T, int dim>
void launch_hopper(const Shape& shape, const Work& work, hopper::Element element,
                   cudaStream_t stream) {
  const auto map_of = [&](const void* data) {
    return hopper::make_tensor_map({.data = data,
                                    .element = element,
                                    .rows = shape.blocks * shape.kv_heads * kBlockTokens,
                                    .columns = shape.head_dim,
                                    .stride = shape.head_dim},
                                   kBlockTokens);
  };
  launch(attention_hopper_kernel<T, dim>, dim3(unsigned(shape.multiprocessors)), dim3(kThreads),
         sizeof(HopperShared<T, dim>), stream, shape, work, map_of(shape.keys),
         map_of(shape.values));
}

template <typename T>
void prefill_as(const Shape& shape, const Work& work, hopper::Element element,
                cudaStream_t stream) {
  if (shape.head_dim <= 64) {
    launch_hopper<T, 64>(shape, work, element, stream);
  } else if (shape.head_dim <= 128) {
    launch_hopper<T, 128>(shape, work, element, stream);
  } else {
    launch_hopper<T, 256>(shape, work, element, stream);
  }
}

}  // namespace

void prefill_hopper(const Shape& shape, const Work& work, DType cache, cudaStream_t stream) {
  if (cache == DType::f16) {
    prefill_as<__half>(shape, work, hopper::Element::f16, stream);
  } else {
    prefill_as<__nv_bfloat16>(shape, work, hopper::Element::bf16, stream);
  }
}

}  // namespace chorus::kernels::cuda::attention_work
