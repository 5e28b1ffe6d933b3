// Mixtures of experts. A *pair* is a token and one of its experts; pair p belongs to token
// p / chosen.
//
// Route: a warp a token, the logits in its registers. Experts are ordered by one number that holds
// the logit and, for equal ones, the place; `chosen` maxima find the last one that is in, and votes
// give those at or above it their places in rising order.
//
// Experts: (1) a block for each expert lists its pairs; (2) gate_up with the activation, for up to
// `tokens` pairs of one expert a block; (3) down, the same; (4) a token's results are added up in
// order. A block of (2) and (3) looks up in the lists' lengths which pairs are its own, so that the
// grid depends on the number of rows only; blocks without any end. One token needs no lists: its
// experts differ.
//
// The products work as matmul_stream.cu explains: weights past L1 into registers, each byte once
// for `tokens` pairs, k permuted within 32 for weights and tokens alike. A block has 32 weight rows
// (gated: 16 gate and 16 up rows), its four warps a quarter of k each, added in order: the same
// order for every number of pairs. Tokens come from L1 and L2. Bound: the chosen experts' bytes
// with few tokens; L2 with many (32 weight rows meet each token that is loaded).
//
// Quantised experts take turns: the tokens of one are brought together, and quantised.cu multiplies
// them, by the list's length. That is four launches an expert or more, most of them for nothing
// where there are many experts and few tokens.
//
// In f32 a warp has one column of the output, a lane every 32nd k. Nobody waits for this mode.
#include "kernels/cuda/experts.h"

#include <algorithm>
#include <cassert>
#include <stdexcept>

#include "kernels/cuda/device.h"
#include "kernels/cuda/epilogue.h"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/ptx.h"
#include "kernels/cuda/quantised.h"
#include "kernels/rounding.h"

namespace chorus::kernels::cuda {
namespace {

constexpr int kRouteWarps = 4;
constexpr int kLogitsEach = kExpertsMax / 32;  // of a lane
constexpr int kListWarps = 8;
constexpr int kSlicesOfK = 4;  // a warp each
constexpr int kThreads = kSlicesOfK * 32;
constexpr int kF32Tokens = 8;
constexpr int kSumThreads = 128;

__device__ inline int64_t live_of(const int32_t* live_rows, int64_t rows) {
  return live_rows != nullptr && *live_rows < rows ? *live_rows : rows;
}

// --- route

struct Route {
  const float* logits;  // [rows, experts]
  int32_t* experts;     // [rows, chosen]
  float* weights;
  const int32_t* live_rows;
  int64_t rows;
  int expert_count, chosen;
  bool sigmoid, normalised;
};

// Rises with the logit and, among equal ones, falls with the place. Never 0.
__device__ inline uint64_t rank_of(float logit, int expert) {
  const uint32_t bits = __float_as_uint(logit + 0.0F);  // the two zeros are equal
  const uint32_t rising = (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
  return uint64_t{rising} << 32 | (0xffffffffU - uint32_t(expert));
}

__global__ void __launch_bounds__(kRouteWarps * 32) route_kernel(const Route p) {
  ptx::let_successor_start();
  ptx::wait_for_predecessor();
  const int lane = threadIdx.x % 32;
  const int64_t row = int64_t{blockIdx.x} * kRouteWarps + threadIdx.x / 32;
  if (row >= live_of(p.live_rows, p.rows)) return;

  float logits[kLogitsEach];
  float largest = -INFINITY;
#pragma unroll
  for (int i = 0; i < kLogitsEach; ++i) {
    const int expert = i * 32 + lane;
    logits[i] = expert < p.expert_count ? p.logits[row * p.expert_count + expert] : -INFINITY;
    largest = fmaxf(largest, logits[i]);
  }

  uint64_t last = ~uint64_t{0};  // that was chosen
#pragma unroll 1
  for (int n = 0; n < p.chosen; ++n) {
    uint64_t best = 0;
#pragma unroll
    for (int i = 0; i < kLogitsEach; ++i) {
      const int expert = i * 32 + lane;
      const uint64_t rank = rank_of(logits[i], expert);
      if (expert < p.expert_count && rank < last && rank > best) best = rank;
    }
    last = ptx::warp_max(best);
  }

  float divisor = 1;
  if (!p.sigmoid) {
    largest = ptx::warp_max(largest);
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kLogitsEach; ++i) sum += expf(logits[i] - largest);
    divisor = ptx::warp_sum(sum);
  }
  const auto chosen = [&](int i) {
    const int expert = i * 32 + lane;
    return expert < p.expert_count && rank_of(logits[i], expert) >= last;
  };
  const auto score = [&](int i) {
    return p.sigmoid ? 1 / (1 + expf(-logits[i])) : expf(logits[i] - largest) / divisor;
  };
  float of_all = 1;
  if (p.normalised) {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kLogitsEach; ++i) sum += chosen(i) ? score(i) : 0.0F;
    of_all = ptx::warp_sum(sum);
  }
  int64_t place = row * p.chosen;
#pragma unroll
  for (int i = 0; i < kLogitsEach; ++i) {
    const bool in = chosen(i);
    const unsigned votes = __ballot_sync(~0u, in);
    if (in) {
      const int64_t own = place + __popc(votes & ((1u << lane) - 1));
      p.experts[own] = i * 32 + lane;
      p.weights[own] = score(i) / of_all;
    }
    place += __popc(votes);
  }
}

// --- lists of pairs

struct Pairs {
  const int32_t* experts = nullptr;  // [rows, chosen]
  const int32_t* live_rows = nullptr;
  int64_t rows = 0;
  int chosen = 0, expert_count = 0;
  int32_t* counts = nullptr;  // [experts], null for one row: no lists then
  int32_t* lists = nullptr;   // [experts, rows]: a token has an expert once
};

struct ListShared {
  int counts[kListWarps];
};

// A warp looks through its share of the pairs twice: to count, and to list them behind those of the
// warps before.
__global__ void __launch_bounds__(kListWarps * 32) list_kernel(const Pairs p) {
  auto& shared = shared_memory<ListShared>();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, expert = blockIdx.x;
  ptx::let_successor_start();
  ptx::wait_for_predecessor();
  const int64_t pairs = live_of(p.live_rows, p.rows) * p.chosen;
  const int64_t share = (pairs + kListWarps * 32 - 1) / (kListWarps * 32) * 32;
  const int64_t begin = warp * share, end = begin + share < pairs ? begin + share : pairs;
  const auto votes_at = [&](int64_t first) {
    const int64_t pair = first + lane;
    return __ballot_sync(~0u, pair < end && p.experts[pair] == expert);
  };
  int count = 0;
  for (int64_t first = begin; first < end; first += 32) count += __popc(votes_at(first));
  if (lane == 0) shared.counts[warp] = count;
  __syncthreads();
  int place = 0;
  for (int i = 0; i < warp; ++i) place += shared.counts[i];
  int32_t* list = p.lists + expert * p.rows;
  for (int64_t first = begin; first < end; first += 32) {
    const unsigned votes = votes_at(first);
    if ((votes >> lane & 1) != 0) {
      list[place + __popc(votes & ((1u << lane) - 1))] = int32_t(first + lane);
    }
    place += __popc(votes);
  }
  if (warp == kListWarps - 1 && lane == 0) p.counts[expert] = place;
}

// The pairs of a block: [0, count) of `list`, or the pair `only` where there is no list.
struct Item {
  int expert = 0, count = 0;
  const int32_t* list = nullptr;
  int only = 0;
  __device__ int pair(int i) const { return list != nullptr ? list[i] : only; }
};

// By all lanes of a warp: the `index`-th of the lists' pieces of `tokens` pairs; count is 0 where
// there are fewer.
template <int tokens>
__device__ inline Item find_item(const Pairs& p, int index) {
  if (p.counts == nullptr) {
    const bool live = live_of(p.live_rows, p.rows) > 0;
    return {.expert = live ? p.experts[index] : 0, .count = live ? 1 : 0, .only = index};
  }
  const int lane = threadIdx.x % 32;
  const int each = (p.expert_count + 31) / 32;
  const int first = lane * each;
  const int end = first + each < p.expert_count ? first + each : p.expert_count;
  const auto pieces = [&](int expert) { return (p.counts[expert] + tokens - 1) / tokens; };
  int own = 0;
  for (int expert = first; expert < end; ++expert) own += pieces(expert);
  int through = own;  // of this lane and those before
  for (int distance = 1; distance < 32; distance *= 2) {
    const int other = __shfl_up_sync(~0u, through, distance);
    if (lane >= distance) through += other;
  }
  int left = index - (through - own), expert = first, count = 0, at = 0;
  const bool here = left >= 0 && left < own;
  if (here) {
    while (left >= pieces(expert)) left -= pieces(expert++);
    at = left * tokens;
    count = min(tokens, p.counts[expert] - at);
  }
  const unsigned votes = __ballot_sync(~0u, here);
  const int source = votes == 0 ? 0 : __ffs(int(votes)) - 1;
  expert = __shfl_sync(~0u, expert, source);
  at = __shfl_sync(~0u, at, source);
  count = __shfl_sync(~0u, count, source);
  return {.expert = expert, .count = count, .list = p.lists + expert * p.rows + at};
}

// --- products

struct Product {
  Pairs pairs = {};
  const void* const* weights = nullptr;  // [experts]
  int64_t weight_stride = 0;             // elements from one row to the next
  int columns = 0;                       // of the output; gated: half the weight's rows
  const void* x = nullptr;
  int x_cols = 0;                  // elements of a row
  int pairs_of_row = 1;            // of x
  const float* factors = nullptr;  // [pairs]: what x is multiplied by, or null
  Gate gate = Gate::silu;
  void* out = nullptr;  // [pairs, out_stride]; from `columns` on zeros, as no weights are there
  DType out_type = DType::f32;
  int out_stride = 0;
};

__device__ inline void store(const Product& p, bool gated, int pair, int column, float sum,
                             float up_sum) {
  const float factor = p.factors != nullptr ? p.factors[pair] : 1.0F;
  const float value = gated ? activate(p.gate, factor * sum) * (factor * up_sum) : factor * sum;
  store_as(p.out, p.out_type, int64_t{pair} * p.out_stride + column, value);
}

template <int tiles>
struct SliceSums {
  float at[kSlicesOfK][tiles * 8][32 + 4];  // the 4: lanes of a warp store in different banks
};

template <typename T, int tiles, bool gated>
__global__ void __launch_bounds__(kThreads) pairs_kernel(const Product p) {
  constexpr int kDepth = tiles == 1 ? 4 : 2;  // steps of 32 that are loaded ahead
  constexpr int kColumns = gated ? 16 : 32;
  auto& sums = shared_memory<SliceSums<tiles>>().at;
  const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  const int first_column = blockIdx.x * kColumns;
  ptx::wait_for_predecessor();
  const Item item = find_item<tiles * 8>(p.pairs, blockIdx.y);
  if (item.count == 0) return ptx::let_successor_start();

  // Granules of 8 elements; a slice is whole steps of 4.
  const int granules = p.x_cols / 8;
  const int slice = (granules + kSlicesOfK * 4 - 1) / (kSlicesOfK * 4) * 4;
  const int first = warp * slice + t;
  const int left = min(warp * slice + slice, granules) - first;
  const uint32_t stride = uint32_t(p.weight_stride / 8);
  const auto* weight = static_cast<const uint4*>(p.weights[item.expert]) + first;
  uint4 held[kDepth][4];
  const auto load = [&](int slot, int step) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {  // rows g and g + 8 of two tiles of 16
      const int column = first_column + g + (gated ? i % 2 : i) * 8;
      const uint32_t row = uint32_t(column) + (gated ? i / 2 * p.columns : 0);
      ptx::load_streaming_16_if(held[slot][i], weight + (int64_t{row} * stride + step * 4),
                                step * 4 < left && column < p.columns);
    }
  };
#pragma unroll
  for (int slot = 0; slot < kDepth; ++slot) {
#pragma unroll
    for (int i = 0; i < 4; ++i) held[slot][i] = {0, 0, 0, 0};
    load(slot, slot);
  }

  const auto* x = static_cast<const uint4*>(p.x) + first;
  int row_of[tiles];  // of x, for token g of each tile
#pragma unroll
  for (int j = 0; j < tiles; ++j) {
    row_of[j] = j * 8 + g < item.count ? item.pair(j * 8 + g) / p.pairs_of_row : -1;
  }
  float own[2][tiles][4] = {};
#pragma unroll 1
  for (int step = 0; step * 4 < slice; step += kDepth) {
#pragma unroll
    for (int slot = 0; slot < kDepth; ++slot) {
      const int at = (step + slot) * 4;
#pragma unroll
      for (int j = 0; j < tiles; ++j) {
        // Where nothing was loaded, old weights meet zeros.
        const bool wanted = row_of[j] >= 0 && at < left;
        const uint4 token = wanted ? x[int64_t{row_of[j]} * granules + at] : uint4{0, 0, 0, 0};
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          const uint4 upper = held[slot][r * 2], lower = held[slot][r * 2 + 1];
          ptx::mma_m16n8k16<T>(own[r][j], {{upper.x, lower.x, upper.y, lower.y}},
                               {{token.x, token.y}});
          ptx::mma_m16n8k16<T>(own[r][j], {{upper.z, lower.z, upper.w, lower.w}},
                               {{token.z, token.w}});
        }
      }
      load(slot, step + slot + kDepth);
    }
  }
  ptx::let_successor_start();

#pragma unroll
  for (int r = 0; r < 2; ++r) {
#pragma unroll
    for (int j = 0; j < tiles; ++j) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        sums[warp][j * 8 + t * 2 + e % 2][r * 16 + g + e / 2 * 8] = own[r][j][e];
      }
    }
  }
  __syncthreads();
  const auto total = [&](int token, int row) {
    float sum = sums[0][token][row];
    for (int s = 1; s < kSlicesOfK; ++s) sum += sums[s][token][row];
    return sum;
  };
  for (int i = threadIdx.x; i < item.count * kColumns; i += kThreads) {
    const int token = i / kColumns, row = i % kColumns;
    if (first_column + row >= p.out_stride) continue;
    store(p, gated, item.pair(token), first_column + row, total(token, row),
          gated ? total(token, 16 + row) : 0.0F);
  }
}

template <bool gated>
__global__ void __launch_bounds__(kThreads) f32_pairs_kernel(const Product p) {
  constexpr int kHalves = gated ? 2 : 1;
  const int lane = threadIdx.x % 32, column = blockIdx.x * (kThreads / 32) + threadIdx.x / 32;
  ptx::let_successor_start();
  ptx::wait_for_predecessor();
  const Item item = find_item<kF32Tokens>(p.pairs, blockIdx.y);
  if (item.count == 0 || column >= p.out_stride) return;
  const float* x[kF32Tokens];
#pragma unroll
  for (int j = 0; j < kF32Tokens; ++j) {  // a token that is missing repeats the first
    const int pair = item.pair(j < item.count ? j : 0);
    x[j] = static_cast<const float*>(p.x) + int64_t{pair / p.pairs_of_row} * p.x_cols;
  }
  const auto* weight = static_cast<const float*>(p.weights[item.expert]);
  float sums[kHalves][kF32Tokens] = {};
  for (int k = lane; k < p.x_cols && column < p.columns; k += 32) {
#pragma unroll
    for (int half = 0; half < kHalves; ++half) {
      const float w = weight[int64_t{column + half * p.columns} * p.weight_stride + k];
#pragma unroll
      for (int j = 0; j < kF32Tokens; ++j) sums[half][j] += w * x[j][k];
    }
  }
#pragma unroll
  for (int j = 0; j < kF32Tokens; ++j) {
    const float sum = ptx::warp_sum(sums[0][j]);
    const float up_sum = gated ? ptx::warp_sum(sums[kHalves - 1][j]) : 0.0F;
    if (lane == 0 && j < item.count) store(p, gated, item.pair(j), column, sum, up_sum);
  }
}

// Row i of an expert's own rows and the row of its i-th pair in memory of all.
struct Move {
  Pairs pairs = {};
  int expert = 0;
  void* own = nullptr;  // [rows, cols]
  void* all = nullptr;  // [rows of all, cols]
  DType type = DType::f32;
  int cols = 0;
  const float* factors = nullptr;  // of pairs, or null: for what is taken
};

// Takes an expert's tokens together, or puts its f32 results at their pairs.
template <bool take>
__global__ void __launch_bounds__(kSumThreads) move_kernel(const Move p) {
  ptx::let_successor_start();
  ptx::wait_for_predecessor();
  const int64_t row = blockIdx.x;
  const int column = blockIdx.y * kSumThreads + threadIdx.x;
  if (row >= p.pairs.counts[p.expert] || column >= p.cols) return;
  const int pair = p.pairs.lists[p.expert * p.pairs.rows + row];
  const int64_t own = row * p.cols + column;
  if (take) {
    const float factor = p.factors != nullptr ? p.factors[pair] : 1.0F;
    const int64_t from = int64_t{pair / p.pairs.chosen} * p.cols + column;
    store_as(p.own, p.type, own, factor * load_as_f32(p.all, p.type, from));
  } else {
    static_cast<float*>(p.all)[int64_t{pair} * p.cols + column] =
        static_cast<const float*>(p.own)[own];
  }
}

struct Sum {
  float* out;            // [rows, cols]
  const float* parts;    // [pairs, cols]
  const float* weights;  // [pairs], or null where they are in the parts already
  const int32_t* live_rows;
  int64_t rows;
  int cols, chosen;
  bool add;
};

__global__ void __launch_bounds__(kSumThreads) sum_kernel(const Sum p) {
  ptx::let_successor_start();
  ptx::wait_for_predecessor();
  const int64_t row = blockIdx.x;
  const int column = blockIdx.y * kSumThreads + threadIdx.x;
  if (row >= live_of(p.live_rows, p.rows) || column >= p.cols) return;
  float* out = p.out + row * p.cols + column;
  float sum = p.add ? *out : 0.0F;
#pragma unroll 4
  for (int i = 0; i < p.chosen; ++i) {
    const int64_t pair = row * p.chosen + i;
    const float weight = p.weights != nullptr ? p.weights[pair] : 1.0F;
    sum += weight * p.parts[pair * p.cols + column];
  }
  *out = sum;
}

// --- host

template <typename T, int tiles, bool gated>
void launch_tiles(const Product& product, int64_t items, cudaStream_t stream) {
  constexpr int kColumns = gated ? 16 : 32;
  launch(pairs_kernel<T, tiles, gated>,
         dim3(unsigned(ceil_div(product.out_stride, kColumns)), unsigned(items)), dim3(kThreads),
         sizeof(SliceSums<tiles>), stream, product);
}

// Pieces of lists that there can be: of every expert's list the last may be short.
int64_t items_max(const Pairs& pairs, int tokens) {
  const int64_t count = pairs.rows * pairs.chosen;
  if (pairs.counts == nullptr) return count;
  return count / tokens + std::min<int64_t>(count, pairs.expert_count);
}

// Tiles of 8 pairs that a block has: enough for what an expert gets on average.
template <typename T, bool gated>
void launch_pairs(const Product& product, cudaStream_t stream) {
  const Pairs& pairs = product.pairs;
  const int64_t average = pairs.rows * pairs.chosen / pairs.expert_count;
  if (pairs.rows <= 8 || average <= 8) {
    launch_tiles<T, 1, gated>(product, items_max(pairs, 8), stream);
  } else if (average <= 32) {
    launch_tiles<T, 4, gated>(product, items_max(pairs, 32), stream);
  } else {
    launch_tiles<T, 8, gated>(product, items_max(pairs, 64), stream);
  }
}

template <bool gated>
void launch_product(const Product& product, WeightFormat format, cudaStream_t stream) {
  if (format == WeightFormat::bf16) return launch_pairs<__nv_bfloat16, gated>(product, stream);
  if (format == WeightFormat::f16) return launch_pairs<__half, gated>(product, stream);
  constexpr int kColumns = kThreads / 32;
  launch(f32_pairs_kernel<gated>,
         dim3(unsigned(ceil_div(product.out_stride, kColumns)),
              unsigned(items_max(product.pairs, kF32Tokens))),
         dim3(kThreads), 0, stream, product);
}

bool quantised(const ExpertsArgs& args) {
  return matrix(args.down.front()).format == WeightFormat::quantised;
}

// Where things stand in the workspace.
struct Layout {
  int64_t lists = 0, x = 0, gated = 0, parts = 0;
  int64_t down = 0, product = 0;  // quantised: one expert's results; what its products need
  int64_t end = 0;                // but for that
};
Layout layout_of(const ExpertsArgs& args, int64_t rows) {
  const DeviceWeight& gate_up = matrix(args.gate_up.front());
  const DeviceWeight& down = matrix(args.down.front());
  const int64_t experts = std::ssize(args.down), pairs = rows * args.experts.cols;
  const int64_t out_row_bytes = down.rows * int64_t{sizeof(float)};
  Layout at;
  at.lists = round_up(experts * int64_t{sizeof(int32_t)}, 256);
  at.x = at.lists + round_up(experts * rows * int64_t{sizeof(int32_t)}, 256);
  if (!quantised(args)) {
    at.gated = at.x + operand_bytes(gate_up, rows);
    at.parts = at.gated + operand_bytes(down, pairs);
    at.end = at.parts + round_up(pairs * out_row_bytes, 256);
    return at;
  }
  const int64_t element = bytes_of(args.x.type);
  at.gated = at.x + round_up(rows * gate_up.cols * element, 256);
  at.parts = at.gated + round_up(rows * down.cols * element, 256);
  at.down = at.parts + round_up(pairs * out_row_bytes, 256);
  at.product = at.end = at.down + round_up(rows * out_row_bytes, 256);
  return at;
}

void launch_lists(const Pairs& pairs, cudaStream_t stream) {
  launch(list_kernel, dim3(unsigned(pairs.expert_count)), dim3(kListWarps * 32), sizeof(ListShared),
         stream, pairs);
}

template <bool take>
void launch_move(const Move& move, cudaStream_t stream) {
  launch(move_kernel<take>,
         dim3(unsigned(move.pairs.rows), unsigned(ceil_div(move.cols, kSumThreads))),
         dim3(kSumThreads), 0, stream, move);
}

// parts[pair] = down(gate(gate_up(x of pair))), expert by expert.
void quantised_parts(const ExpertsArgs& args, const Pairs& pairs, const DeviceLimits& limits,
                     std::byte* memory, const Layout& at, cudaStream_t stream) {
  for (int expert = 0; expert < pairs.expert_count; ++expert) {
    const DeviceWeight& gate_up = matrix(args.gate_up[size_t(expert)]);
    const DeviceWeight& down = matrix(args.down[size_t(expert)]);
    const int32_t* count = pairs.counts + expert;
    const View x{memory + at.x, args.x.type, pairs.rows, gate_up.cols, count};
    const View gated{memory + at.gated, args.x.type, pairs.rows, down.cols, count};
    const View out{memory + at.down, DType::f32, pairs.rows, down.rows, count};
    Move move{.pairs = pairs,
              .expert = expert,
              .own = x.data,
              .all = args.x.data,
              .type = x.type,
              .cols = int(x.cols)};
    if (args.weigh_input) move.factors = static_cast<const float*>(args.weights.data);
    launch_move<true>(move, stream);
    matmul_quantised({.out = gated,
                      .x = x,
                      .weight = &gate_up,
                      .gated = true,
                      .gate = args.gate,
                      .limits = limits},
                     memory + at.product, true, stream);
    matmul_quantised({.out = out, .x = gated, .weight = &down, .limits = limits},
                     memory + at.product, true, stream);
    launch_move<false>({.pairs = pairs,
                        .expert = expert,
                        .own = out.data,
                        .all = memory + at.parts,
                        .cols = int(out.cols)},
                       stream);
  }
}

// The same for plain weights, all experts in two launches.
void plain_parts(const ExpertsArgs& args, const Pairs& pairs, const void* const* pointers,
                 std::byte* memory, const Layout& at, cudaStream_t stream) {
  const DeviceWeight& gate_up = matrix(args.gate_up.front());
  const DeviceWeight& down = matrix(args.down.front());
  View x = args.x;
  x.rows = pairs.rows;
  x = as_operand(x, gate_up, memory + at.x, stream);
  const bool f32 = down.format == WeightFormat::f32;
  const int gated_cols = int(f32 ? down.cols : down.stride);
  launch_product<true>(
      {.pairs = pairs,
       .weights = pointers,
       .weight_stride = gate_up.stride,
       .columns = int(gate_up.rows / 2),
       .x = x.data,
       .x_cols = int(x.cols),
       .pairs_of_row = pairs.chosen,
       .factors = args.weigh_input ? static_cast<const float*>(args.weights.data) : nullptr,
       .gate = args.gate,
       .out = memory + at.gated,
       .out_type = type_of(down.format),
       .out_stride = gated_cols},
      gate_up.format, stream);
  launch_product<false>({.pairs = pairs,
                         .weights = pointers + pairs.expert_count,
                         .weight_stride = down.stride,
                         .columns = int(down.rows),
                         .x = memory + at.gated,
                         .x_cols = gated_cols,
                         .out = memory + at.parts,
                         .out_stride = int(down.rows)},
                        down.format, stream);
}

}  // namespace

void route_experts(const RouteArgs& args, cudaStream_t stream) {
  if (args.logits.cols > kExpertsMax) {
    throw std::invalid_argument("mixtures of more than " + std::to_string(kExpertsMax) +
                                " experts are not built for CUDA");
  }
  assert(args.experts.cols >= 1 && args.experts.cols <= args.logits.cols);
  if (args.logits.rows == 0) return;
  const Route route{.logits = static_cast<const float*>(args.logits.data),
                    .experts = static_cast<int32_t*>(args.experts.data),
                    .weights = static_cast<float*>(args.weights.data),
                    .live_rows = args.logits.live_rows,
                    .rows = args.logits.rows,
                    .expert_count = int(args.logits.cols),
                    .chosen = int(args.experts.cols),
                    .sigmoid = args.score == RouterScore::sigmoid,
                    .normalised = args.normalised};
  launch(route_kernel, dim3(unsigned(ceil_div(route.rows, kRouteWarps))), dim3(kRouteWarps * 32), 0,
         stream, route);
}

std::vector<const void*> expert_pointers(const ExpertsArgs& args) {
  assert(!args.down.empty() && args.gate_up.size() == args.down.size());
  const WeightFormat format = matrix(args.down.front()).format;
  std::vector<const void*> pointers;
  for (const auto* weights : {&args.gate_up, &args.down}) {
    const DeviceWeight& first = matrix(weights->front());
    for (const Weight& weight : *weights) {
      const DeviceWeight& expert = matrix(weight);
      if (expert.format != format) {
        throw std::invalid_argument(
            "experts of which some are quantised and some are not are not built for CUDA");
      }
      assert(expert.rows == first.rows && expert.cols == first.cols &&
             expert.stride == first.stride);
      pointers.push_back(expert.data);
    }
  }
  return pointers;
}

int64_t experts_workspace_bytes(const ExpertsArgs& args) {
  int64_t product = 0;
  for (const auto* weights : {&args.gate_up, &args.down}) {
    for (const Weight& weight : *weights) {
      if (!quantised(args)) break;
      // Deterministic, for which no limits of the device count.
      product = std::max(product, quantised_workspace_bytes(matrix(weight), args.x.rows, {}, true));
    }
  }
  return layout_of(args, args.x.rows).end + product;
}

void experts(const ExpertsArgs& args, int64_t rows, const DeviceLimits& limits,
             const void* const* pointers, void* workspace, cudaStream_t stream) {
  if (rows == 0) return;
  const Layout at = layout_of(args, rows);
  auto* memory = static_cast<std::byte*>(workspace);
  Pairs pairs{.experts = static_cast<const int32_t*>(args.experts.data),
              .live_rows = args.x.live_rows,
              .rows = rows,
              .chosen = int(args.experts.cols),
              .expert_count = int(std::ssize(args.down))};
  if (rows > 1 || quantised(args)) {
    pairs.counts = reinterpret_cast<int32_t*>(memory);
    pairs.lists = reinterpret_cast<int32_t*>(memory + at.lists);
    launch_lists(pairs, stream);
  }
  if (quantised(args)) {
    quantised_parts(args, pairs, limits, memory, at, stream);
  } else {
    plain_parts(args, pairs, pointers, memory, at, stream);
  }
  const Sum sum{
      .out = static_cast<float*>(args.out.data),
      .parts = reinterpret_cast<const float*>(memory + at.parts),
      .weights = args.weigh_input ? nullptr : static_cast<const float*>(args.weights.data),
      .live_rows = args.x.live_rows,
      .rows = rows,
      .cols = int(args.out.cols),
      .chosen = pairs.chosen,
      .add = args.add};
  launch(sum_kernel, dim3(unsigned(rows), unsigned(ceil_div(sum.cols, kSumThreads))),
         dim3(kSumThreads), 0, stream, sum);
}

}  // namespace chorus::kernels::cuda
