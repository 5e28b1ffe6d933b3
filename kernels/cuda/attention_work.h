// What the attention kernels share: the list of work, who sees which keys, and the softmax.
//
// A query row is one head of one token. The rows of a span for one KV head are numbered
// token * group + head of the group, and cut into tiles of 16 (decode) or more (prefill): one tile
// reads each key and value once for all its rows. Keys are walked in tiles of kKeys tokens that
// begin at multiples of kKeys; each row keeps the running maximum, the sum and the weighted values
// (online softmax, in base 2), and at every multiple of kSpanTokens these are set aside and merged,
// in order, into the totals.
//
// So a row's arithmetic is a function of its own position alone: the same mma instructions in the
// same order, whoever computes it. A block may walk some spans of keys and leave the merging to the
// last block of the row (decode), or walk them all (prefill): the bits are the same. What differs
// between rows of a tile (keys that only some of them see) adds zeros, which changes nothing.
//
// Keys and values of fp8 are multiplied as f16, which holds every e4m3 exactly: moved by a bit, its
// bits are f16's of a 256th of the number, and the 256 goes to the scores and to the last division.
// A word holds four numbers, of which two become a pair of f16 at once, those in its even bytes or
// those in its odd ones. So in each group of 16 dimensions operands have the even dimensions first,
// then the odd ones: queries are laid down in that order, which a product over all of them does not
// feel, and results are taken back out of it. What is no number becomes 480.
#pragma once

#include "kernels/cuda/kv_blocks.h"
#include "kernels/cuda/ptx.h"

namespace chorus::kernels::cuda::attention_work {

inline constexpr int kSpanTokens = 256;
inline constexpr int kDecodeRows = 16;
inline constexpr int kPrefillTokens = 64;  // spans of so many tokens are the prefill kernel's
inline constexpr int kKvHeadsMax = 128;
inline constexpr int kWhole = -1;
inline constexpr float kLowest = -1e30F;  // a maximum that no score comes near
inline constexpr float kLog2E = 1.4426950408889634F;

template <typename Kv>
inline constexpr bool kFp8 = std::is_same_v<Kv, __nv_fp8_e4m3>;
// What keys and values that are stored as Kv are multiplied as, and what a product of them lacks.
template <typename Kv>
using Operand = std::conditional_t<kFp8<Kv>, __half, Kv>;
template <typename Kv>
inline constexpr float kUnit = kFp8<Kv> ? 256.0F : 1.0F;

// The numbers in a word's even bytes, and in its odd ones, as f16 times 2^-8.
__device__ inline uint32_t odd_bytes(uint32_t word) {
  return (word >> 1 & 0x3f803f80u) | (word & 0x80008000u);
}
__device__ inline uint32_t even_bytes(uint32_t word) {
  return odd_bytes(word << 8);
}

// Keys of a tile, and elements from one row in shared memory to the next: an odd number of 16-byte
// pieces, so that eight rows of a matrix lie in different banks.
template <int dim>
inline constexpr int kKeys = dim > 128 ? 32 : 64;
template <typename T, int dim>
inline constexpr int kPitch = dim + 16 / int(sizeof(T));

struct alignas(16) Item {
  int32_t row, count, slot, position;  // the span
  int32_t tile;                        // which of its query rows
  int32_t part;                        // the first of its key spans, counted from the first that
                                       // the query rows see; or kWhole
  int32_t parts;                       // how many the query rows see
  int32_t partials;                    // where the partial results of the tile begin
};

// The list, and the memory that partial results wait in. Items stand at the end of their array.
struct Work {
  int32_t* counts = nullptr;  // of decode items, of prefill items; and key spans of a decode item
  Item* decode = nullptr;
  Item* prefill = nullptr;
  int32_t decode_capacity = 0, prefill_capacity = 0, partials_capacity = 0;
  uint32_t* arrived =
      nullptr;               // [partials_capacity / 2] how many items are done; zero between uses
  float2* states = nullptr;  // [partials_capacity] maximum and sum
  float* values = nullptr;   // [partials_capacity, head_dim]
};

struct Shape {
  const float* qkv = nullptr;
  void* out = nullptr;
  const void* keys = nullptr;  // of the layer
  const void* values = nullptr;
  const int32_t* block_table = nullptr;
  int64_t qkv_cols = 0, out_cols = 0;
  int64_t blocks = 0;      // of the cache
  int64_t blocks_max = 0;  // of a sequence
  DType out_type = DType::f32;
  int head_dim = 0;
  int kv_heads = 0;
  int group_max = 0;  // query heads of one KV head
  int window = 0, chunk = 0;
  float soft_cap = 0;
  float cap_rate = 0;                      // 2 * log2(e) / soft_cap
  int multiprocessors = 0;                 // not the kernels' business: the launch's
  uint16_t first_head[kKvHeadsMax + 1]{};  // query heads of KV head h: [first_head[h], [h + 1])
};

__device__ inline int first_visible(const Shape& shape, int position) {
  if (shape.chunk > 0) return position - position % shape.chunk;
  return shape.window > 0 ? max(0, position - shape.window + 1) : 0;
}

// The query rows of an item for one KV head.
struct Rows {
  int group, head;   // query heads of the KV head, and the first of them
  int first, count;  // row r of the tile is row first + r of the span
  __device__ int token(int r) const { return (first + r) / group; }
  __device__ int head_of(int r) const { return head + (first + r) % group; }
};
template <int tile_rows>
__device__ inline Rows rows_of(const Shape& shape, const Item& item, int kv_head) {
  const int head = shape.first_head[kv_head], group = shape.first_head[kv_head + 1] - head;
  const int first = item.tile * tile_rows;
  return {group, head, first, max(0, min(tile_rows, item.count * group - first))};
}

// The tokens, or the key spans, [begin, end).
struct Range {
  int begin, end;
};
// Where an item is one of several for its rows: its key spans. `run`: how many it may have.
__device__ inline Range spans_of(const Shape& shape, const Item& item, int run) {
  const int base = first_visible(shape, item.position) / kSpanTokens;
  return {base + item.part, base + min(item.part + run, item.parts)};
}
// The tokens that an item has to walk: those that some row of it sees.
__device__ inline Range range_of(const Shape& shape, const Item& item, const Rows& rows, int run) {
  if (rows.count == 0) return {0, 0};
  int begin = first_visible(shape, item.position + rows.token(0));
  int end = item.position + rows.token(rows.count - 1) + 1;
  if (item.part != kWhole) {
    const Range spans = spans_of(shape, item, run);
    begin = max(begin, spans.begin * kSpanTokens);
    end = min(end, spans.end * kSpanTokens);
  }
  return begin < end ? Range{begin, end} : Range{0, 0};
}

// Walks through the key tiles of a block's items, in the order in which they are computed, ahead of
// the computation.
template <int tile_rows, int keys>
struct Walk {
  static constexpr int kBlocks = keys / kBlockTokens;

  const Item* items;
  int run;
  int work_count, work;  // an item for one KV head is a piece of work
  Range range{};
  int at = 0;  // first token of the next tile
  int kv_head = 0;
  const int32_t* table = nullptr;
  int block[kBlocks]{};  // of the cache, where the next tile's tokens are; -1: none is wanted

  __device__ Walk(const Shape& shape, const Item* list, int count, int spans)
      : items(list), run(spans), work_count(count * shape.kv_heads), work(int(blockIdx.x)) {
    settle(shape);
  }
  __device__ bool done() const { return work >= work_count; }
  __device__ void advance(const Shape& shape) {
    at += keys;
    if (at < range.end) return look_up();
    work += int(gridDim.x);
    settle(shape);
  }

 private:
  // The next piece of work that has tiles.
  __device__ void settle(const Shape& shape) {
    for (; work < work_count; work += int(gridDim.x)) {
      const Item item = items[work / shape.kv_heads];
      kv_head = work % shape.kv_heads;
      range = range_of(shape, item, rows_of<tile_rows>(shape, item, kv_head), run);
      if (range.end == 0) continue;
      at = range.begin / keys * keys;
      table = shape.block_table + item.slot * shape.blocks_max;
      return look_up();
    }
  }
  // Long before the blocks are asked for: the table's latency is not the tile's.
  __device__ void look_up() {
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
      const int token = at + b * kBlockTokens;
      const bool wanted = token < range.end && token + kBlockTokens > range.begin;
      block[b] = wanted ? table[token / kBlockTokens] : -1;
    }
  }
};

// Calls copy(i, row, column, from, wanted) for the i-th of the pieces (16 bytes) of the walk's next
// tile that are `thread`'s: `from` is where it stands among the layer's keys and among its values.
// Not wanted are rows outside the tile's range and columns beyond head_dim.
template <typename Kv, int dim, int threads, int tile_rows, int keys, typename Copy>
__device__ inline void for_pieces(const Shape& shape, const Walk<tile_rows, keys>& walk, int thread,
                                  const Copy& copy) {
  constexpr int piece = 16 / int(sizeof(Kv)), pieces = dim / piece;
  constexpr int rows_at_once = threads / pieces;
  static_assert(threads % pieces == 0 && kBlockTokens % rows_at_once == 0);
  int64_t block_at[keys / kBlockTokens];
#pragma unroll
  for (int b = 0; b < keys / kBlockTokens; ++b) {
    const int64_t block = max(walk.block[b], 0);
    block_at[b] = (block * shape.kv_heads + walk.kv_head) * kBlockTokens * shape.head_dim;
  }
#pragma unroll
  for (int i = 0; i < keys / rows_at_once; ++i) {
    const int row = i * rows_at_once + thread / pieces;
    const int column = thread % pieces * piece, token = walk.at + row;
    const bool wanted =
        token >= walk.range.begin && token < walk.range.end && column < shape.head_dim;
    const int64_t from = wanted ? block_at[i * rows_at_once / kBlockTokens] +
                                      row % kBlockTokens * shape.head_dim + column
                                : 0;
    copy(i, row, column, from, wanted);
  }
}

// Begins to bring the walk's next tile in; what is not wanted becomes zeros. `to_keys` and
// `to_values` are [keys][kPitch<Kv, dim>].
template <typename Kv, int dim, int threads, int tile_rows, int keys>
__device__ inline void copy_tile(const Shape& shape, const Walk<tile_rows, keys>& walk, Kv* to_keys,
                                 Kv* to_values) {
  const Kv* all_keys = static_cast<const Kv*>(shape.keys);
  const Kv* all_values = static_cast<const Kv*>(shape.values);
  for_pieces<Kv, dim, threads>(shape, walk, int(threadIdx.x),
                               [&](int, int row, int column, int64_t from, bool wanted) {
                                 ptx::copy_async_16(to_keys + row * kPitch<Kv, dim> + column,
                                                    all_keys + from, wanted ? 16 : 0);
                                 ptx::copy_async_16(to_values + row * kPitch<Kv, dim> + column,
                                                    all_values + from, wanted ? 16 : 0);
                               });
}

// The tile's queries, rounded, to shared memory [tile_rows][kPitch<T, dim>]; zeros elsewhere.
template <typename Kv, int dim, int threads, int tile_rows, typename T = Operand<Kv>>
__device__ inline void load_queries(const Shape& shape, const Item& item, const Rows& rows, T* to) {
  constexpr int pieces = dim / 4;
  static_assert(tile_rows * pieces % threads == 0);
#pragma unroll 4
  for (int i = 0; i < tile_rows * pieces / threads; ++i) {
    const int index = int(threadIdx.x) + i * threads;
    const int r = index / pieces, column = index % pieces * 4;
    float4 x{0, 0, 0, 0};
    if (r < rows.count && column < shape.head_dim) {
      x = *reinterpret_cast<const float4*>(shape.qkv + (item.row + rows.token(r)) * shape.qkv_cols +
                                           rows.head_of(r) * shape.head_dim + column);
    }
    if constexpr (kFp8<Kv>) {
      auto* even =
          reinterpret_cast<uint32_t*>(to + r * kPitch<T, dim> + column / 16 * 16 + column % 16 / 2);
      even[0] = ptx::pack<T>(x.x, x.z);
      even[4] = ptx::pack<T>(x.y, x.w);
    } else {
      *reinterpret_cast<uint2*>(to + r * kPitch<T, dim> + column) = {ptx::pack<T>(x.x, x.y),
                                                                     ptx::pack<T>(x.z, x.w)};
    }
  }
}

// Two neighbouring elements of the result.
__device__ inline void store_pair(const Shape& shape, int64_t row, int64_t column, float a,
                                  float b) {
  const int64_t at = row * shape.out_cols + column;
  if (shape.out_type == DType::f32) {
    *reinterpret_cast<float2*>(static_cast<float*>(shape.out) + at) = {a, b};
  } else {
    *reinterpret_cast<uint32_t*>(static_cast<uint16_t*>(shape.out) + at) =
        shape.out_type == DType::f16 ? ptx::pack<__half>(a, b) : ptx::pack<__nv_bfloat16>(a, b);
  }
}

// ---- Softmax ----

// The keys that a row sees: [first, last].
struct Sight {
  int first, last;
  __device__ bool sees(int token) const { return token >= first && token <= last; }
};
__device__ inline Sight sight_of(const Shape& shape, const Item& item, const Rows& rows, int r) {
  if (r >= rows.count) return {0, -1};
  const int position = item.position + rows.token(r);
  return {first_visible(shape, position), position};
}

// cap * tanh(score / cap), by exp(2 x) = 2^(cap_rate * score): short enough to stand 64 times in a
// kernel, right to 1e-6 of the cap.
__device__ inline float capped(const Shape& shape, float score) {
  const float power = ptx::exp2_approximate(score * shape.cap_rate);
  return fmaf(shape.soft_cap, -__fdividef(2.0F, 1.0F + power), shape.soft_cap);
}

// exp(score - maximum) where `maximum` is already in base 2. A hidden key's score is -infinity.
__device__ inline float weight_of(float score, float maximum) {
  return ptx::exp2_approximate(fmaf(score, kLog2E, -maximum));
}

// Takes a partial maximum up into the total one: what the total and the part are multiplied by.
struct Shares {
  float total, part;
};
__device__ inline Shares merge_maximum(float& total, float part) {
  const float higher = fmaxf(total, part);
  const Shares shares{ptx::exp2_approximate(total - higher), ptx::exp2_approximate(part - higher)};
  total = higher;
  return shares;
}
__device__ inline float merged(float total, float part, Shares shares) {
  return fmaf(part, shares.part, total * shares.total);
}

// A one in every element of an mma operand: multiplied by it, weights give their sum.
template <typename T>
__device__ inline ptx::Fragment2 ones() {
  const uint32_t pair = ptx::pack<T>(1, 1);
  return {{pair, pair}};
}

// What a warp keeps of 16 rows: of rows lane / 4 and lane / 4 + 8 the maximum and the sum, and
// weighted values as mma's accumulators hold them. The sum comes from an mma with ones, so that its
// order of additions is the values' own.
template <int fragments>
struct State {
  float maximum[2];
  float sum[4];  // elements 0 and 1, and 2 and 3, are alike
  float values[fragments][4];

  __device__ void clear() {
    maximum[0] = maximum[1] = kLowest;
#pragma unroll
    for (float& x : sum) x = 0;
#pragma unroll
    for (auto& fragment : values) {
#pragma unroll
      for (float& x : fragment) x = 0;
    }
  }
  // New scores reach up to `highest` (not yet in base 2).
  __device__ void raise(const float (&highest)[2]) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const float higher = fmaxf(maximum[h], highest[h] * kLog2E);
      const float shrink = ptx::exp2_approximate(maximum[h] - higher);
      maximum[h] = higher;
      sum[2 * h] *= shrink;
      sum[2 * h + 1] *= shrink;
#pragma unroll
      for (auto& fragment : values) {
        fragment[2 * h] *= shrink;
        fragment[2 * h + 1] *= shrink;
      }
    }
  }
  __device__ void merge(const State& part) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const Shares shares = merge_maximum(maximum[h], part.maximum[h]);
#pragma unroll
      for (int i = 2 * h; i < 2 * h + 2; ++i) {
        sum[i] = merged(sum[i], part.sum[i], shares);
#pragma unroll
        for (int f = 0; f < fragments; ++f) {
          values[f][i] = merged(values[f][i], part.values[f][i], shares);
        }
      }
    }
  }
};

// Of row lane / 4 + 8 * h and the 16 dimensions of fragments 2 * (f / 2) and the one behind it, a
// lane keeps two pairs of neighbours; this is the one of f % 2. `column` counts in the 16
// dimensions.
struct Neighbours {
  int column;
  float x, y;
};
template <typename Kv, int fragments>
__device__ inline Neighbours neighbours_of(const State<fragments>& state, int lane, int f, int h) {
  if constexpr (kFp8<Kv>) {
    const int first = f / 2 * 2, i = 2 * h + f % 2;
    return {lane % 4 * 4 + f % 2 * 2, state.values[first][i], state.values[first + 1][i]};
  } else {
    return {f % 2 * 8 + lane % 4 * 2, state.values[f][2 * h], state.values[f][2 * h + 1]};
  }
}

// ---- How many spans of keys an item of decode walks ----

inline constexpr int kRunChoices = 8;  // 1, 2, 4 ... spans

// Long runs spare what an item costs beside its keys (its queries, the counting and the merging:
// the time of half a span, by measurements on an H200 when a run was one span); short ones give
// each block work. items[c]: how many items for one KV head there are where runs are 1 << c;
// `longest`: spans of the longest row; `blocks`: that run at once.
__device__ inline int run_of(const int (&items)[kRunChoices], int longest, int blocks) {
  int best = 1;
  int64_t best_time = INT64_MAX;
#pragma unroll
  for (int c = 0; c < kRunChoices; ++c) {
    const int run = (1 << c) < longest ? 1 << c : longest;
    const int64_t time = int64_t{(items[c] + blocks - 1) / blocks} * (2 * run + 1);
    if (time <= best_time) best_time = time, best = 1 << c;
  }
  return best;
}

// How many items the rows have whose keys are in so many spans.
__device__ inline int items_of(int parts, int run) {
  return (parts + run - 1) / run;
}

// ---- The launches, each in its file ----

// `shared_bytes_max`: of a multiprocessor.
void decode(const Shape& shape, const Work& work, DType cache, int64_t shared_bytes_max,
            cudaStream_t stream);
int decode_blocks(const Shape& shape, DType cache, int64_t shared_bytes_max);
void prefill(const Shape& shape, const Work& work, DType cache, cudaStream_t stream);
int64_t prefill_shared_bytes(DType cache, int head_dim);
// Not for fp8.
void prefill_hopper(const Shape& shape, const Work& work, DType cache, cudaStream_t stream);
int prefill_rows(int head_dim);          // query rows of an item of prefill
inline constexpr int kHopperRows = 128;  // and of prefill_hopper

}  // namespace chorus::kernels::cuda::attention_work
