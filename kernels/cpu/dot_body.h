// The matrix product: one tile of activation rows against groups of 16 weight rows, for each way
// in which weights are packed. Included by the isa_*.cc files inside their anonymous namespaces,
// after the lanes.
//
// Every element of the result is summed in the same order, whatever the tile: block by block of 32
// columns; within a block an exact integer dot product; then
//   acc = fma(float(dot), weight scale * activation scale, acc)
//   acc = fma(weight minimum, activation scale * activation sum, acc)     where there are minima.
// Columns of 16 with a scale of their own (q6_k) count as two half blocks. Weights with an offset
// start the integer sum at -offset * (sum of activations), which is exact as well.
//
// A weight type tells: what a block's scales are (`open`) and how its 8 vectors of 4 columns by 16
// rows come out of the packed bytes (`pair<j>`: vectors 2j and 2j + 1). `lane` is the first of the
// kWide rows that a pass covers.

struct WeightsQ8_0 {
  static constexpr bool kMinimum = false, kOffset = true;
  static constexpr int kQuantBytes = 512, kAheadBytes = 512;
  static constexpr int kHalves = 1;
  DF scale[1];
  const uint8_t* quants;
  static WeightsQ8_0 open(const uint8_t* scales, const uint8_t* quants, int64_t b, int lane) {
    return {{d_load_f16(scales + b * 32 + lane * 2)}, quants + b * 512 + lane * 4};
  }
  DF minimum() const { return d_zero(); }
  template <int j>
  void pair(DB& even, DB& odd) const {
    even = db_load(quants + j * 128);
    odd = db_load(quants + j * 128 + 64);
  }
  static DI dot(DI acc, DB w, DB x) { return dot_wide(acc, w, x); }
};

// What the types with four bits and those with five have in common: how their codes lie.
struct FourBits {
  static constexpr int kQuantBytes = 256, kAheadBytes = 256;
  const uint8_t* quants;
  static FourBits open(const uint8_t* quants, int64_t b, int lane) {
    return {quants + b * 256 + lane * 4};
  }
  template <int j>
  void pair(DB& even, DB& odd) const {
    const DB both = db_load(quants + j * 64);
    even = low_nibbles(both);
    odd = high_nibbles(both);
  }
};
struct FiveBits {
  static constexpr int kQuantBytes = 320, kAheadBytes = 320;
  const uint8_t* quants;
  DB top;
  static FiveBits open(const uint8_t* quants, int64_t b, int lane) {
    const uint8_t* block = quants + b * 320 + lane * 4;
    return {block, db_load(block + 256)};
  }
  template <int j>
  void pair(DB& even, DB& odd) const {
    const DB both = db_load(quants + j * 64);
    even = either(low_nibbles(both), bit_as_16<2 * j>(top));
    odd = either(high_nibbles(both), bit_as_16<2 * j + 1>(top));
  }
};

// A scale for 32 columns: Q4_0, Q5_0.
template <class Codes>
struct WeightsScaled : Codes {
  static constexpr bool kMinimum = false, kOffset = true;
  static constexpr int kHalves = 1;
  DF scale[1];
  static WeightsScaled open(const uint8_t* scales, const uint8_t* quants, int64_t b, int lane) {
    return {Codes::open(quants, b, lane), {d_load_f16(scales + b * 32 + lane * 2)}};
  }
  DF minimum() const { return d_zero(); }
  static DI dot(DI acc, DB w, DB x) { return dot_narrow(acc, w, x); }
};

// A scale and a minimum for 32 columns: Q4_1, Q5_1.
template <class Codes>
struct WeightsWithMinimum : Codes {
  static constexpr bool kMinimum = true, kOffset = false;
  static constexpr int kHalves = 1;
  DF scale[1];
  DF least;
  static WeightsWithMinimum open(const uint8_t* scales, const uint8_t* quants, int64_t b,
                                 int lane) {
    return {Codes::open(quants, b, lane),
            {d_load_f16(scales + b * 64 + lane * 2)},
            d_load_f16(scales + b * 64 + 32 + lane * 2)};
  }
  DF minimum() const { return least; }
  static DI dot(DI acc, DB w, DB x) { return dot_narrow(acc, w, x); }
};

// Small scales and minima for 32 columns, and what they are multiplied by for 256: Q4_K, Q5_K.
template <class Codes>
struct WeightsInParts : Codes {
  static constexpr bool kMinimum = true, kOffset = false;
  static constexpr int kHalves = 1;
  DF scale[1];
  DF least;
  static WeightsInParts open(const uint8_t* scales, const uint8_t* quants, int64_t b, int lane) {
    const uint8_t* super = scales + (b >> 3) * 320;
    const uint8_t* sub = super + 64 + (b & 7) * 16 + lane;
    const DF d = d_load_f16(super + lane * 2);
    const DF dmin = d_load_f16(super + 32 + lane * 2);
    return {Codes::open(quants, b, lane),
            {d_mul(d, d_load_u8(sub))},
            d_negate(d_mul(dmin, d_load_u8(sub + 128)))};
  }
  DF minimum() const { return least; }
  static DI dot(DI acc, DB w, DB x) { return dot_narrow(acc, w, x); }
};

using WeightsQ4_0 = WeightsScaled<FourBits>;
using WeightsQ4_1 = WeightsWithMinimum<FourBits>;
using WeightsQ5_0 = WeightsScaled<FiveBits>;
using WeightsQ5_1 = WeightsWithMinimum<FiveBits>;
using WeightsQ4_K = WeightsInParts<FourBits>;
using WeightsQ5_K = WeightsInParts<FiveBits>;

struct WeightsQ6_K {
  static constexpr bool kMinimum = false, kOffset = true;
  static constexpr int kQuantBytes = 384, kAheadBytes = 384;
  static constexpr int kHalves = 2;
  DF scale[2];
  const uint8_t* quants;
  static WeightsQ6_K open(const uint8_t* scales, const uint8_t* quants, int64_t b, int lane) {
    const uint8_t* super = scales + (b >> 3) * 288;
    const uint8_t* sub = super + 32 + (b & 7) * 32 + lane;
    const DF d = d_load_f16(super + lane * 2);
    return {{d_mul(d, d_load_i8(sub)), d_mul(d, d_load_i8(sub + 16))}, quants + b * 384 + lane * 4};
  }
  DF minimum() const { return d_zero(); }
  template <int j>
  void pair(DB& even, DB& odd) const {
    const DB both = db_load(quants + j * 64);
    const DB top = db_load(quants + 256 + (j / 2) * 64);
    even = either(low_nibbles(both), two_bits_as_16<(2 * j) % 4>(top));
    odd = either(high_nibbles(both), two_bits_as_16<(2 * j + 1) % 4>(top));
  }
  static DI dot(DI acc, DB w, DB x) { return dot_narrow(acc, w, x); }
};

// Weights unpacked into a byte each with f32 scales, for many tiles in turn.
template <bool minimum_wanted, int halves>
struct WeightsPanel {
  static constexpr bool kMinimum = minimum_wanted, kOffset = !minimum_wanted;
  static constexpr int kQuantBytes = 512, kAheadBytes = 0;
  static constexpr int kHalves = halves;
  static constexpr int kScaleBytes = 64 * (halves + (minimum_wanted ? 1 : 0));
  DF scale[halves];
  DF least;
  const uint8_t* quants;
  static WeightsPanel open(const uint8_t* scales, const uint8_t* quants, int64_t b, int lane) {
    WeightsPanel out;
    const uint8_t* block = scales + b * kScaleBytes + lane * 4;
    for (int h = 0; h < halves; ++h) out.scale[h] = d_load(block + h * 64);
    out.least = minimum_wanted ? d_load(block + halves * 64) : d_zero();
    out.quants = quants + b * 512 + lane * 4;
    return out;
  }
  DF minimum() const { return least; }
  template <int j>
  void pair(DB& even, DB& odd) const {
    even = db_load(quants + j * 128);
    odd = db_load(quants + j * 128 + 64);
  }
  static DI dot(DI acc, DB w, DB x) { return dot_narrow(acc, w, x); }
};

// The integer sums of R rows: of the activations' high bytes and of their low bytes.
template <int R>
struct Sums {
  DI high[R], low[R];
};

// R rows of one plane at kgroup k, times one vector of weights.
template <class W, int R>
inline void dot_vector(DB weights, const int8_t* x, DI* sums) {
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) sums[r] = W::dot(sums[r], weights, db_set4(x + r * 4));
}

// Two kgroups of R rows: x points at the block's first row.
template <class W, int j, int R, int width>
inline void dot_pair(const W& weights, const int8_t* x, Sums<R>& sums) {
  DB even, odd;
  weights.template pair<j>(even, odd);
  dot_vector<W, R>(even, x + 2 * j * width * 4, sums.high);
  dot_vector<W, R>(even, x + (8 + 2 * j) * width * 4, sums.low);
  dot_vector<W, R>(odd, x + (2 * j + 1) * width * 4, sums.high);
  dot_vector<W, R>(odd, x + (8 + 2 * j + 1) * width * 4, sums.low);
}

template <class W, int R, int width>
inline void start_sums(const DotArgs& a, int64_t at, Sums<R>& sums) {
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    sums.high[r] = di_zero();
    sums.low[r] =
        W::kOffset ? di_set1(static_cast<const int32_t*>(a.corrections) + at + r) : di_zero();
  }
}

template <int R>
inline void scale_sums(const Sums<R>& sums, DF scale, const float* x_scales, DF* acc) {
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    const DF sum = to_float(di_join(sums.high[r], sums.low[r]));
    acc[r] = d_fma(sum, d_mul(scale, d_set1(x_scales + r)), acc[r]);
  }
}

template <class W, int R, int width>
inline void dot_block(const DotArgs& a, const W& weights, int64_t b, int row, DF* acc) {
  const int8_t* x = a.x + (b * 16 * width + row) * 4;
  const int64_t at = b * width + row;
  Sums<R> sums;
  if constexpr (W::kHalves == 1) {
    start_sums<W, R, width>(a, at, sums);
    dot_pair<W, 0, R, width>(weights, x, sums);
    dot_pair<W, 1, R, width>(weights, x, sums);
    dot_pair<W, 2, R, width>(weights, x, sums);
    dot_pair<W, 3, R, width>(weights, x, sums);
    scale_sums<R>(sums, weights.scale[0], a.x_scales + at, acc);
  } else {
    start_sums<W, R, width>(a, 2 * b * width + row, sums);
    dot_pair<W, 0, R, width>(weights, x, sums);
    dot_pair<W, 1, R, width>(weights, x, sums);
    scale_sums<R>(sums, weights.scale[0], a.x_scales + at, acc);
    start_sums<W, R, width>(a, (2 * b + 1) * width + row, sums);
    dot_pair<W, 2, R, width>(weights, x, sums);
    dot_pair<W, 3, R, width>(weights, x, sums);
    scale_sums<R>(sums, weights.scale[1], a.x_scales + at, acc);
  }
  if constexpr (W::kMinimum) {
    const DF minimum = weights.minimum();
    const float* x_sums = static_cast<const float*>(a.corrections) + at;
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) acc[r] = d_fma(minimum, d_set1(x_sums + r), acc[r]);
  }
}

template <int R>
inline void store_results(const DotArgs& a, int64_t col, int row, const DF* acc) {
  const int64_t cols = a.out_cols - col;
  if (cols <= 0) return;
  const DF bias = a.bias ? d_load_part(a.bias + col, cols) : d_zero();
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    if (row + r >= a.rows) return;
    float* out = a.out + (row + r) * a.out_stride + col;
    const DF sum = a.bias ? d_add(acc[r], bias) : acc[r];
    if (cols >= kWide) {
      d_store(out, sum);
    } else {
      d_store_part(out, sum, cols);
    }
  }
}

// Few rows are bound by reading the weights, and the machine's own prefetching stops at page
// borders and starts anew with each group: lines are asked for ahead, across the group's end into
// the next. Panels are in the cache already.
constexpr int64_t kAhead = 2048;
template <int bytes>
inline void prefetch_ahead(const uint8_t* at) {
#pragma GCC unroll 8
  for (int i = 0; i < bytes; i += 64) __builtin_prefetch(at + kAhead + i);
}

template <class W, int R, int width>
inline void dot_rows(const DotArgs& a, int64_t group, int lane, int row) {
  const uint8_t* scales = a.scales + group * a.group_stride;
  const uint8_t* quants = a.quants + group * a.group_stride;
  DF acc[R];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) acc[r] = d_zero();
  for (int64_t b = 0; b < a.blocks; ++b) {
    prefetch_ahead<W::kAheadBytes>(quants + b * W::kQuantBytes);
    const W weights = W::open(scales, quants, b, lane);
    dot_block<W, R, width>(a, weights, b, row, acc);
  }
  store_results<R>(a, group * kLaneRows + lane, row, acc);
}

// One weight row group and kWide lanes of it against all rows of the tile, in passes of as many
// rows as registers hold. Rows beyond the live ones are zeros and are not stored.
template <class W>
inline void dot_tile(const DotArgs& a, int64_t group, int lane) {
  if (a.width == 1) {
    dot_rows<W, 1, 1>(a, group, lane, 0);
    return;
  }
  int row = 0;
  for (; a.rows - row > kRowsMax / 2; row += kRowsMax) {
    dot_rows<W, kRowsMax, kTileRows>(a, group, lane, row);
  }
  for (; row < a.rows; row += kRowsMax / 2) {
    dot_rows<W, kRowsMax / 2, kTileRows>(a, group, lane, row);
  }
}

template <class W>
void dot(const DotArgs& a) {
  for (int64_t group = 0; group < a.groups; ++group) {
    for (int lane = 0; lane < kLaneRows; lane += kWide) dot_tile<W>(a, group, lane);
  }
}

// --- weights that are floats: one vector a column, f32 activations

struct FloatsF32 {
  static constexpr int kBytes = 4;
  static DF column(const uint8_t* p) { return d_load(p); }
};
struct FloatsF16 {
  static constexpr int kBytes = 2;
  static DF column(const uint8_t* p) { return d_load_f16(p); }
};
struct FloatsBf16 {
  static constexpr int kBytes = 2;
  static DF column(const uint8_t* p) { return d_load_bf16(p); }
};

// G groups at once where there is one row: a single chain of sums would wait for itself.
template <class W, int R, int G, int width>
inline void float_rows(const DotArgs& a, int64_t group, int lane, int row) {
  DF acc[G][R];
#pragma GCC unroll 8
  for (int g = 0; g < G; ++g) {
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) acc[g][r] = d_zero();
  }
  const float* x = reinterpret_cast<const float*>(a.x) + row;
  const uint8_t* weights = a.quants + group * a.group_stride + lane * W::kBytes;
  for (int64_t c = 0; c < a.blocks; ++c) {
#pragma GCC unroll 8
    for (int g = 0; g < G; ++g) {
      const DF column = W::column(weights + g * a.group_stride + c * kLaneRows * W::kBytes);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) acc[g][r] = d_fma(column, d_set1(x + c * width + r), acc[g][r]);
    }
  }
#pragma GCC unroll 8
  for (int g = 0; g < G; ++g) store_results<R>(a, (group + g) * kLaneRows + lane, row, acc[g]);
}

template <class W>
void dot_floats(const DotArgs& a) {
  for (int lane = 0; lane < kLaneRows; lane += kWide) {
    int64_t group = 0;
    if (a.width == 1) {
      for (; group + 4 <= a.groups; group += 4) float_rows<W, 1, 4, 1>(a, group, lane, 0);
      for (; group < a.groups; ++group) float_rows<W, 1, 1, 1>(a, group, lane, 0);
    }
    for (; group < a.groups; ++group) {
      for (int row = 0; row < a.rows; row += kRowsMax) {
        float_rows<W, kRowsMax, 1, kTileRows>(a, group, lane, row);
      }
    }
  }
}

// --- unpacking into panels

template <class W, int j, int lane>
inline void unpack_pair(const W& weights, uint8_t* to) {
  DB even, odd;
  weights.template pair<j>(even, odd);
  db_store(to + j * 128 + lane * 4, even);
  db_store(to + j * 128 + 64 + lane * 4, odd);
}

template <class W, int lane>
inline void unpack_block(const W& weights, uint8_t* scales, uint8_t* quants) {
  for (int h = 0; h < W::kHalves; ++h) d_store(scales + h * 64 + lane * 4, weights.scale[h]);
  if (W::kMinimum) d_store(scales + W::kHalves * 64 + lane * 4, weights.minimum());
  unpack_pair<W, 0, lane>(weights, quants);
  unpack_pair<W, 1, lane>(weights, quants);
  unpack_pair<W, 2, lane>(weights, quants);
  unpack_pair<W, 3, lane>(weights, quants);
}

template <class W>
void unpack(const uint8_t* scales, const uint8_t* quants, int64_t blocks, uint8_t* panel_scales,
            uint8_t* panel_quants) {
  constexpr int kScaleBytes = 64 * (W::kHalves + (W::kMinimum ? 1 : 0));
  for (int64_t b = 0; b < blocks; ++b) {
    unpack_block<W, 0>(W::open(scales, quants, b, 0), panel_scales + b * kScaleBytes,
                       panel_quants + b * 512);
    if constexpr (kWide < kLaneRows) {
      unpack_block<W, kWide>(W::open(scales, quants, b, kWide), panel_scales + b * kScaleBytes,
                             panel_quants + b * 512);
    }
  }
}
