// The plan of a step's attention, attention in f32, and the choice among the kernels.
//
// The plan is made by one block: it chooses how many spans of keys a decode item walks (run_of);
// then a thread per span counts its work, scans give each its place.
// Items are written from the end of their array backwards, so that what comes last in order is
// taken first: the late tiles of a prompt, which see the most keys, and spans whose partial results
// found no room, which one block has to walk alone.
//
// Which kernel takes a span depends on the span alone: those of kPrefillTokens and more are the
// prefill kernel's, which on sm_90a (and without `deterministic`) is the one for wgmma. Whether
// that kernel is launched at all depends on the buckets; where it is not, the decode kernel does
// its work. In steps of decode alone no span is so long, so this changes no bits. Keys and values
// of fp8 are never multiplied by wgmma, which would want them as f16 in shared memory, and
// swizzled.
//
// In f32 (the exact mode) a warp takes a query row and its lanes the 32 tokens of a block for the
// scores, then the dimensions for the values: plain arithmetic, no tensor cores, no great speed.
#include "kernels/cuda/attention.h"

#include <algorithm>
#include <climits>
#include <stdexcept>
#include <string>

#include "kernels/cuda/attention_work.h"
#include "kernels/cuda/plan.h"

namespace chorus::kernels::cuda {
namespace attention_work {
namespace {

// ---- The plan ----

constexpr int kPlanThreads = 128;

struct PlanArgs {
  const Span* spans = nullptr;
  const int32_t* live = nullptr;
  int spans_max = 0;
  int prefill_tokens = 0;  // spans of so many tokens are prefill items
  int prefill_rows = 0;
  int decode_blocks = 0;  // that run at once, for which decode items are runs of key spans;
                          // 0: they are whole rows
};

struct PlanShared {
  int items[kPlanThreads / 32][kRunChoices], longest[kPlanThreads / 32];
  int scan[2][kPlanThreads];
  int decode_end[kPlanThreads], prefill_end[kPlanThreads];  // items of the spans up to this one
  int parts[kPlanThreads], partials[kPlanThreads];
};

// Inclusive prefix sums over the block.
__device__ inline int scan(PlanShared& shared, int value) {
  const int thread = int(threadIdx.x);
  int from = 0;
  shared.scan[from][thread] = value;
  __syncthreads();
  for (int distance = 1; distance < kPlanThreads; distance *= 2) {
    const int sum =
        shared.scan[from][thread] + (thread >= distance ? shared.scan[from][thread - distance] : 0);
    from ^= 1;
    shared.scan[from][thread] = sum;
    __syncthreads();
  }
  const int result = shared.scan[from][thread];
  __syncthreads();
  return result;
}

// The first span whose items end after `index`.
__device__ inline int span_of(const int (&ends)[kPlanThreads], int index) {
  int low = 0, high = kPlanThreads - 1;
  while (low < high) {
    const int middle = (low + high) / 2;
    if (ends[middle] > index) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

// The spans of keys that some row of `span` sees.
__device__ inline int key_spans(const Shape& shape, const Span& span) {
  if (span.count <= 0) return 1;
  return (span.position + span.count - 1) / kSpanTokens -
         first_visible(shape, span.position) / kSpanTokens + 1;
}

// The run for this step's decode items, the same in all threads.
__device__ inline int choose_run(PlanShared& shared, const Shape& shape, const PlanArgs& args,
                                 int live) {
  int items[kRunChoices] = {}, longest = 1;
  for (int i = int(threadIdx.x); i < live; i += kPlanThreads) {
    const Span span = args.spans[i];
    if (span.count >= args.prefill_tokens) continue;
    const int tiles = (span.count * shape.group_max + kDecodeRows - 1) / kDecodeRows;
    const int spans = key_spans(shape, span);
    longest = max(longest, spans);
#pragma unroll
    for (int c = 0; c < kRunChoices; ++c) items[c] += tiles * (((spans - 1) >> c) + 1);
  }
  const int warp = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32;
#pragma unroll
  for (int c = 0; c < kRunChoices; ++c) {
    const int sum = ptx::warp_sum(items[c]);
    if (lane == 0) shared.items[warp][c] = sum;
  }
  longest = ptx::warp_max(longest);
  if (lane == 0) shared.longest[warp] = longest;
  __syncthreads();
#pragma unroll
  for (int c = 0; c < kRunChoices; ++c) {
    items[c] = 0;
    for (int w = 0; w < kPlanThreads / 32; ++w) items[c] += shared.items[w][c];
    items[c] *= shape.kv_heads;
  }
  for (int w = 0; w < kPlanThreads / 32; ++w) longest = max(longest, shared.longest[w]);
  return run_of(items, longest, args.decode_blocks);
}

__global__ void __launch_bounds__(kPlanThreads)
    attention_plan_kernel(const __grid_constant__ Shape shape, const __grid_constant__ Work work,
                          const __grid_constant__ PlanArgs args) {
  PlanShared& shared = shared_memory<PlanShared>();
  const int thread = int(threadIdx.x);
  ptx::let_successor_start();
  ptx::wait_for_predecessor();
  const int live = args.live != nullptr ? min(*args.live, args.spans_max) : args.spans_max;
  const bool in_parts = args.decode_blocks > 0;
  const int run = in_parts ? choose_run(shared, shape, args, live) : 1;
  int decode_total = 0, prefill_total = 0, partials_total = 0;
  for (int first = 0; first < live; first += kPlanThreads) {
    Span span;
    if (first + thread < live) span = args.spans[first + thread];
    const int query_rows = span.count * shape.group_max;
    const bool prefill = span.count >= args.prefill_tokens;
    const int tiles = prefill ? (query_rows + args.prefill_rows - 1) / args.prefill_rows
                              : (query_rows + kDecodeRows - 1) / kDecodeRows;
    int parts = 1;
    if (in_parts && !prefill) parts = key_spans(shape, span);
    if (parts <= run) parts = 1;  // the rows' only item
    // Room for the partial results goes to the first spans that want some.
    const int room = work.partials_capacity + 1;
    const int64_t wanted =
        parts > 1 ? int64_t{tiles} * parts * shape.kv_heads * min(kDecodeRows, query_rows) : 0;
    const int wants = wanted < room ? int(wanted) : room;
    const int partials_end = min(room, partials_total) + scan(shared, wants);
    if (partials_end > work.partials_capacity) parts = 1;
    shared.parts[thread] = parts;
    shared.partials[thread] = partials_end - wants;
    shared.decode_end[thread] = scan(shared, prefill ? 0 : tiles * items_of(parts, run));
    shared.prefill_end[thread] = scan(shared, prefill ? tiles : 0);
    shared.scan[0][thread] = partials_end;
    __syncthreads();

    const int decode_count = shared.decode_end[kPlanThreads - 1];
    for (int i = thread; i < decode_count; i += kPlanThreads) {
      const int at = span_of(shared.decode_end, i);
      const Span of = args.spans[first + at];
      const int local = i - (at > 0 ? shared.decode_end[at - 1] : 0),
                parts_there = shared.parts[at];
      const int count = items_of(parts_there, run), tile = local / count;
      work.decode[work.decode_capacity - 1 - (decode_total + i)] = {
          of.row,
          of.count,
          of.slot,
          of.position,
          tile,
          count > 1 ? local % count * run : kWhole,
          parts_there,
          shared.partials[at] +
              tile * parts_there * shape.kv_heads * min(kDecodeRows, of.count * shape.group_max)};
    }
    const int prefill_count = shared.prefill_end[kPlanThreads - 1];
    for (int i = thread; i < prefill_count; i += kPlanThreads) {
      const int at = span_of(shared.prefill_end, i);
      const Span of = args.spans[first + at];
      work.prefill[work.prefill_capacity - 1 - (prefill_total + i)] = {
          of.row, of.count, of.slot, of.position, i - (at > 0 ? shared.prefill_end[at - 1] : 0),
          kWhole, 1,        0};
    }
    decode_total += decode_count;
    prefill_total += prefill_count;
    partials_total = shared.scan[0][kPlanThreads - 1];
    __syncthreads();  // before the next spans' counts
  }
  if (thread == 0) {
    work.counts[0] = decode_total;
    work.counts[1] = prefill_total;
    work.counts[2] = run;
  }
}

// ---- f32 ----

constexpr int kExactWarps = 4;
constexpr int kDimMax = 256;

struct ExactShared {
  float query[kExactWarps][kDimMax];
  float weights[kExactWarps][kBlockTokens];
};

__global__ void __launch_bounds__(kExactWarps * 32, 4)
    attention_exact_kernel(const __grid_constant__ Shape shape, const __grid_constant__ Work work) {
  ExactShared& shared = shared_memory<ExactShared>();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, dim = shape.head_dim;
  const auto* keys = static_cast<const float*>(shape.keys);
  const auto* values = static_cast<const float*>(shape.values);
  ptx::let_successor_start();
  ptx::wait_for_predecessor();
  const int item_count = work.counts[0];
  const Item* items = work.decode + (work.decode_capacity - item_count);
  for (int index = int(blockIdx.x); index < item_count * shape.kv_heads; index += int(gridDim.x)) {
    const Item item = items[index / shape.kv_heads];
    const int kv_head = index % shape.kv_heads;
    const Rows rows = rows_of<kDecodeRows>(shape, item, kv_head);
    for (int r = warp; r < rows.count; r += kExactWarps) {
      const int64_t row = item.row + rows.token(r);
      const float* query = shape.qkv + row * shape.qkv_cols + rows.head_of(r) * dim;
      __syncwarp();  // the row before has been read
      for (int d = lane; d < dim; d += 32) shared.query[warp][d] = query[d];
      __syncwarp();
      const Sight sight = sight_of(shape, item, rows, r);
      float maximum = kLowest, sum = 0, value[kDimMax / 32]{};
      for (int token = sight.first / kBlockTokens * kBlockTokens; token <= sight.last;
           token += kBlockTokens) {
        const int64_t block =
            shape.block_table[item.slot * shape.blocks_max + token / kBlockTokens];
        const int64_t at = (block * shape.kv_heads + kv_head) * kBlockTokens * dim;
        float score = -INFINITY;
        if (sight.sees(token + lane)) {
          score = 0;
          for (int d = 0; d < dim; ++d) {
            score = fmaf(shared.query[warp][d], keys[at + lane * dim + d], score);
          }
          if (shape.soft_cap > 0) score = shape.soft_cap * tanhf(score / shape.soft_cap);
        }
        const float higher = fmaxf(maximum, ptx::warp_max(score));
        const float shrink = expf(maximum - higher);
        maximum = higher;
        const float weight = expf(score - higher);
        sum = fmaf(sum, shrink, ptx::warp_sum(weight));
        __syncwarp();  // the tile before has been read
        shared.weights[warp][lane] = weight;
        __syncwarp();
        const int first = max(0, sight.first - token), last = min(31, sight.last - token);
#pragma unroll
        for (int i = 0; i < kDimMax / 32; ++i) {
          const int d = lane + 32 * i;
          if (d >= dim) break;
          value[i] *= shrink;
          for (int t = first; t <= last; ++t) {
            value[i] = fmaf(shared.weights[warp][t], values[at + t * dim + d], value[i]);
          }
        }
      }
      // Elements that lie together come from different lanes: stored one by one.
      const int64_t to = row * shape.out_cols + rows.head_of(r) * dim;
#pragma unroll
      for (int i = 0; i < kDimMax / 32; ++i) {
        const int d = lane + 32 * i;
        if (d >= dim) break;
        const float x = value[i] / sum;
        if (shape.out_type == DType::f32) {
          static_cast<float*>(shape.out)[to + d] = x;
        } else if (shape.out_type == DType::f16) {
          static_cast<__half*>(shape.out)[to + d] = __float2half_rn(x);
        } else {
          static_cast<__nv_bfloat16*>(shape.out)[to + d] = __float2bfloat16_rn(x);
        }
      }
    }
  }
}

// ---- The host's side ----

void require(bool holds, const char* what) {
  if (!holds) throw std::invalid_argument(std::string("attention: ") + what);
}

// What the kernels take; while recording, so that a model that they do not serve fails to start.
void check(const AttentionArgs& args) {
  require(args.head_dim > 0 && args.head_dim <= kDimMax && args.head_dim % 8 == 0,
          "head_dim must be a multiple of 8 up to 256");
  require(args.kv_heads > 0 && args.kv_heads <= kKvHeadsMax, "there may be 128 KV heads");
  require(int(args.kv_head_of.size()) == args.q_heads &&
              std::is_sorted(args.kv_head_of.begin(), args.kv_head_of.end()),
          "query heads of one KV head must stand together");
  require(args.window == 0 || args.chunk == 0, "a window and chunks exclude each other");
  require(static_cast<const KvBlocks&>(*args.kv).type != DType::e4m3 || args.head_dim % 16 == 0,
          "with keys and values of fp8 head_dim must be a multiple of 16");
}

Shape shape_of(const AttentionArgs& args, const AttentionContext& context) {
  const auto& kv = static_cast<const KvBlocks&>(*args.kv);
  const int64_t layer_bytes = args.layer * kv.layer_elements() * bytes_of(kv.type);
  Shape shape{.qkv = static_cast<const float*>(args.qkv.data),
              .out = args.out.data,
              .keys = static_cast<const std::byte*>(kv.keys) + layer_bytes,
              .values = static_cast<const std::byte*>(kv.values) + layer_bytes,
              .block_table = static_cast<const int32_t*>(args.block_table.data),
              .qkv_cols = args.qkv.cols,
              .out_cols = args.out.cols,
              .blocks = kv.shape.blocks,
              .blocks_max = args.block_table.cols,
              .out_type = args.out.type,
              .head_dim = args.head_dim,
              .kv_heads = args.kv_heads,
              .window = int(std::min<int64_t>(args.window, INT_MAX)),
              .chunk = int(std::min<int64_t>(args.chunk, INT_MAX)),
              .soft_cap = args.soft_cap,
              .cap_rate = args.soft_cap > 0 ? 2 * kLog2E / args.soft_cap : 0,
              .multiprocessors = context.multiprocessors};
  int head = 0;
  for (int kv_head = 0; kv_head < args.kv_heads; ++kv_head) {
    shape.first_head[kv_head] = uint16_t(head);
    while (head < args.q_heads && args.kv_head_of[size_t(head)] == kv_head) ++head;
    shape.group_max = std::max(shape.group_max, head - shape.first_head[kv_head]);
  }
  shape.first_head[args.kv_heads] = uint16_t(head);
  require(head == args.q_heads, "kv_head_of names a KV head that there is not");
  return shape;
}

// Where the parts of the workspace lie; `end` is its size.
struct Layout {
  Work work;
  int64_t end = 0;
};
Layout layout_of(const AttentionArgs& args, const AttentionRoom& room, void* memory) {
  auto* bytes = static_cast<std::byte*>(memory);
  Layout layout;
  const auto take = [&](int64_t size) {
    void* at = bytes + layout.end;
    layout.end += (size + 255) / 256 * 256;
    return at;
  };
  std::vector<int> groups(size_t(std::max(1, args.kv_heads)), 0);
  for (const int kv_head : args.kv_head_of) ++groups.at(size_t(kv_head));
  const int64_t group = *std::max_element(groups.begin(), groups.end());
  Work& work = layout.work;
  const int64_t tiles = room.tokens_max * group / kDecodeRows + room.spans_max;
  work.partials_capacity = int32_t(room.partials_max);
  work.decode_capacity = int32_t(tiles + room.partials_max / args.kv_heads);
  work.prefill_capacity = int32_t(tiles);
  work.counts = static_cast<int32_t*>(take(3 * 4));
  work.arrived = static_cast<uint32_t*>(take((room.partials_max / 2 + 1) * 4));
  work.decode = static_cast<Item*>(take(work.decode_capacity * int64_t(sizeof(Item))));
  work.prefill = static_cast<Item*>(take(work.prefill_capacity * int64_t(sizeof(Item))));
  work.states = static_cast<float2*>(take(room.partials_max * int64_t(sizeof(float2))));
  work.values = static_cast<float*>(take(room.partials_max * args.head_dim * 4));
  return layout;
}

// The kernel that is fastest on sm_90a sums up in another order than the decode kernel.
bool takes_hopper(const AttentionArgs& args, const AttentionContext& context) {
  return context.capability == 90 && !context.deterministic &&
         static_cast<const KvBlocks&>(*args.kv).type != DType::e4m3;
}

// Whether these launches include a prefill kernel; where its tiles do not fit, the decode kernel
// serves all. Steps of decode alone come with as many rows as spans; there, a bucket is less than
// twice of what is live, so no span is as long as half of it.
bool may_prefill(const AttentionArgs& args, const AttentionContext& context) {
  const DType cache = static_cast<const KvBlocks&>(*args.kv).type;
  if (cache == DType::f32) return false;
  if (prefill_shared_bytes(cache, args.head_dim) + 1024 > shared_bytes_max(context.capability)) {
    return false;
  }
  return args.out.rows >= (args.out.rows > args.spans.rows ? 1 : 2) * kPrefillTokens;
}

}  // namespace
}  // namespace attention_work

using namespace attention_work;

AttentionRoom attention_room(const AttentionArgs& args) {
  AttentionRoom room{.tokens_max = args.out.rows, .spans_max = args.spans.rows};
  const int64_t parts = args.block_table.cols * kBlockTokens / kSpanTokens + 1;
  room.partials_max = std::min(room.partials_max, room.tokens_max * args.q_heads * parts);
  return room;
}

int64_t attention_workspace_bytes(const AttentionArgs& args, const AttentionRoom& room) {
  check(args);
  return layout_of(args, room, nullptr).end;
}

void attention_plan(const AttentionArgs& args, const AttentionContext& context,
                    cudaStream_t stream) {
  const Shape shape = shape_of(args, context);
  const DType cache = static_cast<const KvBlocks&>(*args.kv).type;
  const bool exact = cache == DType::f32;
  const PlanArgs plan{
      .spans = static_cast<const Span*>(args.spans.data),
      .live = args.spans.live_rows,
      .spans_max = int(args.spans.rows),
      .prefill_tokens = may_prefill(args, context) ? kPrefillTokens : INT_MAX,
      .prefill_rows = takes_hopper(args, context) ? kHopperRows : prefill_rows(args.head_dim),
      .decode_blocks =
          exact ? 0 : decode_blocks(shape, cache, shared_bytes_max(context.capability))};
  launch(attention_plan_kernel, dim3(1), dim3(kPlanThreads), sizeof(PlanShared), stream, shape,
         layout_of(args, context.room, context.workspace).work, plan);
}

void attention(const AttentionArgs& args, const AttentionContext& context, cudaStream_t stream) {
  const Shape shape = shape_of(args, context);
  const Work work = layout_of(args, context.room, context.workspace).work;
  const DType cache = static_cast<const KvBlocks&>(*args.kv).type;
  if (cache == DType::f32) {
    launch(attention_exact_kernel, dim3(unsigned(4 * context.multiprocessors)),
           dim3(kExactWarps * 32), sizeof(ExactShared), stream, shape, work);
    return;
  }
  if (may_prefill(args, context)) {
    (takes_hopper(args, context) ? prefill_hopper : prefill)(shape, work, cache, stream);
  }
  decode(shape, work, cache, shared_bytes_max(context.capability), stream);
}

}  // namespace chorus::kernels::cuda
