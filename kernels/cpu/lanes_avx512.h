// The vectors that the loops in *_body.h are written over, for AVX-512 with VNNI. Included by
// isa_avx512.cc alone, inside its anonymous namespace. F: 16 floats; D*: the vectors of the
// matrix product (as wide as one register), of floats, int32 and bytes.

constexpr int kWide = 16;    // weight rows that one D vector covers
constexpr int kRowsMax = 8;  // activation rows a pass

using F = __m512;
using DF = __m512;
using DI = __m512i;
using DB = __m512i;

inline __mmask16 first_lanes(int64_t n) {
  return static_cast<__mmask16>(n >= 16 ? 0xffffu : n <= 0 ? 0u : (1u << n) - 1u);
}

inline F zero() {
  return _mm512_setzero_ps();
}
inline F set1(float x) {
  return _mm512_set1_ps(x);
}
inline F load(const float* p) {
  return _mm512_loadu_ps(p);
}
inline F load_part(const float* p, int64_t n) {
  return _mm512_maskz_loadu_ps(first_lanes(n), p);
}
inline void store(float* p, F v) {
  _mm512_storeu_ps(p, v);
}
inline void store_part(float* p, F v, int64_t n) {
  _mm512_mask_storeu_ps(p, first_lanes(n), v);
}
inline F load_f16(const uint16_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline void store_f16(uint16_t* p, F v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
inline F add(F a, F b) {
  return _mm512_add_ps(a, b);
}
inline F sub(F a, F b) {
  return _mm512_sub_ps(a, b);
}
inline F mul(F a, F b) {
  return _mm512_mul_ps(a, b);
}
inline F div(F a, F b) {
  return _mm512_div_ps(a, b);
}
inline F fma(F a, F b, F c) {
  return _mm512_fmadd_ps(a, b, c);
}
inline F max(F a, F b) {
  return _mm512_max_ps(a, b);
}
inline F min(F a, F b) {
  return _mm512_min_ps(a, b);
}
inline F absolute(F a) {
  return _mm512_abs_ps(a);
}
// v where x > limit, else zero.
inline F where_above(F x, float limit, F v) {
  return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, set1(limit), _CMP_GT_OQ), v);
}
// Lanes [first, last) of v, `other` elsewhere.
inline F keep_lanes(F v, int64_t first, int64_t last, float other) {
  const __mmask16 keep = static_cast<__mmask16>(first_lanes(last) & ~first_lanes(first));
  return _mm512_mask_mov_ps(set1(other), keep, v);
}
// v * 2^n, where n stands in the low mantissa bits of t.
inline F scale_by_power(F v, F t) {
  return _mm512_castsi512_ps(
      _mm512_add_epi32(_mm512_castps_si512(v), _mm512_slli_epi32(_mm512_castps_si512(t), 23)));
}
inline float reduce_add(F v) {
  const __m256 a = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  const __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  const __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}
inline float reduce_max(F v) {
  const __m256 a = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  const __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  const __m128 c = _mm_max_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_max_ss(c, _mm_movehdup_ps(c)));
}
// Nearest integers, ties to even, of 16 values within kActivationMax: their high bytes and what is
// left of them, as in 256 * high + low; returns their sum.
inline int32_t store_rounded(int8_t* high, int8_t* low, F v) {
  const __m512i wide = _mm512_cvtps_epi32(v);
  const __m512i top = _mm512_srai_epi32(_mm512_add_epi32(wide, _mm512_set1_epi32(128)), 8);
  const __m512i rest = _mm512_sub_epi32(wide, _mm512_slli_epi32(top, 8));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(high), _mm512_cvtepi32_epi8(top));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(low), _mm512_cvtepi32_epi8(rest));
  return _mm512_reduce_add_epi32(wide);
}

inline DF d_zero() {
  return _mm512_setzero_ps();
}
inline DF d_load(const void* p) {
  return _mm512_loadu_ps(p);
}
inline void d_store(void* p, DF v) {
  _mm512_storeu_ps(p, v);
}
inline void d_store_part(float* p, DF v, int64_t n) {
  store_part(p, v, n);
}
inline DF d_load_part(const float* p, int64_t n) {
  return load_part(p, n);
}
inline DF d_load_f16(const uint8_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline DF d_load_bf16(const uint8_t* p) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(
      _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))), 16));
}
inline DF d_load_u8(const uint8_t* p) {
  return _mm512_cvtepi32_ps(
      _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
inline DF d_load_i8(const uint8_t* p) {
  return _mm512_cvtepi32_ps(
      _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
inline DF d_set1(const float* p) {
  return _mm512_set1_ps(*p);
}
inline DF d_add(DF a, DF b) {
  return _mm512_add_ps(a, b);
}
inline DF d_mul(DF a, DF b) {
  return _mm512_mul_ps(a, b);
}
inline DF d_fma(DF a, DF b, DF c) {
  return _mm512_fmadd_ps(a, b, c);
}
inline DF d_negate(DF a) {
  return _mm512_castsi512_ps(
      _mm512_xor_si512(_mm512_castps_si512(a), _mm512_set1_epi32(INT32_MIN)));
}
inline DF to_float(DI a) {
  return _mm512_cvtepi32_ps(a);
}
// 256 * high + low
inline DI di_join(DI high, DI low) {
  return _mm512_add_epi32(low, _mm512_slli_epi32(high, 8));
}
inline DI di_zero() {
  return _mm512_setzero_si512();
}
inline DI di_set1(const int32_t* p) {
  return _mm512_set1_epi32(*p);
}
inline DB db_load(const uint8_t* p) {
  return _mm512_loadu_si512(p);
}
inline void db_store(uint8_t* p, DB v) {
  _mm512_storeu_si512(p, v);
}
inline DB db_set4(const int8_t* p) {
  int32_t four;
  __builtin_memcpy(&four, p, 4);
  return _mm512_set1_epi32(four);
}
inline DB low_nibbles(DB v) {
  return _mm512_and_si512(v, _mm512_set1_epi8(15));
}
inline DB high_nibbles(DB v) {
  return _mm512_and_si512(_mm512_srli_epi16(v, 4), _mm512_set1_epi8(15));
}
// Bit `j` of each byte, as 16; bits 2j and 2j + 1 of each byte, times 16.
template <int j>
inline DB bit_as_16(DB v) {
  const __m512i moved =
      j <= 4 ? _mm512_slli_epi16(v, j <= 4 ? 4 - j : 0) : _mm512_srli_epi16(v, j > 4 ? j - 4 : 0);
  return _mm512_and_si512(moved, _mm512_set1_epi8(16));
}
template <int j>
inline DB two_bits_as_16(DB v) {
  const __m512i moved = j <= 2 ? _mm512_slli_epi16(v, j <= 2 ? 4 - 2 * j : 0)
                               : _mm512_srli_epi16(v, j > 2 ? 2 * j - 4 : 0);
  return _mm512_and_si512(moved, _mm512_set1_epi8(48));
}
inline DB either(DB a, DB b) {
  return _mm512_or_si512(a, b);
}
// acc + four products a lane, unsigned weights with signed activations. `narrow` weights are below
// 128; the distinction matters to AVX2 only.
inline DI dot_narrow(DI acc, DB w, DB x) {
  return _mm512_dpbusd_epi32(acc, w, x);
}
inline DI dot_wide(DI acc, DB w, DB x) {
  return _mm512_dpbusd_epi32(acc, w, x);
}
