// The vectors that the loops in *_body.h are written over, for AVX2 with FMA and F16C. Included by
// isa_avx2.cc alone, inside its anonymous namespace. F: 16 floats in two registers; D*: the
// vectors of the matrix product, of 8 lanes: a group of 16 weight rows takes two passes, since
// twice as many accumulators would not fit into 16 registers.

constexpr int kWide = 8;
constexpr int kRowsMax = 4;

struct F {
  __m256 a, b;
};
using DF = __m256;
using DI = __m256i;
using DB = __m256i;

// All ones in the lanes that lie in [first, last) when lane 0 counts as `lane`.
inline __m256i lanes_between(int64_t first, int64_t last, int lane) {
  const __m256i index =
      _mm256_add_epi32(_mm256_set1_epi32(lane), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  const int low = static_cast<int>(first < 0 ? 0 : first > 16 ? 16 : first);
  const int high = static_cast<int>(last < 0 ? 0 : last > 16 ? 16 : last);
  return _mm256_andnot_si256(_mm256_cmpgt_epi32(_mm256_set1_epi32(low), index),
                             _mm256_cmpgt_epi32(_mm256_set1_epi32(high), index));
}

inline F zero() {
  return {_mm256_setzero_ps(), _mm256_setzero_ps()};
}
inline F set1(float x) {
  return {_mm256_set1_ps(x), _mm256_set1_ps(x)};
}
inline F load(const float* p) {
  return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}
inline F load_part(const float* p, int64_t n) {
  return {_mm256_maskload_ps(p, lanes_between(0, n, 0)),
          _mm256_maskload_ps(p + 8, lanes_between(0, n, 8))};
}
inline void store(float* p, F v) {
  _mm256_storeu_ps(p, v.a);
  _mm256_storeu_ps(p + 8, v.b);
}
inline void store_part(float* p, F v, int64_t n) {
  _mm256_maskstore_ps(p, lanes_between(0, n, 0), v.a);
  _mm256_maskstore_ps(p + 8, lanes_between(0, n, 8), v.b);
}
inline F load_f16(const uint16_t* p) {
  return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))),
          _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 8)))};
}
inline void store_f16(uint16_t* p, F v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(v.a, _MM_FROUND_TO_NEAREST_INT));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 8),
                   _mm256_cvtps_ph(v.b, _MM_FROUND_TO_NEAREST_INT));
}
inline F add(F x, F y) {
  return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)};
}
inline F sub(F x, F y) {
  return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)};
}
inline F mul(F x, F y) {
  return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)};
}
inline F div(F x, F y) {
  return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)};
}
inline F fma(F x, F y, F z) {
  return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
inline F max(F x, F y) {
  return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)};
}
inline F min(F x, F y) {
  return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)};
}
inline F absolute(F x) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b)};
}
inline F where_above(F x, float limit, F v) {
  const __m256 bound = _mm256_set1_ps(limit);
  return {_mm256_and_ps(_mm256_cmp_ps(x.a, bound, _CMP_GT_OQ), v.a),
          _mm256_and_ps(_mm256_cmp_ps(x.b, bound, _CMP_GT_OQ), v.b)};
}
inline F keep_lanes(F v, int64_t first, int64_t last, float other) {
  const __m256 rest = _mm256_set1_ps(other);
  return {_mm256_blendv_ps(rest, v.a, _mm256_castsi256_ps(lanes_between(first, last, 0))),
          _mm256_blendv_ps(rest, v.b, _mm256_castsi256_ps(lanes_between(first, last, 8)))};
}
inline __m256 scale_half_by_power(__m256 v, __m256 t) {
  return _mm256_castsi256_ps(
      _mm256_add_epi32(_mm256_castps_si256(v), _mm256_slli_epi32(_mm256_castps_si256(t), 23)));
}
inline F scale_by_power(F v, F t) {
  return {scale_half_by_power(v.a, t.a), scale_half_by_power(v.b, t.b)};
}
inline float reduce_add(F v) {
  const __m256 a = _mm256_add_ps(v.a, v.b);
  const __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  const __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}
inline float reduce_max(F v) {
  const __m256 a = _mm256_max_ps(v.a, v.b);
  const __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  const __m128 c = _mm_max_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_max_ss(c, _mm_movehdup_ps(c)));
}
inline void store_bytes(int8_t* p, __m256i a, __m256i b) {
  const __m128i low = _mm_packs_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
  const __m128i high = _mm_packs_epi32(_mm256_castsi256_si128(b), _mm256_extracti128_si256(b, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(low, high));
}
inline __m256i top_bytes(__m256i v) {
  return _mm256_srai_epi32(_mm256_add_epi32(v, _mm256_set1_epi32(128)), 8);
}
inline int32_t store_rounded(int8_t* high, int8_t* low, F v) {
  const __m256i a = _mm256_cvtps_epi32(v.a);
  const __m256i b = _mm256_cvtps_epi32(v.b);
  const __m256i top_a = top_bytes(a), top_b = top_bytes(b);
  store_bytes(high, top_a, top_b);
  store_bytes(low, _mm256_sub_epi32(a, _mm256_slli_epi32(top_a, 8)),
              _mm256_sub_epi32(b, _mm256_slli_epi32(top_b, 8)));
  const __m256i sum = _mm256_add_epi32(a, b);
  __m128i half = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
  half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0x4e));
  half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0xb1));
  return _mm_cvtsi128_si32(half);
}

inline DF d_zero() {
  return _mm256_setzero_ps();
}
inline DF d_load(const void* p) {
  return _mm256_loadu_ps(static_cast<const float*>(p));
}
inline void d_store(void* p, DF v) {
  _mm256_storeu_ps(static_cast<float*>(p), v);
}
inline void d_store_part(float* p, DF v, int64_t n) {
  _mm256_maskstore_ps(p, lanes_between(0, n, 0), v);
}
inline DF d_load_part(const float* p, int64_t n) {
  return _mm256_maskload_ps(p, lanes_between(0, n, 0));
}
inline DF d_load_f16(const uint8_t* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline DF d_load_bf16(const uint8_t* p) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(
      _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))), 16));
}
inline DF d_load_u8(const uint8_t* p) {
  return _mm256_cvtepi32_ps(
      _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
inline DF d_load_i8(const uint8_t* p) {
  return _mm256_cvtepi32_ps(
      _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
inline DF d_set1(const float* p) {
  return _mm256_broadcast_ss(p);
}
inline DF d_add(DF x, DF y) {
  return _mm256_add_ps(x, y);
}
inline DF d_mul(DF x, DF y) {
  return _mm256_mul_ps(x, y);
}
inline DF d_fma(DF x, DF y, DF z) {
  return _mm256_fmadd_ps(x, y, z);
}
inline DF d_negate(DF x) {
  return _mm256_xor_ps(x, _mm256_set1_ps(-0.0f));
}
inline DF to_float(DI x) {
  return _mm256_cvtepi32_ps(x);
}
inline DI di_join(DI high, DI low) {
  return _mm256_add_epi32(low, _mm256_slli_epi32(high, 8));
}
inline DI di_zero() {
  return _mm256_setzero_si256();
}
inline DI di_set1(const int32_t* p) {
  return _mm256_set1_epi32(*p);
}
inline DB db_load(const uint8_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
inline void db_store(uint8_t* p, DB v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v);
}
inline DB db_set4(const int8_t* p) {
  int32_t four;
  __builtin_memcpy(&four, p, 4);
  return _mm256_set1_epi32(four);
}
inline DB low_nibbles(DB v) {
  return _mm256_and_si256(v, _mm256_set1_epi8(15));
}
inline DB high_nibbles(DB v) {
  return _mm256_and_si256(_mm256_srli_epi16(v, 4), _mm256_set1_epi8(15));
}
template <int j>
inline DB bit_as_16(DB v) {
  const __m256i moved =
      j <= 4 ? _mm256_slli_epi16(v, j <= 4 ? 4 - j : 0) : _mm256_srli_epi16(v, j > 4 ? j - 4 : 0);
  return _mm256_and_si256(moved, _mm256_set1_epi8(16));
}
template <int j>
inline DB two_bits_as_16(DB v) {
  const __m256i moved = j <= 2 ? _mm256_slli_epi16(v, j <= 2 ? 4 - 2 * j : 0)
                               : _mm256_srli_epi16(v, j > 2 ? 2 * j - 4 : 0);
  return _mm256_and_si256(moved, _mm256_set1_epi8(48));
}
inline DB either(DB x, DB y) {
  return _mm256_or_si256(x, y);
}
// Pairs are summed in 16 bits with saturation: weights up to 129 cannot reach it.
inline DI dot_narrow(DI acc, DB w, DB x) {
  return _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), _mm256_set1_epi16(1)));
}
// So larger weights are taken as their low seven bits and their top bit.
inline DI dot_wide(DI acc, DB w, DB x) {
  const __m256i top = _mm256_set1_epi8(INT8_MIN);
  acc = dot_narrow(acc, _mm256_andnot_si256(top, w), x);
  return dot_narrow(acc, _mm256_and_si256(top, w), x);
}
