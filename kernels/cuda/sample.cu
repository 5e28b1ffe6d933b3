// Sampling, with the choices of kernels/sampling.h: two kernels over the same cut of the vocabulary
// into parts of 4096 tokens, a block for each part of each row.
//
// 1. find_kernel: each block finds the best tokens of its part (one, or as many as the row's draw
//    and report look at, up to 64); the last block of a row to finish merges the parts.
// 2. weigh_kernel: each block adds up its part's probabilities relative to the best token; the last
//    block of a row draws and reports.
//
// Whoever comes last gives the same answer: tokens are compared by keys that differ from each other
// (logit, then id), and masses are integers. The counters by which a block finds out that it is the
// last are left at zero.
//
// The best of a part: a thread's 16 tokens are in registers. The n-th largest of the threads'
// maxima is a bound that at least n tokens reach and not many more; those are collected, and each
// counts how many are better than it: that is its place.
//
// Adjusted rows are staged in shared memory, where the entries of the slot's list that fall into
// the part change them; the logits themselves stay as the model made them.
//
// A draw that reaches beyond the 64 best tokens is rare. One block makes it without sorting: the
// token at a place of the row's order is found by cutting the range of keys into 256 bins, summing
// each bin's mass, and going on with the bin that holds the place until its tokens fit into a list.
//
// This file is compiled without fused multiply-add: exponentials must have the host's bits.
//
// Bound: latency. A row of 128 k logits is 32 blocks of 16 KB, read twice from L2.
#include "kernels/cuda/sample.h"

#include <cmath>

#include "kernels/cuda/elements.h"
#include "kernels/cuda/ptx.h"
#include "kernels/rounding.h"

namespace chorus::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kItems = 16;  // tokens of a part that a thread holds
constexpr int kPart = kThreads * kItems;
constexpr int kVector = 4;       // neighbours of a thread
constexpr int kIdBits = 22;      // of a vocabulary's ids
constexpr int kBins = kThreads;  // a thread looks at each
constexpr int kListed = 512;     // tokens that are ordered one by one
constexpr float kLowest = -__builtin_huge_valf();

// --- what is kept of a row between blocks

// Orders tokens: the larger, the better (the larger logit, then the smaller id). 0 is no token.
using Key = uint64_t;

struct Found {                 // best first
  Key drawn[kTopLogprobsMax];  // as the draw sees them
  Key model[kTopLogprobsMax];  // of adjusted rows: without the adjustments
  int32_t drawn_count, model_count;
};
struct Masses {
  Mass model;     // at temperature 1
  Mass tempered;  // at the row's temperature, where its draw needs it
};

// The workspace, for `rows` rows of `parts` parts.
struct Workspace {
  uint32_t* counters;   // [rows, 2]: blocks that are done with a row, by kernel
  Found* found;         // [rows]
  Masses* part_masses;  // [rows, parts]
  Key* part_lists;      // [rows, parts, 2, kTopLogprobsMax]: drawn, model
};

struct SampleKernelArgs {
  const float* logits;
  const int32_t* live_rows;
  int64_t count;     // of logits a row
  int32_t first_id;  // of a row's first logit
  int64_t vocab_size;
  int parts;
  bool packed;  // rows begin at 16 bytes
  const SamplingParams* params;
  Sampled* results;
  int32_t* last_tokens;
  std::byte* adjustments;  // [slots, adjustment_bytes]
  int64_t adjustment_bytes;
  int32_t* adjustment_counts;
  Workspace work;
};

// --- keys

__device__ inline uint32_t ordered(float logit) {  // rises with it; -0 is 0, NaN is -inf
  if (logit != logit) logit = kLowest;
  const uint32_t bits = __float_as_uint(logit + 0.0F);
  return (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
}
__device__ inline Key key_of(float logit, int32_t id) {
  return Key{ordered(logit)} << 32 | ~static_cast<uint32_t>(id);
}
__device__ inline float logit_of(Key key) {
  const auto bits = static_cast<uint32_t>(key >> 32);
  return __uint_as_float((bits & 0x80000000U) != 0 ? bits & 0x7fffffffU : ~bits);
}
__device__ inline int32_t id_of(Key key) {
  return static_cast<int32_t>(~static_cast<uint32_t>(key));
}

// --- a block's shared memory

struct FindShared {
  Key maxima[kThreads];
  Key list[kTopLogprobsMax * kItems];
  Key best[kTopLogprobsMax];
  Key bound;
  int collected;
};
struct DrawShared {  // of up to 64 tokens, in the order in which they are drawn
  Mass mass[kTopLogprobsMax], sum[kTopLogprobsMax];  // `sum` with all before it
  double distance[kTopLogprobsMax], sorted_distance[kTopLogprobsMax];
  Key key[kTopLogprobsMax];
  int first_small, crossing, kept;
};
struct SelectShared {
  uint32_t low[kBins], high[kBins], tokens[kBins];  // of the bins' masses: two halves
  uint64_t keys[kListed];
  Mass masses[kListed];
  uint64_t key;
  Mass before, weight;
  int bin, listed;
  uint32_t bin_tokens;
};
struct SampleShared {
  float logits[kPart];
  union {
    FindShared find;
    DrawShared draw;
    SelectShared select;
  };
  Mass warp_sums[kThreads / 32];
  int chosen;  // the id
  bool last;
};

// --- sums over the block

// The sum of all threads' values up to the own one; `total` of all. The caller's reads of `shared`
// before the next call need no barrier.
__device__ inline Mass block_scan(Mass value, Mass& total, SampleShared& shared) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  Mass sum = value;
#pragma unroll
  for (int distance = 1; distance < 32; distance *= 2) {
    const Mass other = __shfl_up_sync(~0U, sum, static_cast<unsigned>(distance));
    if (lane >= distance) sum += other;
  }
  __syncthreads();
  if (lane == 31) shared.warp_sums[warp] = sum;
  __syncthreads();
  total = 0;
#pragma unroll
  for (int w = 0; w < kThreads / 32; ++w) {
    if (w < warp) sum += shared.warp_sums[w];
    total += shared.warp_sums[w];
  }
  return sum;
}

__device__ inline Mass block_sum(Mass value, SampleShared& shared) {
  value = ptx::warp_sum(value);
  __syncthreads();
  if (threadIdx.x % 32 == 0) shared.warp_sums[threadIdx.x / 32] = value;
  __syncthreads();
  Mass total = 0;
#pragma unroll
  for (int w = 0; w < kThreads / 32; ++w) total += shared.warp_sums[w];
  return total;
}

// --- a row's logits

struct Row {
  int64_t index;
  const float* logits;
  SamplingParams params;
  bool adjusted;
  Adjustment* list;  // of the slot; of adjusted rows
  int32_t list_count;
};

__device__ inline Row row_of(const SampleKernelArgs& args, int64_t index) {
  Row row{.index = index,
          .logits = args.logits + index * args.count,
          .params = args.params[index],
          .adjusted = false,
          .list = nullptr,
          .list_count = 0};
  row.adjusted = row.params.adjusted != 0 && row.params.forced < 0;
  if (row.adjusted) {
    row.list =
        reinterpret_cast<Adjustment*>(args.adjustments + row.params.slot * args.adjustment_bytes);
    row.list_count = args.adjustment_counts[row.params.slot];
  }
  return row;
}

// Where in its part a thread's n-th logit stands.
__device__ inline int place_of_item(int n) {
  return (n / kVector * kThreads + static_cast<int>(threadIdx.x)) * kVector + n % kVector;
}

// -inf behind the row's end.
__device__ inline void load_part(float (&logits)[kItems], const SampleKernelArgs& args,
                                 const Row& row, int part) {
#pragma unroll
  for (int n = 0; n < kItems; n += kVector) {
    const int64_t at = int64_t{part} * kPart + place_of_item(n);
    float vector[kVector];
    if (args.packed && at + kVector <= args.count) {
      load(vector, row.logits + at);
    } else {
#pragma unroll
      for (int i = 0; i < kVector; ++i) {
        vector[i] = at + i < args.count ? row.logits[at + i] : kLowest;
      }
    }
#pragma unroll
    for (int i = 0; i < kVector; ++i) logits[n + i] = vector[i];
  }
}

// Puts the part into shared memory as the draw sees it.
__device__ void stage_drawn(SampleShared& shared, const float (&model)[kItems],
                            const SampleKernelArgs& args, const Row& row, int part) {
  __syncthreads();
#pragma unroll
  for (int n = 0; n < kItems; ++n) shared.logits[place_of_item(n)] = model[n];
  __syncthreads();
  const int64_t first_id = args.first_id + int64_t{part} * kPart;
  for (int i = static_cast<int>(threadIdx.x); i < row.list_count; i += kThreads) {
    const Adjustment adjustment = row.list[i];
    const int64_t at = adjustment.id - first_id;
    if (at < 0 || at >= kPart) continue;
    shared.logits[at] = adjusted_logit(shared.logits[at], adjustment, row.params);
  }
  __syncthreads();
}

// The part as the draw sees it, given how the model does.
__device__ inline void adjust_part(float (&drawn)[kItems], const float (&model)[kItems],
                                   SampleShared& shared, const SampleKernelArgs& args,
                                   const Row& row, int part) {
  stage_drawn(shared, model, args, row, part);
#pragma unroll
  for (int n = 0; n < kItems; ++n) drawn[n] = shared.logits[place_of_item(n)];
}

// True in the block that is the last of the row's to come here; its threads see what the others
// wrote. The counter is zero again afterwards.
__device__ inline bool is_last_block(SampleShared& shared, uint32_t* counter, int blocks) {
  __syncthreads();
  if (threadIdx.x == 0) {
    shared.last = ptx::fetch_add(counter, 1) == static_cast<uint32_t>(blocks) - 1;
    if (shared.last) *counter = 0;
  }
  __syncthreads();
  return shared.last;
}

// --- the best tokens

// Puts the `wanted` best of all threads' keys into `shared.best`; answers how many there are.
__device__ int select_best(FindShared& shared, const Key (&keys)[kItems], int wanted) {
  const int thread = static_cast<int>(threadIdx.x);
  Key most = 0;
#pragma unroll
  for (int n = 0; n < kItems; ++n) most = keys[n] > most ? keys[n] : most;
  __syncthreads();
  if (wanted == 1) {
    const Key of_warp = ptx::warp_max(most);
    if (thread % 32 == 0) shared.maxima[thread / 32] = of_warp;
    __syncthreads();
    most = 0;
#pragma unroll
    for (int w = 0; w < kThreads / 32; ++w) {
      most = shared.maxima[w] > most ? shared.maxima[w] : most;
    }
    if (thread == 0) shared.best[0] = most;
    __syncthreads();
    return most != 0 ? 1 : 0;
  }

  shared.maxima[thread] = most;
  if (thread == 0) {
    shared.bound = 1;  // where fewer threads than are wanted have a token
    shared.collected = 0;
  }
  __syncthreads();
  int better = 0;
#pragma unroll 8
  for (int other = 0; other < kThreads; ++other) better += shared.maxima[other] > most ? 1 : 0;
  if (most != 0 && better == wanted - 1) shared.bound = most;
  __syncthreads();
  const Key bound = shared.bound;
#pragma unroll
  for (int n = 0; n < kItems; ++n) {
    if (keys[n] >= bound) shared.list[atomicAdd(&shared.collected, 1)] = keys[n];
  }
  __syncthreads();
  const int collected = shared.collected;
  for (int i = thread; i < collected; i += kThreads) {
    const Key key = shared.list[i];
    int place = 0;
    for (int other = 0; other < collected; ++other) place += shared.list[other] > key ? 1 : 0;
    if (place < wanted) shared.best[place] = key;
  }
  __syncthreads();
  return collected < wanted ? collected : wanted;
}

__device__ inline Key* list_of(const SampleKernelArgs& args, int64_t row, int part, int which) {
  return args.work.part_lists + ((row * args.parts + part) * 2 + which) * kTopLogprobsMax;
}

__device__ void find_in_part(const float (&logits)[kItems], FindShared& shared,
                             const SampleKernelArgs& args, const Row& row, int part, int which) {
  const int wanted = candidates_needed(row.params);
  Key keys[kItems];
#pragma unroll
  for (int n = 0; n < kItems; ++n) {
    const int64_t at = int64_t{part} * kPart + place_of_item(n);
    // Of an adjusted row, tokens that cannot be drawn are no candidates.
    const bool counts = at < args.count && (!row.adjusted || logits[n] > kLowest);
    keys[n] = counts ? key_of(logits[n], args.first_id + static_cast<int32_t>(at)) : 0;
  }
  const int count = select_best(shared, keys, wanted);
  const int i = static_cast<int>(threadIdx.x);
  if (i < wanted) list_of(args, row.index, part, which)[i] = i < count ? shared.best[i] : 0;
}

// Of all parts' lists, into `to`.
__device__ int32_t merge_parts(Key* to, FindShared& shared, const SampleKernelArgs& args,
                               const Row& row, int which) {
  const int wanted = candidates_needed(row.params);
  const int all = args.parts * wanted;
  int count = 0;
  for (int begin = 0; begin == 0 || begin < all; begin += kPart - kTopLogprobsMax) {
    Key keys[kItems];
#pragma unroll
    for (int n = 0; n < kItems; ++n) {
      // The best so far, then the next ones.
      const int i = n * kThreads + static_cast<int>(threadIdx.x);
      const int from = begin + i - kTopLogprobsMax;
      keys[n] = 0;
      if (i < count) keys[n] = shared.best[i];
      if (i >= kTopLogprobsMax && from < all) {
        keys[n] = list_of(args, row.index, from / wanted, which)[from % wanted];
      }
    }
    count = select_best(shared, keys, wanted);
  }
  const int i = static_cast<int>(threadIdx.x);
  if (i < count) to[i] = shared.best[i];
  return count;
}

__global__ void __launch_bounds__(kThreads, 2) find_kernel(SampleKernelArgs args) {
  ptx::let_successor_start();
  auto& shared = shared_memory<SampleShared>();
  const int part = static_cast<int>(blockIdx.x);
  ptx::wait_for_predecessor();
  if (!is_live(blockIdx.y, args.live_rows)) return;
  const Row row = row_of(args, blockIdx.y);

  float model[kItems];
  load_part(model, args, row, part);
  if (row.adjusted) {
    float drawn[kItems];
    adjust_part(drawn, model, shared, args, row, part);
    find_in_part(drawn, shared.find, args, row, part, 0);
    find_in_part(model, shared.find, args, row, part, 1);
  } else {
    find_in_part(model, shared.find, args, row, part, 0);
  }

  if (!is_last_block(shared, args.work.counters + 2 * row.index, args.parts)) return;
  Found& found = args.work.found[row.index];
  const int32_t drawn_count = merge_parts(found.drawn, shared.find, args, row, 0);
  int32_t model_count = 0;
  if (row.adjusted) model_count = merge_parts(found.model, shared.find, args, row, 1);
  if (threadIdx.x == 0) {
    found.drawn_count = drawn_count;
    found.model_count = model_count;
  }
}

// --- draws

// What the last block of a row knows when it draws.
struct Drawing {
  const Row& row;
  const Found& found;
  float max;  // of the logits that the draw sees
  float inverse_temperature;
  Mass total;  // the row's mass at its temperature

  __device__ Mass mass(float logit) const { return mass_of_one(logit, max, inverse_temperature); }
};

// The first mass that is not less than `wanted` when both are compared as doubles.
__device__ inline Mass first_mass_reaching(double wanted) {
  Mass mass = static_cast<Mass>(ceil(wanted));
  while (mass > 1 && static_cast<double>(mass - 1) >= wanted) --mass;
  return mass > 1 ? mass : 1;
}

// sum[i] = mass[0] + ... + mass[i].
__device__ inline void add_up(DrawShared& shared, int count) {
  const int i = static_cast<int>(threadIdx.x);
  __syncthreads();
  if (i < count) {
    Mass sum = 0;
    for (int j = 0; j <= i; ++j) sum += shared.mass[j];
    shared.sum[i] = sum;
  }
  __syncthreads();
}

// Orders the tokens that typical_p keeps by their distance from the entropy; answers their number.
__device__ int keep_typical(SampleShared& shared, const Drawing& drawing, int kept) {
  DrawShared& draw = shared.draw;
  const int i = static_cast<int>(threadIdx.x);
  const Key key = i < kept ? draw.key[i] : 0;
  const Mass mass = i < kept ? draw.mass[i] : 0;
  const double surprise =
      i < kept ? surprise_of(logit_of(key), drawing.max, drawing.row.params.temperature) : 0;
  const auto total = static_cast<double>(draw.sum[kept - 1]);
  const Mass sum = block_sum(mass > 0 ? surprise_mass(mass, surprise) : 0, shared);
  const double distance = fabs(surprise - static_cast<double>(sum) / total);
  if (i < kept) draw.distance[i] = distance;
  __syncthreads();
  int place = 0;
  if (i < kept) {
    for (int j = 0; j < kept; ++j) {
      const double other = draw.distance[j];
      place += other < distance || (other == distance && draw.key[j] > key) ? 1 : 0;
    }
  }
  __syncthreads();
  if (i < kept) {
    draw.key[place] = key;
    draw.mass[place] = mass;
    draw.sorted_distance[place] = distance;
  }
  add_up(draw, kept);
  const double wanted = static_cast<double>(drawing.row.params.typical_p) * total;
  const auto reaches = [&](int j) { return static_cast<double>(draw.sum[j]) >= wanted; };
  if (i < kept && reaches(i) && (i == 0 || !reaches(i - 1))) draw.crossing = i;
  __syncthreads();
  const double last = draw.sorted_distance[draw.crossing];
  if (i < kept && draw.sorted_distance[i] == last &&
      (i + 1 == kept || draw.sorted_distance[i + 1] != last)) {
    draw.kept = i + 1;
  }
  __syncthreads();
  return draw.kept;
}

// Draws one of the found tokens; false where the filters reach beyond them.
__device__ bool draw_from_found(SampleShared& shared, const Drawing& drawing, int64_t vocab_size) {
  DrawShared& draw = shared.draw;
  const SamplingParams& params = drawing.row.params;
  const int i = static_cast<int>(threadIdx.x);
  const int64_t top_k = effective_top_k(params, vocab_size);
  int count = drawing.found.drawn_count;
  if (top_k > 0 && top_k < count) count = static_cast<int>(top_k);
  __syncthreads();
  if (i < count) {
    draw.key[i] = drawing.found.drawn[i];
    draw.mass[i] = drawing.mass(logit_of(draw.key[i]));
  }
  if (i == 0) draw.first_small = draw.crossing = count;
  add_up(draw, count);
  const Mass total = top_k > 0 ? draw.sum[count - 1] : drawing.total;
  const double wanted = static_cast<double>(params.top_p) * static_cast<double>(total);
  const Mass floor = mass_floor(params) > 1 ? mass_floor(params) : 1;
  if (i < count) {
    if (draw.mass[i] < floor) atomicMin(&draw.first_small, i);
    const bool crosses = params.top_p < 1 && static_cast<double>(draw.sum[i]) >= wanted;
    if (crosses) atomicMin(&draw.crossing, i);
  }
  __syncthreads();
  const bool reached = draw.first_small < count || draw.crossing < count;
  const bool all = top_k > 0 || drawing.found.drawn_count == vocab_size;
  if (!reached && !all) return false;
  int kept = draw.crossing < draw.first_small ? draw.crossing + 1 : draw.first_small;
  __syncthreads();
  if (params.typical_p < 1) kept = keep_typical(shared, drawing, kept);
  const Mass place = place_of_draw(params, draw.sum[kept - 1]);
  if (i < kept && draw.sum[i] > place && (i == 0 || draw.sum[i - 1] <= place)) {
    shared.chosen = id_of(draw.key[i]);
  }
  __syncthreads();
  return true;
}

// Draws by the place in the mass, in the order of ids.
__device__ void draw_by_mass(SampleShared& shared, const SampleKernelArgs& args,
                             const Drawing& drawing) {
  const Row& row = drawing.row;
  const Mass floor = mass_floor(row.params);
  Mass place = place_of_draw(row.params, drawing.total);
  const int thread = static_cast<int>(threadIdx.x);
  const Masses* masses = args.work.part_masses + row.index * args.parts;
  for (int begin = 0; begin < args.parts; begin += kThreads) {
    const Mass own = begin + thread < args.parts ? masses[begin + thread].tempered : 0;
    Mass total = 0;
    const Mass sum = block_scan(own, total, shared);
    if (place >= total) {
      place -= total;
      continue;
    }
    if (sum - own <= place && place < sum) {
      shared.select.bin = begin + thread;
      shared.select.before = sum - own;
    }
    break;
  }
  __syncthreads();
  const int part = shared.select.bin;
  place -= shared.select.before;

  float logits[kItems];
  load_part(logits, args, row, part);
  stage_drawn(shared, logits, args, row, part);
  // From here on a thread has neighbours, so that its sum is of ids in order.
  Mass own = 0;
  for (int n = 0; n < kItems; ++n) {
    const Mass mass = drawing.mass(shared.logits[thread * kItems + n]);
    own += mass >= floor ? mass : 0;
  }
  Mass total = 0;
  Mass sum = block_scan(own, total, shared) - own;
  if (sum <= place && place < sum + own) {
    for (int n = 0; n < kItems; ++n) {
      const Mass mass = drawing.mass(shared.logits[thread * kItems + n]);
      if (mass < floor) continue;
      sum += mass;
      if (sum <= place) continue;
      shared.chosen = args.first_id + part * kPart + thread * kItems + n;
      break;
    }
  }
  __syncthreads();
}

// --- draws from a whole row

constexpr uint64_t kNoKey = ~uint64_t{0};

// Calls f(logit, id) for each token of the row, as the draw sees it, by some thread.
template <typename F>
__device__ inline void for_each_token(SampleShared& shared, const SampleKernelArgs& args,
                                      const Row& row, const F& f) {
#pragma unroll 1
  for (int part = 0; part < args.parts; ++part) {
    float logits[kItems];
    load_part(logits, args, row, part);
    stage_drawn(shared, logits, args, row, part);
    const int64_t first = int64_t{part} * kPart;
#pragma unroll 1
    for (int at = static_cast<int>(threadIdx.x); at < kPart && first + at < args.count;
         at += kThreads) {
      const float logit = shared.logits[at];
      f(logit == logit ? logit : kLowest, args.first_id + static_cast<int32_t>(first) + at);
    }
  }
}

// In which order tokens are laid out, each as long as its weight, and which of them count.
struct Order {
  float max, temperature, inverse_temperature;
  uint64_t end = kNoKey;     // tokens from here on, best first, do not count
  bool counted = false;      // each weighs one; else its mass
  bool by_distance = false;  // from `entropy`, the nearest first; else best first
  double entropy = 0;
  uint64_t distance = kNoKey;  // only tokens of this distance count

  __device__ Mass mass(float logit) const { return mass_of_one(logit, max, inverse_temperature); }

  // Best first, as a rising key: steps of the logit below the best one (so that the first cut into
  // bins spreads the tokens that matter), then the logit, then the id.
  __device__ uint64_t best_first(float logit, int32_t id) const {
    constexpr float kSteps = 1000, kDepth = 29;  // a token of less than e^-29 has no mass
    const float depth = (max - logit) * inverse_temperature;
    const auto step =
        static_cast<uint32_t>(depth < kDepth ? depth * (kSteps / kDepth) : kSteps + 1);
    return uint64_t{step} << 54 | uint64_t{~ordered(logit)} << kIdBits | static_cast<uint32_t>(id);
  }
  __device__ double surprise(float logit) const { return surprise_of(logit, max, temperature); }
  __device__ uint64_t key(float logit, int32_t id) const {
    const uint64_t best = best_first(logit, id);
    if (best >= end) return kNoKey;
    if (!by_distance) return best;
    if (mass(logit) == 0) return kNoKey;
    const auto own = __builtin_bit_cast(uint64_t, fabs(surprise(logit) - entropy));
    if (distance == kNoKey) return own;
    return own == distance ? best : kNoKey;
  }
};

struct Selected {
  uint64_t key = 0;
  Mass before = 0;  // weight of the tokens with smaller keys
  Mass weight = 0;  // of those with this key; of all where `place` lies beyond them
  bool exists = false;
  uint64_t first_small = kNoKey;  // best-first key of the first token that has less than `floor`
};

__device__ inline uint64_t block_min(uint64_t value, SampleShared& shared) {
  value = ~ptx::warp_max(~value);
  __syncthreads();
  if (threadIdx.x % 32 == 0) shared.warp_sums[threadIdx.x / 32] = value;
  __syncthreads();
  for (int w = 0; w < kThreads / 32; ++w) {
    value = shared.warp_sums[w] < value ? shared.warp_sums[w] : value;
  }
  return value;
}

// Adds up the weights of the tokens with keys in [low, low + (kBins << shift)), by bin.
__device__ inline void fill_bins(SampleShared& shared, const SampleKernelArgs& args, const Row& row,
                                 const Order& order, uint64_t low, uint64_t high, int shift,
                                 Mass floor, uint64_t& first_small) {
  SelectShared& select = shared.select;
  const int bin = static_cast<int>(threadIdx.x);
  __syncthreads();
  select.low[bin] = select.high[bin] = select.tokens[bin] = 0;
  __syncthreads();
  for_each_token(shared, args, row, [&](float logit, int32_t id) {
    const uint64_t key = order.key(logit, id);
    if (key < low || key > high) return;
    const Mass mass = order.mass(logit);
    if (mass < floor) first_small = min(first_small, order.best_first(logit, id));
    const Mass weight = order.counted ? 1 : mass;
    const auto to = static_cast<int>((key - low) >> shift);
    const auto lower = static_cast<uint32_t>(weight);
    const uint32_t before = atomicAdd(&select.low[to], lower);
    const uint32_t upper =
        static_cast<uint32_t>(weight >> 32) + (before + lower < before ? 1U : 0U);
    if (upper != 0) atomicAdd(&select.high[to], upper);
    atomicAdd(&select.tokens[to], 1U);
  });
  __syncthreads();
}

// Lists the tokens with keys in [low, high] and finds the one at `left` among them.
__device__ inline void select_from_list(SampleShared& shared, const SampleKernelArgs& args,
                                        const Row& row, const Order& order, uint64_t low,
                                        uint64_t high, Mass left) {
  SelectShared& select = shared.select;
  if (threadIdx.x == 0) select.listed = 0;
  __syncthreads();
  for_each_token(shared, args, row, [&](float logit, int32_t id) {
    const uint64_t key = order.key(logit, id);
    if (key < low || key > high) return;
    const int at = atomicAdd(&select.listed, 1);
    select.keys[at] = key;
    select.masses[at] = order.counted ? 1 : order.mass(logit);
  });
  __syncthreads();
  const int listed = select.listed;
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x); i < listed; i += kThreads) {
    const uint64_t key = select.keys[i];
    Mass before = 0, weight = 0;
    bool first = true;  // of those with this key
    for (int j = 0; j < listed; ++j) {
      if (select.keys[j] < key) before += select.masses[j];
      if (select.keys[j] == key) {
        weight += select.masses[j];
        first = first && j >= i;
      }
    }
    if (!first || left < before || left >= before + weight) continue;
    select.key = key;
    select.before = before;
    select.weight = weight;
  }
  __syncthreads();
}

// The token at `place`.
__device__ inline Selected select_at(SampleShared& shared, const SampleKernelArgs& args,
                                     const Row& row, const Order& order, Mass place, Mass floor) {
  SelectShared& select = shared.select;
  const int bin = static_cast<int>(threadIdx.x);
  Selected selected;
  uint64_t low = 0, high = kNoKey - 1;
  Mass left = place;
#pragma unroll 1
  for (;;) {
    const int bits = high == low ? 0 : 64 - __clzll(static_cast<int64_t>(high - low));
    const int shift = bits > 8 ? bits - 8 : 0;
    fill_bins(shared, args, row, order, low, high, shift, floor, selected.first_small);
    const Mass own = Mass{select.high[bin]} << 32 | select.low[bin];
    Mass total = 0;
    const Mass sum = block_scan(own, total, shared);
    if (left >= total) {
      selected.weight = total;
      break;
    }
    if (sum - own <= left && left < sum) {
      select.bin = bin;
      select.bin_tokens = select.tokens[bin];
      select.before = sum - own;
      select.weight = own;
    }
    __syncthreads();
    left -= select.before;
    low += static_cast<uint64_t>(select.bin) << shift;
    high = min(high, low + (uint64_t{1} << shift) - 1);
    const bool one_key = shift == 0;
    if (!one_key && select.bin_tokens > kListed) continue;
    __syncthreads();
    if (!one_key) {
      select_from_list(shared, args, row, order, low, high, left);
      low = select.key;
      left -= select.before;
    }
    selected.key = low;
    selected.before = place - left;
    selected.weight = select.weight;
    selected.exists = true;
    break;
  }
  __syncthreads();
  selected.first_small = block_min(selected.first_small, shared);
  return selected;
}

// One selection after the other, each of what the one before it left. (A loop with one call, since
// the selection is large.)
__device__ void draw_from_row(SampleShared& shared, const SampleKernelArgs& args,
                              const Drawing& drawing) {
  enum class Step { top_k, total, nucleus, typical, draw, draw_as_near };
  const Row& row = drawing.row;
  const SamplingParams& params = row.params;
  const int64_t top_k = effective_top_k(params, args.vocab_size);
  const Mass floor = mass_floor(params) > 1 ? mass_floor(params) : 1;
  Order order{.max = drawing.max,
              .temperature = params.temperature,
              .inverse_temperature = drawing.inverse_temperature};
  Mass total = drawing.total;  // of what is kept
  const bool typical = params.typical_p < 1;
  Step step = Step::typical;
  if (top_k > 0) {
    step = Step::top_k;
  } else if (params.top_p < 1 || params.min_p > 0) {
    step = Step::nucleus;
  }
  const auto share_of = [&](float share) {
    return first_mass_reaching(static_cast<double>(share) * static_cast<double>(total)) - 1;
  };
  Mass nucleus = 0, place = 0;
#pragma unroll 1
  for (;;) {
    if (step == Step::nucleus && nucleus == 0) {
      nucleus = params.top_p < 1 ? share_of(params.top_p) + 1 : ~Mass{0};
    }
    if (step == Step::typical) {
      if (typical) {
        Mass own = 0;
        for_each_token(shared, args, row, [&](float logit, int32_t id) {
          const Mass mass = order.mass(logit);
          if (mass == 0 || order.best_first(logit, id) >= order.end) return;
          own += surprise_mass(mass, order.surprise(logit));
        });
        order.entropy = static_cast<double>(block_sum(own, shared)) / static_cast<double>(total);
        order.by_distance = true;
      } else {
        step = Step::draw;
        place = place_of_draw(params, total);
      }
    }
    order.counted = step == Step::top_k;
    const Mass at = step == Step::top_k     ? static_cast<Mass>(top_k) - 1
                    : step == Step::total   ? ~Mass{0}
                    : step == Step::nucleus ? nucleus - 1
                    : step == Step::typical ? share_of(params.typical_p)
                                            : place;
    const Selected selected = select_at(shared, args, row, order, at, floor);
    switch (step) {
      case Step::top_k:
        order.end = selected.key + 1;
        step = Step::total;
        break;
      case Step::total:
        total = selected.weight;
        step = Step::nucleus;
        break;
      case Step::nucleus: {
        // Nothing is kept from the first token on that has less than min_p asks for.
        const uint64_t end = selected.exists ? selected.key + 1 : order.end;
        if (selected.first_small < end) {
          order.end = selected.first_small;
          break;  // again, without those
        }
        order.end = end;
        total = selected.before + selected.weight;
        step = Step::typical;
        break;
      }
      case Step::typical:
        place = place_of_draw(params, selected.before + selected.weight);
        step = Step::draw;
        break;
      case Step::draw:
        if (typical) {  // the distance is known: which of those as near?
          order.distance = selected.key;
          place -= selected.before;
          step = Step::draw_as_near;
          break;
        }
        [[fallthrough]];
      case Step::draw_as_near:
        if (threadIdx.x == 0) {
          shared.chosen = static_cast<int>(selected.key & ((1U << kIdBits) - 1));
        }
        __syncthreads();
        return;
    }
  }
}

// --- weighing and reporting

__device__ inline float logprob(float logit, float max, Mass total) {
  const double log_sum = log(static_cast<double>(total) * 0x1p-40);
  return static_cast<float>(static_cast<double>(logit) - static_cast<double>(max) - log_sum);
}

__device__ void report(const SampleShared& shared, const SampleKernelArgs& args, const Row& row,
                       Mass total) {
  const Found& found = args.work.found[row.index];
  const Key* best = row.adjusted ? found.model : found.drawn;
  const int32_t best_count = row.adjusted ? found.model_count : found.drawn_count;
  const float max = logit_of(best[0]);
  Sampled& result = args.results[row.index];
  const int i = static_cast<int>(threadIdx.x);
  const int32_t count = row.params.top_logprobs < best_count ? row.params.top_logprobs : best_count;
  if (i < count) {
    result.top_ids[i] = id_of(best[i]);
    result.top_logprobs[i] = logprob(logit_of(best[i]), max, total);
  }
  const int32_t id = shared.chosen;
  if (i == 0) {
    result.token = id;
    result.logprob = logprob(row.logits[id - args.first_id], max, total);
    result.top_count = count;
    if (row.params.slot >= 0) args.last_tokens[row.params.slot] = id;
  }
}

// The token is counted in the slot's list, where it is entered if it is not there.
__device__ void count_drawn(SampleShared& shared, const SampleKernelArgs& args, const Row& row) {
  const int32_t id = shared.chosen;
  __syncthreads();
  if (threadIdx.x == 0) shared.last = false;  // now: "is in the list"
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < row.list_count; i += kThreads) {
    if (row.list[i].id != id) continue;
    ++row.list[i].output_count;
    shared.last = true;
  }
  __syncthreads();
  if (threadIdx.x != 0 || shared.last) return;
  row.list[row.list_count] = {.id = id, .output_count = 1};
  args.adjustment_counts[row.params.slot] = row.list_count + 1;
}

__device__ void choose(SampleShared& shared, const SampleKernelArgs& args, const Drawing& drawing,
                       Draw draw) {
  const Row& row = drawing.row;
  if (draw == Draw::candidates && !draw_from_found(shared, drawing, args.vocab_size)) {
    draw = Draw::whole_row;
  }
  if (draw == Draw::mass) draw_by_mass(shared, args, drawing);
  if (draw == Draw::whole_row) draw_from_row(shared, args, drawing);
  if (threadIdx.x == 0) {
    if (draw == Draw::forced) shared.chosen = row.params.forced;
    if (draw == Draw::best) shared.chosen = id_of(drawing.found.drawn[0]);
  }
  __syncthreads();
}

__device__ inline bool finite(float x) {
  return x - x == 0;
}

__global__ void __launch_bounds__(kThreads, 2) weigh_kernel(SampleKernelArgs args) {
  ptx::let_successor_start();
  auto& shared = shared_memory<SampleShared>();
  const int part = static_cast<int>(blockIdx.x);
  ptx::wait_for_predecessor();
  if (!is_live(blockIdx.y, args.live_rows)) return;
  const Row row = row_of(args, blockIdx.y);
  const Found& found = args.work.found[row.index];
  const float drawn_max = found.drawn_count > 0 ? logit_of(found.drawn[0]) : kLowest;
  float model_max = drawn_max;
  if (row.adjusted) model_max = found.model_count > 0 ? logit_of(found.model[0]) : kLowest;
  if (!finite(drawn_max) || !finite(model_max)) {
    if (part == 0 && threadIdx.x == 0) {
      args.results[row.index].token = -1;
      args.results[row.index].logprob = NAN;
      args.results[row.index].top_count = 0;
    }
    return;
  }

  const Draw draw = kind_of_draw(row.params, args.vocab_size);
  const float inverse_temperature = 1 / row.params.temperature;
  const Mass floor = draw == Draw::mass ? mass_floor(row.params) : 0;
  float logits[kItems];
  load_part(logits, args, row, part);
  Masses own{0, 0};
#pragma unroll
  for (int n = 0; n < kItems; ++n) own.model += mass_of_one(logits[n], model_max, 1);
  if (needs_tempered_mass(draw)) {
    if (row.adjusted) {
      float model[kItems];
#pragma unroll
      for (int n = 0; n < kItems; ++n) model[n] = logits[n];
      adjust_part(logits, model, shared, args, row, part);
    }
#pragma unroll
    for (int n = 0; n < kItems; ++n) {
      const Mass mass = mass_of_one(logits[n], drawn_max, inverse_temperature);
      own.tempered += mass >= floor ? mass : 0;
    }
  }
  own.model = block_sum(own.model, shared);
  if (needs_tempered_mass(draw)) own.tempered = block_sum(own.tempered, shared);
  Masses* masses = args.work.part_masses + row.index * args.parts;
  if (threadIdx.x == 0) masses[part] = own;

  if (!is_last_block(shared, args.work.counters + 2 * row.index + 1, args.parts)) return;
  Masses all{0, 0};
  for (int i = static_cast<int>(threadIdx.x); i < args.parts; i += kThreads) {
    all.model += masses[i].model;
    all.tempered += masses[i].tempered;
  }
  all.model = block_sum(all.model, shared);
  all.tempered = block_sum(all.tempered, shared);
  choose(shared, args, {row, found, drawn_max, inverse_temperature, all.tempered}, draw);
  report(shared, args, row, all.model);
  if (row.adjusted && penalised(row.params)) count_drawn(shared, args, row);
}

// --- host

int parts_of(const SampleArgs& args) {
  return static_cast<int>(ceil_div(args.vocab.size(), kPart));
}

// Cuts the workspace; with `memory` null only its size counts.
int64_t cut_workspace(Workspace& work, const SampleArgs& args, std::byte* memory) {
  const int64_t rows = args.results.rows, parts = parts_of(args);
  int64_t bytes = 0;
  const auto take = [&](auto*& to, int64_t count) {
    using T = std::remove_reference_t<decltype(*to)>;
    if (memory != nullptr) to = reinterpret_cast<T*>(memory + bytes);
    bytes += round_up(count * static_cast<int64_t>(sizeof(T)), 256);
  };
  take(work.counters, rows * 2);
  take(work.found, rows);
  take(work.part_masses, rows * parts);
  take(work.part_lists, rows * parts * 2 * kTopLogprobsMax);
  return bytes;
}

}  // namespace

int64_t sample_workspace_bytes(const SampleArgs& args) {
  Workspace work{};
  return cut_workspace(work, args, nullptr);
}

void sample(const SampleArgs& args, void* workspace, cudaStream_t stream) {
  if (args.vocab.size() != args.vocab_size) {
    throw std::invalid_argument("sample: a rank has a part of the vocabulary only");
  }
  if (args.vocab_size >= int64_t{1} << kIdBits) {
    throw std::invalid_argument("sample: a vocabulary of " + std::to_string(args.vocab_size) +
                                " tokens; less than 4 million are served");
  }
  if (args.logits.rows == 0) return;
  SampleKernelArgs kernel_args{
      .logits = static_cast<const float*>(args.logits.data),
      .live_rows = args.logits.live_rows,
      .count = args.vocab.size(),
      .first_id = static_cast<int32_t>(args.vocab.begin),
      .vocab_size = args.vocab_size,
      .parts = parts_of(args),
      .packed =
          packs_fit<float, kVector>(static_cast<const float*>(args.logits.data), args.vocab.size()),
      .params = static_cast<const SamplingParams*>(args.params.data),
      .results = static_cast<Sampled*>(args.results.data),
      .last_tokens = static_cast<int32_t*>(args.last_tokens.data),
      .adjustments = static_cast<std::byte*>(args.adjustments.data),
      .adjustment_bytes = args.adjustments.cols,
      .adjustment_counts = static_cast<int32_t*>(args.adjustment_counts.data),
      .work = {}};
  cut_workspace(kernel_args.work, args, static_cast<std::byte*>(workspace));
  const dim3 grid(static_cast<unsigned>(kernel_args.parts),
                  static_cast<unsigned>(args.logits.rows));
  launch(find_kernel, grid, dim3(kThreads), sizeof(SampleShared), stream, kernel_args);
  launch(weigh_kernel, grid, dim3(kThreads), sizeof(SampleShared), stream, kernel_args);
}

}  // namespace chorus::kernels::cuda
