// Attention's inner loops: scores of query vectors with keys, softmax, weighted sums of values.
// Included by the isa_*.cc files inside their anonymous namespaces, after elementwise_body.h.
//
// Keys stand as [head_dim][16 positions], so a score is a sum over head_dim in order in one lane,
// with no sum across lanes. Values stand as [16 positions][head_dim] and are added position by
// position. So neither depends on how queries or blocks were grouped.

// Blocks lie anywhere: each is a new stream to the machine's own prefetching, so the block after
// next is asked for while this one is read.
inline const uint16_t* block_ahead(const uint16_t* const* blocks, int64_t b, int64_t count) {
  return blocks[b + 2 < count ? b + 2 : b];
}

template <int Q>
inline void score_queries(const ScoreArgs& a, int first) {
  for (int64_t b = 0; b < a.block_count; ++b) {
    const uint16_t* keys = a.blocks[b];
    const uint16_t* ahead = block_ahead(a.blocks, b, a.block_count);
    F acc[Q];
#pragma GCC unroll 8
    for (int i = 0; i < Q; ++i) acc[i] = zero();
    for (int d = 0; d < a.head_dim; ++d) {
      if (d % 2 == 0) __builtin_prefetch(ahead + d * kLaneRows);
      const F column = load_f16(keys + d * kLaneRows);
#pragma GCC unroll 8
      for (int i = 0; i < Q; ++i) acc[i] = fma(set1(a.q[first + i][d]), column, acc[i]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < Q; ++i) {
      store(a.scores + (first + i) * a.scores_stride + b * kLaneRows, acc[i]);
    }
  }
}

void scores(const ScoreArgs& a) {
  int i = 0;
  for (; i + 8 <= a.queries; i += 8) score_queries<8>(a, i);
  for (; i + 4 <= a.queries; i += 4) score_queries<4>(a, i);
  for (; i + 2 <= a.queries; i += 2) score_queries<2>(a, i);
  for (; i < a.queries; ++i) score_queries<1>(a, i);
}

float softmax(float* values, int64_t first, int64_t count) {
  const float lowest = -__builtin_huge_valf();
  F largest = set1(lowest);
  const int64_t begin = first / 16 * 16;
  for (int64_t i = begin; i < count; i += 16) {
    largest = max(largest, keep_lanes(load(values + i), first - i, count - i, lowest));
  }
  const F offset = set1(reduce_max(largest));
  F sum = zero();
  for (int64_t i = begin; i < count; i += 16) {
    const F weight = exponential(sub(load(values + i), offset));
    const F kept = keep_lanes(weight, first - i, count - i, 0);
    store(values + i, kept);
    sum = add(sum, kept);
  }
  return reduce_add(sum);
}

// D vectors of columns from `col` on, for Q queries.
template <int Q, int D>
inline void weigh_columns(const ValueArgs& a, int query, int col) {
  F acc[Q][D];
#pragma GCC unroll 8
  for (int i = 0; i < Q; ++i) {
#pragma GCC unroll 8
    for (int d = 0; d < D; ++d) acc[i][d] = load(a.out + (query + i) * a.head_dim + col + d * 16);
  }
  const float* weights = a.weights + query * a.weights_stride;
  for (int64_t b = 0; b < a.block_count; ++b) {
    const uint16_t* values = a.blocks[b] + col;
    const uint16_t* ahead = block_ahead(a.blocks, b, a.block_count) + col;
    for (int p = a.first; p < a.last; ++p) {
      for (int d = 0; d < D; d += 2) __builtin_prefetch(ahead + p * a.head_dim + d * 16);
      F row[D];
#pragma GCC unroll 8
      for (int d = 0; d < D; ++d) row[d] = load_f16(values + p * a.head_dim + d * 16);
#pragma GCC unroll 8
      for (int i = 0; i < Q; ++i) {
        const F weight = set1(weights[i * a.weights_stride + b * kLaneRows + p]);
#pragma GCC unroll 8
        for (int d = 0; d < D; ++d) acc[i][d] = fma(weight, row[d], acc[i][d]);
      }
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < Q; ++i) {
#pragma GCC unroll 8
    for (int d = 0; d < D; ++d) store(a.out + (query + i) * a.head_dim + col + d * 16, acc[i][d]);
  }
}

template <int Q>
inline void weigh_queries(const ValueArgs& a, int query) {
  int col = 0;
  for (; col + 64 <= a.head_dim; col += 64) weigh_columns<Q, 4>(a, query, col);
  for (; col + 16 <= a.head_dim; col += 16) weigh_columns<Q, 1>(a, query, col);
}

void weigh_values(const ValueArgs& a) {
  int i = 0;
  for (; i + 4 <= a.queries; i += 4) weigh_queries<4>(a, i);
  for (; i + 2 <= a.queries; i += 2) weigh_queries<2>(a, i);
  for (; i < a.queries; ++i) weigh_queries<1>(a, i);
}
