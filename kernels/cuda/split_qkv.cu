// Norm, rotation and storing of keys and values: one pass over the projection.
//
// A head is rotated by halves: elements i and i + half form a pair, which one thread holds, so that
// q can be written where it was read without meeting anybody. Where only the first part of a head
// is rotated, the rest is paired by halves as well and left as it is. A lane group (a power of two
// of neighbouring lanes) serves a head, `kWidth` pairs of neighbours a lane and round: 16-byte
// accesses for every head size that is a multiple of 8.
//
// A block serves some heads of one row. Its threads look through the live spans together for the
// one that holds the row, while the row is on its way.
//
// Bound: bytes where there are many rows (each element is read once, q and the stored forms written
// once); three loads that depend on each other (span, block table, tables) where there is one.
#include "kernels/cuda/split_qkv.h"

#include <cmath>

#include "kernels/cuda/device_weight.h"
#include "kernels/cuda/elements.h"
#include "kernels/cuda/kv_blocks.h"
#include "kernels/cuda/ptx.h"
#include "kernels/rounding.h"

namespace chorus::kernels::cuda {
namespace {

constexpr int kThreadsMax = 256;

template <typename Kv>
struct SplitArgs {
  float* qkv;
  int64_t cols;  // of qkv
  const int32_t* live_rows;
  int q_heads, kv_heads, head_dim;
  int rotated;          // the first elements of a head, or 0
  int lanes;            // that serve a head
  const float* q_norm;  // null: none
  const float* k_norm;
  float eps;
  const float* cosines;  // [positions, rotated / 2]
  const float* sines;
  float q_scale;
  float q_growth, q_growth_positions;
  const Span* spans;
  const int32_t* live_spans;
  int spans_max;
  const int32_t* block_table;
  int64_t blocks_of_slot;  // columns of the block table
  Kv* keys;                // of the layer
  Kv* values;
  int64_t rows;    // blocks in x; those behind them bring
  Prefetch ahead;  // this into L2
};

// Where a row's token stands in its sequence.
struct SplitShared {
  int position;  // -1: the row belongs to no span
  int slot;
};

template <typename Kv>
__device__ void find_token(SplitShared& shared, const SplitArgs<Kv>& args, int row) {
  const int spans = args.live_spans == nullptr ? args.spans_max : *args.live_spans;
  if (threadIdx.x == 0) shared.position = -1;
  __syncthreads();
  for (int i = threadIdx.x; i < spans; i += blockDim.x) {
    const Span span = args.spans[i];
    if (row < span.row || row >= span.row + span.count) continue;
    shared.position = span.position + row - span.row;
    shared.slot = span.slot;
  }
  __syncthreads();
}

// A lane's share of a head: in round r, the pairs [first, first + kWidth) of which `low` and `high`
// are the elements.
template <int kWidth>
struct Pairs {
  int low, high;
  bool rotated;
  bool exist;
};

template <int kWidth, typename Kv>
__device__ inline Pairs<kWidth> pairs_of(const SplitArgs<Kv>& args, int lane, int round) {
  const int first = (round * args.lanes + lane) * kWidth;
  const int half = args.rotated / 2;
  const int rest = (args.head_dim - args.rotated) / 2;
  if (first < half) return {first, first + half, true, true};
  const int low = args.rotated + first - half;
  return {low, low + rest, false, first < half + rest};
}

// Divides by the root of the head's mean square, times weight. All lanes of the group take part.
template <int kWidth, int kRounds, typename Kv>
__device__ inline void norm_head(float (&low)[kRounds][kWidth], float (&high)[kRounds][kWidth],
                                 const float* weight, const SplitArgs<Kv>& args, int lane) {
  float squares = 0;
#pragma unroll
  for (int r = 0; r < kRounds; ++r) {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      squares += low[r][i] * low[r][i] + high[r][i] * high[r][i];
    }
  }
  for (int distance = args.lanes / 2; distance > 0; distance /= 2) {
    squares += __shfl_xor_sync(~0u, squares, distance);
  }
  if (weight == nullptr) return;
  const float factor = 1.0F / sqrtf(squares / static_cast<float>(args.head_dim) + args.eps);
#pragma unroll
  for (int r = 0; r < kRounds; ++r) {
    const auto pairs = pairs_of<kWidth>(args, lane, r);
    if (!pairs.exist) continue;
    float low_weight[kWidth], high_weight[kWidth];
    load(low_weight, weight + pairs.low);
    load(high_weight, weight + pairs.high);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      low[r][i] = low[r][i] * factor * low_weight[i];
      high[r][i] = high[r][i] * factor * high_weight[i];
    }
  }
}

template <typename Kv>
__device__ inline float scale_of_query(const SplitArgs<Kv>& args, int position) {
  if (args.q_growth == 0) return args.q_scale;
  const float steps = floorf(static_cast<float>(position + 1) / args.q_growth_positions);
  return args.q_scale * (1.0F + args.q_growth * log1pf(steps));
}

template <int kWidth, int kRounds, typename Kv>
__global__ void __launch_bounds__(kThreadsMax) split_qkv_kernel(SplitArgs<Kv> args) {
  ptx::let_successor_start();
  if (blockIdx.x >= args.rows) {
    if (blockIdx.y == 0) {
      ptx::prefetch_share(args.ahead, static_cast<int>(blockIdx.x - args.rows));
    }
    ptx::wait_for_predecessor();
    return;
  }
  auto& shared = shared_memory<SplitShared>();
  const int row = static_cast<int>(blockIdx.x);
  const int heads_per_block = static_cast<int>(blockDim.x) / args.lanes;
  const int head =
      static_cast<int>(blockIdx.y) * heads_per_block + static_cast<int>(threadIdx.x) / args.lanes;
  const int lane = static_cast<int>(threadIdx.x) % args.lanes;
  const int rotated_heads = args.q_heads + args.kv_heads;
  const bool exists = head < rotated_heads + args.kv_heads;
  const bool query = head < args.q_heads;
  const bool value = head >= rotated_heads;
  float* x = args.qkv + row * args.cols + int64_t{head} * args.head_dim;

  ptx::wait_for_predecessor();
  const bool live = is_live(row, args.live_rows);
  float low[kRounds][kWidth] = {}, high[kRounds][kWidth] = {};
#pragma unroll
  for (int r = 0; r < kRounds; ++r) {
    const auto pairs = pairs_of<kWidth>(args, lane, r);
    if (!exists || !pairs.exist) continue;
    load(low[r], x + pairs.low);
    load(high[r], x + pairs.high);
  }
  find_token(shared, args, row);
  const int position = shared.position;
  if (!live || position < 0) return;

  if (args.q_norm != nullptr || args.k_norm != nullptr) {  // the same for all lanes of a warp
    const float* weight = query ? args.q_norm : value ? nullptr : args.k_norm;
    norm_head<kWidth, kRounds>(low, high, weight, args, lane);
  }
  if (!exists) return;
  const float scale = scale_of_query(args, position);
  Kv* stored = nullptr;  // this head's row of the token's block
  if (!query) {
    const int block = args.block_table[shared.slot * args.blocks_of_slot + position / kBlockTokens];
    const int kv_head = value ? head - rotated_heads : head - args.q_heads;
    stored = (value ? args.values : args.keys) +
             ((int64_t{block} * args.kv_heads + kv_head) * kBlockTokens + position % kBlockTokens) *
                 args.head_dim;
  }
#pragma unroll
  for (int r = 0; r < kRounds; ++r) {
    const auto pairs = pairs_of<kWidth>(args, lane, r);
    if (!pairs.exist) continue;
    if (!value && pairs.rotated) {
      float cosine[kWidth], sine[kWidth];
      const int64_t angle = int64_t{position} * (args.rotated / 2) + pairs.low;
      load(cosine, args.cosines + angle);
      load(sine, args.sines + angle);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        const float a = low[r][i], b = high[r][i];
        low[r][i] = a * cosine[i] - b * sine[i];
        high[r][i] = b * cosine[i] + a * sine[i];
      }
    }
    if (query) {
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        low[r][i] *= scale;
        high[r][i] *= scale;
      }
      store(x + pairs.low, low[r]);
      store(x + pairs.high, high[r]);
    } else {
      store(stored + pairs.low, low[r]);
      store(stored + pairs.high, high[r]);
    }
  }
}

constexpr int kWide = 4;  // pairs of neighbours where head sizes allow
constexpr int kHeadDimMax = 512;

template <typename Kv>
void launch_split(SplitArgs<Kv> args, cudaStream_t stream) {
  const int halves[] = {args.rotated / 2, (args.head_dim - args.rotated) / 2};
  const bool wide = halves[0] % kWide == 0 && halves[1] % kWide == 0 && args.cols % kWide == 0 &&
                    packs_fit<float, kWide>(args.qkv, args.cols) &&
                    packs_fit<float, kWide>(args.q_norm, args.head_dim) &&
                    packs_fit<float, kWide>(args.k_norm, args.head_dim) &&
                    packs_fit<float, kWide>(args.cosines, halves[0]) &&
                    packs_fit<float, kWide>(args.sines, halves[0]);
  const int shares = args.head_dim / 2 / (wide ? kWide : 1);  // what a lane holds in a round
  args.lanes = 1;
  while (args.lanes < 32 && args.lanes < shares) args.lanes *= 2;
  const int heads = args.q_heads + 2 * args.kv_heads;
  int threads = static_cast<int>(round_up(heads * args.lanes, 32));
  if (threads > kThreadsMax) threads = kThreadsMax;
  const int heads_per_block = threads / args.lanes;
  const dim3 grid(static_cast<unsigned>(args.rows) + args.ahead.blocks(),
                  static_cast<unsigned>(ceil_div(heads, heads_per_block)));
  const auto kernel = !wide                  ? split_qkv_kernel<1, kHeadDimMax / 64, Kv>
                      : shares <= args.lanes ? split_qkv_kernel<kWide, 1, Kv>
                                             : split_qkv_kernel<kWide, kHeadDimMax / 256, Kv>;
  launch(kernel, grid, dim3(static_cast<unsigned>(threads)), sizeof(SplitShared), stream, args);
}

}  // namespace

void split_qkv(const QkvArgs& args, cudaStream_t stream, const Prefetch& ahead) {
  if (args.qkv.type != DType::f32) throw std::invalid_argument("split_qkv: qkv is not f32");
  if (args.head_dim > kHeadDimMax || args.head_dim % 2 != 0) {
    throw std::invalid_argument("split_qkv: heads of " + std::to_string(args.head_dim) +
                                " elements; even sizes up to 512 are served");
  }
  if (args.qkv.rows == 0) return;
  const auto& kv = static_cast<const KvBlocks&>(*args.kv);
  const auto* rope = static_cast<const RopeTable*>(args.rope);
  const auto split = [&](auto element) {
    using Kv = typename decltype(element)::type;
    const int64_t layer = args.layer * kv.layer_elements();
    launch_split<Kv>({.qkv = static_cast<float*>(args.qkv.data),
                      .cols = args.qkv.cols,
                      .live_rows = args.qkv.live_rows,
                      .q_heads = args.q_heads,
                      .kv_heads = args.kv_heads,
                      .head_dim = args.head_dim,
                      .rotated = rope == nullptr ? 0 : rope->rotated,
                      .lanes = 1,
                      .q_norm = vector(args.q_norm),
                      .k_norm = vector(args.k_norm),
                      .eps = args.norm_eps,
                      .cosines = rope == nullptr ? nullptr : rope->cosines,
                      .sines = rope == nullptr ? nullptr : rope->sines,
                      .q_scale = args.q_scale,
                      .q_growth = args.q_growth,
                      .q_growth_positions = args.q_growth_positions,
                      .spans = static_cast<const Span*>(args.spans.data),
                      .live_spans = args.spans.live_rows,
                      .spans_max = static_cast<int>(args.spans.rows),
                      .block_table = static_cast<const int32_t*>(args.block_table.data),
                      .blocks_of_slot = args.block_table.cols,
                      .keys = static_cast<Kv*>(kv.keys) + layer,
                      .values = static_cast<Kv*>(kv.values) + layer,
                      .rows = args.qkv.rows,
                      .ahead = ahead},
                     stream);
  };
  if (kv.type == DType::e4m3) {
    split(Element<__nv_fp8_e4m3>());
  } else {
    with_float_type(kv.type, "split_qkv", split);
  }
}

}  // namespace chorus::kernels::cuda
