// Attention in two passes over a row's context: all scores into a buffer, softmax, then the
// weighted values. Work is cut into tiles of up to 8 query vectors that share one KV head (several
// rows of a prompt, several query heads of a group): they share the loads of keys and values. A
// query's own sums run over its own positions in order, however it was grouped.
#include "kernels/cpu/attention.h"

#include <cassert>
#include <limits>
#include <utility>

#include "kernels/rounding.h"

namespace chorus::kernels {
namespace {

struct AttentionCall {
  AttentionArgs args;
  std::vector<std::vector<int>> queries_of;  // per KV head, its query heads
};

// Query vectors of one span and KV head. They are numbered row by row, and within a row by the KV
// head's query heads; a tile is any run of them, so that tiles are full whatever the group's size.
struct Tile {
  Span span;
  int kv_head = 0;
  int64_t first = 0, last = 0;
};

struct Query {
  int64_t row = 0;
  int head = 0;
  int64_t first = 0, last = 0;  // positions seen: [first, last)
};

// A worker's own memory, carved up.
struct Buffers {
  float* scores = nullptr;  // [kQueriesMax][positions]
  int64_t stride = 0;
  float* sums = nullptr;  // [kQueriesMax][padded head_dim]
  const uint16_t** keys = nullptr;
  const uint16_t** values = nullptr;
};

int64_t buffer_bytes(const AttentionArgs& args) {
  const int64_t blocks = args.block_table.cols;
  return blocks * kLaneRows * kQueriesMax * 4 + padded_head_dim(args.head_dim) * kQueriesMax * 4 +
         2 * blocks * static_cast<int64_t>(sizeof(void*));
}

Buffers buffers_at(const AttentionArgs& args, std::byte* memory) {
  const int64_t blocks = args.block_table.cols;
  Buffers buffers;
  buffers.scores = reinterpret_cast<float*>(memory);
  buffers.stride = blocks * kLaneRows;
  buffers.sums = buffers.scores + kQueriesMax * buffers.stride;
  buffers.keys = reinterpret_cast<const uint16_t**>(buffers.sums +
                                                    kQueriesMax * padded_head_dim(args.head_dim));
  buffers.values = buffers.keys + blocks;
  return buffers;
}

int64_t first_seen(const AttentionArgs& args, int64_t position) {
  if (args.chunk > 0) return position - position % args.chunk;
  return args.window > 0 ? std::max<int64_t>(0, position - args.window + 1) : 0;
}

int make_queries(const AttentionCall& call, const Tile& tile, Query* queries) {
  const std::vector<int>& heads = call.queries_of[static_cast<size_t>(tile.kv_head)];
  const auto group = static_cast<int64_t>(heads.size());
  int count = 0;
  for (int64_t i = tile.first; i < tile.last; ++i) {
    const int64_t position = tile.span.position + i / group;
    Query& query = queries[count++];
    query.row = tile.span.row + i / group;
    query.head = heads[static_cast<size_t>(i % group)];
    query.first = first_seen(call.args, position);
    query.last = position + 1;
  }
  return count;
}

int64_t floor_block(int64_t position) {
  return position / kLaneRows;
}
int64_t ceil_block(int64_t position) {
  return ceil_div(position, kLaneRows);
}

// The weighted values of blocks that some queries of the tile see in part: one query, one block.
void weigh_edge(const CpuKernels& kernels, ValueArgs args, const Query& query, int64_t block) {
  const int64_t begin = block * kLaneRows;
  args.first = static_cast<int>(std::max<int64_t>(query.first - begin, 0));
  args.last = static_cast<int>(std::min<int64_t>(query.last - begin, kLaneRows));
  args.queries = 1;
  args.block_count = 1;
  kernels.weigh_values(args);
}

// Adds up the values for all queries: blocks that every query sees whole together, the others
// query by query; a query's blocks in order.
void weigh_tile(const AttentionArgs& args, const CpuKernels& kernels, const Buffers& buffers,
                const Query* queries, int count, int64_t base) {
  const int64_t dim = padded_head_dim(args.head_dim);
  int64_t whole_begin = 0;
  int64_t whole_end = std::numeric_limits<int64_t>::max();
  for (int i = 0; i < count; ++i) {
    whole_begin = std::max(whole_begin, ceil_block(queries[i].first));
    whole_end = std::min(whole_end, floor_block(queries[i].last));
  }
  whole_end = std::max(whole_end, whole_begin);
  ValueArgs values;
  values.weights_stride = buffers.stride;
  values.head_dim = static_cast<int>(dim);
  const auto edges = [&](int i, int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      values.weights = buffers.scores + i * buffers.stride + (block - base) * kLaneRows;
      values.blocks = buffers.values + (block - base);
      values.out = buffers.sums + i * dim;
      weigh_edge(kernels, values, queries[i], block);
    }
  };
  for (int i = 0; i < count; ++i) {
    edges(i, floor_block(queries[i].first), std::min(whole_begin, ceil_block(queries[i].last)));
  }
  ValueArgs whole = values;
  whole.weights = buffers.scores + (whole_begin - base) * kLaneRows;
  whole.blocks = buffers.values + (whole_begin - base);
  whole.queries = count;
  whole.block_count = whole_end - whole_begin;
  whole.out = buffers.sums;
  if (whole.block_count > 0) kernels.weigh_values(whole);
  for (int i = 0; i < count; ++i) {
    edges(i, std::max(whole_end, floor_block(queries[i].first)), ceil_block(queries[i].last));
  }
}

void run_tile(const AttentionCall& call, const CpuKernels& kernels, std::byte* memory,
              const Tile& tile) {
  const AttentionArgs& args = call.args;
  const Buffers buffers = buffers_at(args, memory);
  Query queries[kQueriesMax];
  const float* q[kQueriesMax];
  const int count = make_queries(call, tile, queries);
  int64_t base = std::numeric_limits<int64_t>::max(), end = 0;
  for (int i = 0; i < count; ++i) {
    base = std::min(base, floor_block(queries[i].first));
    end = std::max(end, ceil_block(queries[i].last));
    q[i] = row_of<float>(args.qkv, queries[i].row) + queries[i].head * args.head_dim;
  }
  const auto& kv = static_cast<const KvBlocks&>(*args.kv);
  const int32_t* table = row_of<int32_t>(args.block_table, tile.span.slot);
  for (int64_t block = base; block < end; ++block) {
    buffers.keys[block - base] = kv.keys(table[block], args.layer, tile.kv_head);
    buffers.values[block - base] = kv.values(table[block], args.layer, tile.kv_head);
  }
  ScoreArgs scores;
  scores.q = q;
  scores.queries = count;
  scores.head_dim = args.head_dim;
  scores.blocks = buffers.keys;
  scores.block_count = end - base;
  scores.scores = buffers.scores;
  scores.scores_stride = buffers.stride;
  kernels.scores(scores);

  float totals[kQueriesMax];
  for (int i = 0; i < count; ++i) {
    float* row = buffers.scores + i * buffers.stride;
    const int64_t first = queries[i].first - base * kLaneRows;
    const int64_t last = queries[i].last - base * kLaneRows;
    if (args.soft_cap > 0) kernels.soft_cap(row + first, args.soft_cap, last - first);
    totals[i] = kernels.softmax(row, first, last);
  }
  const int64_t dim = padded_head_dim(args.head_dim);
  std::fill_n(buffers.sums, count * dim, 0.0f);
  weigh_tile(args, kernels, buffers, queries, count, base);
  for (int i = 0; i < count; ++i) {
    float* out = row_of<float>(args.out, queries[i].row) + queries[i].head * args.head_dim;
    kernels.scale(out, buffers.sums + i * dim, 1.0f / totals[i], args.head_dim);
  }
}

// With few rows, tiles are smaller than sharing would want, to keep all workers busy.
int64_t tile_size(const AttentionCall& call, int workers) {
  const int64_t rows = live_rows(call.args.qkv);
  return rows * call.args.kv_heads < int64_t{4} * workers ? 2 : kQueriesMax;
}

int64_t tiles_of_head(const AttentionCall& call, const Span& span, int kv_head, int64_t size) {
  const auto group = static_cast<int64_t>(call.queries_of[static_cast<size_t>(kv_head)].size());
  return ceil_div(span.count * group, size);
}

const Span& span_at(const AttentionCall& call, int64_t i) {
  return *reinterpret_cast<const Span*>(row_of<int32_t>(call.args.spans, i));
}

int64_t count_tiles(const AttentionCall& call, int64_t size) {
  int64_t tiles = 0;
  for (int64_t i = 0; i < live_rows(call.args.spans); ++i) {
    for (int head = 0; head < call.args.kv_heads; ++head) {
      tiles += tiles_of_head(call, span_at(call, i), head, size);
    }
  }
  return tiles;
}

Tile find_tile(const AttentionCall& call, int64_t index, int64_t size) {
  for (int64_t i = 0; i < live_rows(call.args.spans); ++i) {
    const Span& span = span_at(call, i);
    for (int head = 0; head < call.args.kv_heads; ++head) {
      const int64_t tiles = tiles_of_head(call, span, head, size);
      if (index < tiles) {
        const auto group = static_cast<int64_t>(call.queries_of[static_cast<size_t>(head)].size());
        return {span, head, index * size, std::min((index + 1) * size, span.count * group)};
      }
      index -= tiles;
    }
  }
  assert(false);
  return {};
}

}  // namespace

Phase attention_phase(const AttentionArgs& args, const Backend& backend) {
  AttentionCall call;
  call.args = args;
  call.queries_of.resize(static_cast<size_t>(args.kv_heads));
  assert(args.kv_head_of.size() == static_cast<size_t>(args.q_heads));
  for (int head = 0; head < args.q_heads; ++head) {
    const int kv_head = args.kv_head_of[static_cast<size_t>(head)];
    assert(kv_head >= 0 && kv_head < args.kv_heads);
    call.queries_of[static_cast<size_t>(kv_head)].push_back(head);
  }
  backend.scratch.want_own(buffer_bytes(args));
  const auto shared = std::make_shared<const AttentionCall>(std::move(call));
  const int workers = backend.workers.count();
  const auto cut = [shared, workers] {
    return Cut{count_tiles(*shared, tile_size(*shared, workers)), 1};
  };
  return cut_phase(cut, [shared, workers, &backend](int64_t i, int worker) {
    run_tile(*shared, backend.kernels, backend.scratch.own(worker),
             find_tile(*shared, i, tile_size(*shared, workers)));
  });
}

}  // namespace chorus::kernels
