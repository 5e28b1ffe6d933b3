// The table of inner loops that each instruction set fills (isa_scalar.cc, isa_avx2.cc,
// isa_avx512.cc) and the rest of the backend calls. C-like on purpose: the files behind it are
// compiled with instructions that the machine may lack, so they must not emit any function that
// the linker could merge with a copy from elsewhere (inline functions of the standard library,
// templates with external linkage). All entries give the same bits for every instruction set.
//
// Layouts they share:
// - Weights: groups of 16 rows, one vector lane a row; columns in blocks of 32, each in 8 fours of
//   columns ("kgroups"): a 64-byte vector holds 4 consecutive columns of 16 rows. PackedSegment in
//   packed_weight.h says what a block of each type looks like.
// - Activations: tiles of 8 rows (of 1 row where there is only one), blocks of 32 columns with one
//   scale, 16 bits a number in two planes of int8: 256 * high + low. Per block first the high
//   plane, then the low one; in each per kgroup 4 bytes of each row in turn. Eight bits alone would
//   do for speed's sake, but their rounding is what ranks would disagree on: a sum that differs in
//   its last bit flips a few of them, and log-probabilities then differ by 0.1 to 0.2 (measured).
//   With 16 bits they differ by thousandths, and the product is as good as one in f32.
#pragma once

#include <cstdint>

namespace chorus::kernels {

inline constexpr int kLaneRows = 16;   // weight rows a group, positions a KV block
inline constexpr int kBlockCols = 32;  // columns a quantised block of activations
inline constexpr int kTileRows = 8;    // activation rows a tile
// The largest quantised activation: 127 * 256, so that its high byte is an int8 whatever the low.
inline constexpr float kActivationMax = 32512.0f;
inline constexpr int kQueriesMax = 8;  // query vectors that share the loads of keys and values

// How a block's weights come out of the packed form; the index of CpuKernels::dot.
enum class DotKind : uint8_t {
  q8_0,
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q4_k,
  q5_k,
  q6_k,
  panel_min,     // unpacked: a byte a weight, f32 scale and minimum
  panel_offset,  // unpacked: f32 scale
  panel_halves,  // unpacked: f32 scale for each 16 columns
  f32,
  f16,
  bf16,
};
inline constexpr int kDotKinds = 14;

// A block's correction term beside the scale, made from the sum of the quantised activations:
// what is added for the weights' offset or minimum. A quantised tile holds the ones asked for.
enum class Correction : uint8_t { minimum, offset128, offset8, offset16, offset32_halves };
inline constexpr int kCorrections = 5;

struct QuantisedTile {
  int8_t* values = nullptr;              // [blocks][2 planes][8 kgroups][width][4]
  float* scales = nullptr;               // [blocks][width]
  void* corrections[kCorrections] = {};  // [blocks][width] ([blocks][2][width] for halves) or null
};

struct QuantiseArgs {
  const float* x = nullptr;  // first row of the tile
  int64_t x_stride = 0;      // floats from a row to the next
  int rows = 0;
  int width = 0;                           // 1 or kTileRows; rows beyond `rows` become zeros
  int64_t cols = 0;                        // of x
  int64_t lead = 0;                        // zero columns before them
  int64_t block_begin = 0, block_end = 0;  // what to fill
  QuantisedTile tile;
};

// One tile of activations against `groups` groups of weight rows.
struct DotArgs {
  const uint8_t* scales = nullptr;  // the first group's
  const uint8_t* quants = nullptr;
  int64_t group_stride = 0;  // bytes from a group to the next, for both
  int64_t groups = 0;
  int64_t blocks = 0;         // of 32 columns; for f32, f16, bf16: columns
  const int8_t* x = nullptr;  // or, for f32, f16, bf16: floats [cols][width]
  const float* x_scales = nullptr;
  const void* corrections = nullptr;
  int width = 0;
  int rows = 0;
  float* out = nullptr;  // [rows] of `out_stride` floats; first weight row's element
  int64_t out_stride = 0;
  int64_t out_cols = 0;         // live weight rows from the first group's first row on
  const float* bias = nullptr;  // or null; as `out`'s columns
};

// Scores of `queries` query vectors with the keys of whole blocks, and the weighted sum of values.
struct ScoreArgs {
  const float* const* q = nullptr;  // [queries], head_dim floats each
  int queries = 0;
  int head_dim = 0;
  const uint16_t* const* blocks = nullptr;  // [block_count]: keys [head_dim][16] f16
  int64_t block_count = 0;
  float* scores = nullptr;  // [queries][scores_stride]
  int64_t scores_stride = 0;
};

struct ValueArgs {
  const float* weights = nullptr;  // [queries][weights_stride]
  int64_t weights_stride = 0;
  int queries = 0;
  int head_dim = 0;                         // a multiple of 16
  const uint16_t* const* blocks = nullptr;  // [block_count]: values [16][head_dim] f16
  int64_t block_count = 0;
  int first = 0, last = kLaneRows;  // positions used of each block
  float* out = nullptr;             // [queries][head_dim], added to
};

struct CpuKernels {
  void (*quantise)(const QuantiseArgs&);
  // [cols][width] floats from the tile's rows.
  void (*interleave)(float* out, const float* x, int64_t x_stride, int rows, int width,
                     int64_t cols);
  void (*dot[kDotKinds])(const DotArgs&);
  // Unpacks one group's blocks into a panel: scales f32 [blocks][16] or [blocks][2][16], minima
  // behind each scale for panel_min, and bytes [blocks][8][64]. Null where a panel has no use.
  void (*unpack[kDotKinds])(const uint8_t* scales, const uint8_t* quants, int64_t blocks,
                            uint8_t* panel_scales, uint8_t* panel_quants);

  void (*rms_norm)(float* out, const float* x, const float* weight, int64_t n, float eps);
  void (*add)(float* to, const float* x, int64_t n);
  void (*scale)(float* out, const float* x, float factor, int64_t n);
  void (*silu_gate)(float* out, const float* gate, const float* up, int64_t n);
  void (*gelu_gate)(float* out, const float* gate, const float* up, int64_t n);
  void (*soft_cap)(float* x, float cap, int64_t n);  // cap * tanh(x / cap)
  // x[i], x[half + i] rotated by the angle whose cosine and sine stand at [i]; times `factor`.
  void (*rotate)(float* x, const float* cosines, const float* sines, int64_t half, float factor);
  void (*to_f16)(uint16_t* out, const float* x, int64_t n);
  void (*to_f16_strided)(uint16_t* out, int64_t stride, const float* x, int64_t n);

  void (*scores)(const ScoreArgs&);
  // scores[i] for i in [first, count) become exp(score - max), those before 0; returns their sum.
  // `count` and the whole vectors of 16 that hold it are writable; what lies beyond becomes 0.
  float (*softmax)(float* scores, int64_t first, int64_t count);
  void (*weigh_values)(const ValueArgs&);
};

extern const CpuKernels kScalarKernels;
extern const CpuKernels kAvx2Kernels;
extern const CpuKernels kAvx512Kernels;

}  // namespace chorus::kernels
