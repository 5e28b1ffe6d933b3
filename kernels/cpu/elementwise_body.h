// Everything but the matrix product and attention, over 16 lanes: exp, norms, gates, rotation,
// conversion to f16, and the quantisation of activations. Included by the isa_*.cc files inside
// their anonymous namespaces, after the lanes.
//
// Sums run in 16 partial sums, lane by lane, and are folded by one fixed tree at the end.

// exp(x) within 2 ulp for x in [-87.3, 88.7]; below it 0, above it exp(88.7). Cody and Waite's
// reduction to |r| <= ln 2 / 2, then the Taylor polynomial of degree 7.
inline F exponential(F x) {
  const F bounded = min(max(x, set1(-87.3f)), set1(88.7f));
  const F shift = set1(12582912.0f);  // 1.5 * 2^23: the sum's low mantissa bits are the integer
  const F t = fma(bounded, set1(1.44269504f), shift);
  const F n = sub(t, shift);
  F r = fma(n, set1(-0.693359375f), bounded);
  r = fma(n, set1(2.12194440e-4f), r);
  F p = set1(1.9841270e-4f);
  p = fma(p, r, set1(1.3888889e-3f));
  p = fma(p, r, set1(8.3333333e-3f));
  p = fma(p, r, set1(4.1666667e-2f));
  p = fma(p, r, set1(1.6666667e-1f));
  p = fma(p, r, set1(0.5f));
  p = fma(p, r, set1(1.0f));
  p = fma(p, r, set1(1.0f));
  return where_above(x, -87.3f, scale_by_power(p, t));
}

void rms_norm(float* out, const float* x, const float* weight, int64_t n, float eps) {
  F squares = zero();
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const F v = load(x + i);
    squares = fma(v, v, squares);
  }
  if (i < n) {
    const F v = load_part(x + i, n - i);
    squares = fma(v, v, squares);
  }
  const float mean = reduce_add(squares) / static_cast<float>(n);
  const F factor = set1(1.0f / __builtin_sqrtf(mean + eps));
  for (i = 0; i + 16 <= n; i += 16) {
    store(out + i, mul(mul(load(x + i), factor), load(weight + i)));
  }
  if (i < n) {
    const F v = mul(mul(load_part(x + i, n - i), factor), load_part(weight + i, n - i));
    store_part(out + i, v, n - i);
  }
}

// to[i] = f(...) for i in [0, n), whole vectors first, by `make(i, lanes)`.
template <class Make>
inline void fill_vectors(float* to, int64_t n, Make make) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) store(to + i, make(i, int64_t{16}));
  if (i < n) store_part(to + i, make(i, n - i), n - i);
}

inline F load_lanes(const float* p, int64_t n) {
  return n == 16 ? load(p) : load_part(p, n);
}

void add_to(float* to, const float* x, int64_t n) {
  fill_vectors(to, n, [=](int64_t i, int64_t lanes) {
    return add(load_lanes(to + i, lanes), load_lanes(x + i, lanes));
  });
}

void scale_by(float* out, const float* x, float factor, int64_t n) {
  fill_vectors(out, n, [=](int64_t i, int64_t lanes) {
    return mul(load_lanes(x + i, lanes), set1(factor));
  });
}

inline F silu(F x) {
  return div(x, add(set1(1), exponential(sub(zero(), x))));
}

// x / 2 * (1 + tanh(u)) = x / (1 + exp(-2 u)), u = sqrt(2 / pi) (x + 0.044715 x^3).
inline F gelu_tanh(F x) {
  const F cubic = fma(mul(mul(x, x), x), set1(0.044715f), x);
  return div(x, add(set1(1), exponential(mul(cubic, set1(-1.59576912f)))));
}

void silu_gate(float* out, const float* gate, const float* up, int64_t n) {
  fill_vectors(out, n, [=](int64_t i, int64_t lanes) {
    return mul(silu(load_lanes(gate + i, lanes)), load_lanes(up + i, lanes));
  });
}

void gelu_gate(float* out, const float* gate, const float* up, int64_t n) {
  fill_vectors(out, n, [=](int64_t i, int64_t lanes) {
    return mul(gelu_tanh(load_lanes(gate + i, lanes)), load_lanes(up + i, lanes));
  });
}

// tanh(u) = 1 - 2 / (1 + exp(2 u)).
void soft_cap(float* x, float cap, int64_t n) {
  fill_vectors(x, n, [=](int64_t i, int64_t lanes) {
    const F grown = exponential(mul(load_lanes(x + i, lanes), set1(2.0f / cap)));
    return mul(sub(set1(1), div(set1(2), add(set1(1), grown))), set1(cap));
  });
}

void rotate(float* x, const float* cosines, const float* sines, int64_t half, float factor) {
  for (int64_t i = 0; i < half; i += 16) {
    const int64_t lanes = half - i < 16 ? half - i : 16;
    const F c = load_lanes(cosines + i, lanes);
    const F s = load_lanes(sines + i, lanes);
    const F a = load_lanes(x + i, lanes);
    const F b = load_lanes(x + half + i, lanes);
    const F first = mul(sub(mul(a, c), mul(b, s)), set1(factor));
    const F second = mul(add(mul(b, c), mul(a, s)), set1(factor));
    store_part(x + i, first, lanes);
    store_part(x + half + i, second, lanes);
  }
}

void to_f16(uint16_t* out, const float* x, int64_t n) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) store_f16(out + i, load(x + i));
  if (i < n) {
    uint16_t rest[16];
    store_f16(rest, load_part(x + i, n - i));
    for (int64_t j = i; j < n; ++j) out[j] = rest[j - i];
  }
}

void to_f16_strided(uint16_t* out, int64_t stride, const float* x, int64_t n) {
  for (int64_t i = 0; i < n; i += 16) {
    const int64_t lanes = n - i < 16 ? n - i : 16;
    uint16_t halves[16];
    store_f16(halves, load_lanes(x + i, lanes));
    for (int64_t j = 0; j < lanes; ++j) out[(i + j) * stride] = halves[j];
  }
}

// The 32 columns of block `b` of one row, `lead` columns of zeros before the row's first.
inline void load_block(const QuantiseArgs& a, const float* row, int64_t b, F& low, F& high) {
  const int64_t begin = b * kBlockCols - a.lead;
  if (begin >= 0 && begin + kBlockCols <= a.cols) {
    low = load(row + begin);
    high = load(row + begin + 16);
    return;
  }
  float padded[kBlockCols];
  for (int64_t i = 0; i < kBlockCols; ++i) {
    const int64_t col = begin + i;
    padded[i] = col >= 0 && col < a.cols ? row[col] : 0.0f;
  }
  low = load(padded);
  high = load(padded + 16);
}

// One block of one row: its two planes of bytes, scale and the corrections that are wanted.
inline void quantise_block(const QuantiseArgs& a, int64_t b, int r) {
  F low = zero(), high = zero();
  if (r < a.rows) load_block(a, a.x + r * a.x_stride, b, low, high);
  const float largest = reduce_max(max(absolute(low), absolute(high)));
  const float scale = largest / kActivationMax;
  const F factor = set1(largest > 0 ? kActivationMax / largest : 0.0f);
  int8_t planes[2][kBlockCols];
  const int32_t sum_low = store_rounded(planes[0], planes[1], mul(low, factor));
  const int32_t sum_high = store_rounded(planes[0] + 16, planes[1] + 16, mul(high, factor));
  const int width = a.width;
  int8_t* values = a.tile.values + (b * 16 * width + r) * 4;
  for (int k = 0; k < 8; ++k) {
    __builtin_memcpy(values + k * width * 4, planes[0] + k * 4, 4);
    __builtin_memcpy(values + (8 + k) * width * 4, planes[1] + k * 4, 4);
  }
  const int32_t sum = sum_low + sum_high;
  const int64_t at = b * width + r;
  a.tile.scales[at] = scale;
  void* const* corrections = a.tile.corrections;
  if (corrections[0]) static_cast<float*>(corrections[0])[at] = scale * static_cast<float>(sum);
  if (corrections[1]) static_cast<int32_t*>(corrections[1])[at] = -128 * sum;
  if (corrections[2]) static_cast<int32_t*>(corrections[2])[at] = -8 * sum;
  if (corrections[3]) static_cast<int32_t*>(corrections[3])[at] = -16 * sum;
  if (corrections[4]) {
    int32_t* halves = static_cast<int32_t*>(corrections[4]) + 2 * b * width + r;
    halves[0] = -32 * sum_low;
    halves[width] = -32 * sum_high;
  }
}

void quantise(const QuantiseArgs& a) {
  for (int r = 0; r < a.width; ++r) {
    for (int64_t b = a.block_begin; b < a.block_end; ++b) quantise_block(a, b, r);
  }
}

void interleave(float* out, const float* x, int64_t x_stride, int rows, int width, int64_t cols) {
  for (int64_t i = 0; i < cols; ++i) {
    for (int r = 0; r < width; ++r) out[i * width + r] = r < rows ? x[r * x_stride + i] : 0.0f;
  }
}
