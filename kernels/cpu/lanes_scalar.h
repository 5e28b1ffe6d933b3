// The vectors that the loops in *_body.h are written over, as plain loops: any CPU. Included by
// isa_scalar.cc alone, inside its anonymous namespace. What the vector units do is spelt out here,
// half-precision conversion included; __builtin_fmaf rounds once, in software where it must.

constexpr int kWide = 16;
constexpr int kRowsMax = 4;

struct F {
  float v[16];
};
using DF = F;
struct DI {
  int32_t v[16];
};
struct DB {
  uint8_t v[64];
};

inline uint32_t bits_of(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, 4);
  return bits;
}
inline float float_of(uint32_t bits) {
  float x;
  __builtin_memcpy(&x, &bits, 4);
  return x;
}
inline float from_f16(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16;
  const uint32_t exponent = (h >> 10) & 31u;
  const uint32_t mantissa = h & 0x3ffu;
  if (exponent == 31) {
    return float_of(sign | 0x7f800000u | (mantissa << 13) | (mantissa ? 0x400000u : 0u));
  }
  if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return sign ? -magnitude : magnitude;
  }
  return float_of(sign | ((exponent + 112) << 23) | (mantissa << 13));
}
inline uint16_t to_f16_bits(float x) {
  const uint32_t bits = bits_of(x);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) {
    return static_cast<uint16_t>(sign | 0x7e00u | ((magnitude >> 13) & 0x1ffu));
  }
  if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);
  if (magnitude < 0x38800000u) {  // below half's smallest normal: rounded by an addition
    const float moved = float_of(magnitude) + 0.5f;
    return static_cast<uint16_t>(sign | (bits_of(moved) - 0x3f000000u));
  }
  const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
}

template <class Make>
inline F each(Make make) {
  F out;
  for (int i = 0; i < 16; ++i) out.v[i] = make(i);
  return out;
}

inline F set1(float x) {
  return each([&](int) { return x; });
}
inline F zero() {
  return set1(0);
}
inline F load_part(const float* p, int64_t n) {
  return each([&](int i) { return i < n ? p[i] : 0.0f; });
}
inline F load(const float* p) {
  F out;
  __builtin_memcpy(&out, p, sizeof out);
  return out;
}
inline void store(float* p, F v) {
  __builtin_memcpy(p, &v, sizeof v);
}
inline void store_part(float* p, F v, int64_t n) {
  for (int i = 0; i < 16 && i < n; ++i) p[i] = v.v[i];
}
inline F load_f16(const uint16_t* p) {
  return each([&](int i) { return from_f16(p[i]); });
}
inline void store_f16(uint16_t* p, F v) {
  for (int i = 0; i < 16; ++i) p[i] = to_f16_bits(v.v[i]);
}
inline F add(F a, F b) {
  return each([&](int i) { return a.v[i] + b.v[i]; });
}
inline F sub(F a, F b) {
  return each([&](int i) { return a.v[i] - b.v[i]; });
}
inline F mul(F a, F b) {
  return each([&](int i) { return a.v[i] * b.v[i]; });
}
inline F div(F a, F b) {
  return each([&](int i) { return a.v[i] / b.v[i]; });
}
inline F fma(F a, F b, F c) {
  return each([&](int i) { return __builtin_fmaf(a.v[i], b.v[i], c.v[i]); });
}
inline F max(F a, F b) {
  return each([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
inline F min(F a, F b) {
  return each([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
}
inline F absolute(F a) {
  return each([&](int i) { return __builtin_fabsf(a.v[i]); });
}
inline F where_above(F x, float limit, F v) {
  return each([&](int i) { return x.v[i] > limit ? v.v[i] : 0.0f; });
}
inline F keep_lanes(F v, int64_t first, int64_t last, float other) {
  return each([&](int i) { return i >= first && i < last ? v.v[i] : other; });
}
inline F scale_by_power(F v, F t) {
  return each([&](int i) { return float_of(bits_of(v.v[i]) + (bits_of(t.v[i]) << 23)); });
}
// The tree of the vector units: halves onto each other.
inline float reduce_add(F v) {
  for (int n = 8; n > 0; n /= 2) {
    for (int i = 0; i < n; ++i) v.v[i] += v.v[i + n];
  }
  return v.v[0];
}
inline float reduce_max(F v) {
  for (int n = 8; n > 0; n /= 2) {
    for (int i = 0; i < n; ++i) v.v[i] = v.v[i] > v.v[i + n] ? v.v[i] : v.v[i + n];
  }
  return v.v[0];
}
inline int32_t store_rounded(int8_t* high, int8_t* low, F v) {
  int32_t sum = 0;
  for (int i = 0; i < 16; ++i) {
    const auto rounded = static_cast<int32_t>(__builtin_rintf(v.v[i]));
    const int32_t top = (rounded + 128) >> 8;
    high[i] = static_cast<int8_t>(top);
    low[i] = static_cast<int8_t>(rounded - 256 * top);
    sum += rounded;
  }
  return sum;
}

inline DF d_zero() {
  return zero();
}
inline DF d_load(const void* p) {
  DF out;
  __builtin_memcpy(&out, p, sizeof out);
  return out;
}
inline void d_store(void* p, DF v) {
  __builtin_memcpy(p, &v, sizeof v);
}
inline void d_store_part(float* p, DF v, int64_t n) {
  store_part(p, v, n);
}
inline DF d_load_part(const float* p, int64_t n) {
  return load_part(p, n);
}
inline uint16_t half_at(const uint8_t* p, int i) {
  uint16_t half;
  __builtin_memcpy(&half, p + 2 * i, 2);
  return half;
}
inline DF d_load_f16(const uint8_t* p) {
  return each([&](int i) { return from_f16(half_at(p, i)); });
}
inline DF d_load_bf16(const uint8_t* p) {
  return each([&](int i) { return float_of(static_cast<uint32_t>(half_at(p, i)) << 16); });
}
inline DF d_load_u8(const uint8_t* p) {
  return each([&](int i) { return static_cast<float>(p[i]); });
}
inline DF d_load_i8(const uint8_t* p) {
  return each([&](int i) { return static_cast<float>(static_cast<int8_t>(p[i])); });
}
inline DF d_set1(const float* p) {
  return set1(*p);
}
inline DF d_add(DF a, DF b) {
  return add(a, b);
}
inline DF d_mul(DF a, DF b) {
  return mul(a, b);
}
inline DF d_fma(DF a, DF b, DF c) {
  return fma(a, b, c);
}
inline DF d_negate(DF a) {
  return each([&](int i) { return -a.v[i]; });
}
inline DF to_float(DI a) {
  return each([&](int i) { return static_cast<float>(a.v[i]); });
}
inline DI di_set1(const int32_t* p) {
  DI out;
  for (int i = 0; i < 16; ++i) out.v[i] = *p;
  return out;
}
inline DI di_join(DI high, DI low) {
  for (int i = 0; i < 16; ++i) low.v[i] += 256 * high.v[i];
  return low;
}
inline DI di_zero() {
  const int32_t none = 0;
  return di_set1(&none);
}
inline DB db_load(const uint8_t* p) {
  DB out;
  __builtin_memcpy(&out, p, sizeof out);
  return out;
}
inline void db_store(uint8_t* p, DB v) {
  __builtin_memcpy(p, &v, sizeof v);
}
inline DB db_set4(const int8_t* p) {
  DB out;
  for (int i = 0; i < 64; i += 4) __builtin_memcpy(out.v + i, p, 4);
  return out;
}
template <class Change>
inline DB each_byte(DB v, Change change) {
  for (int i = 0; i < 64; ++i) v.v[i] = static_cast<uint8_t>(change(v.v[i]));
  return v;
}
inline DB low_nibbles(DB v) {
  return each_byte(v, [](uint8_t x) { return x & 15; });
}
inline DB high_nibbles(DB v) {
  return each_byte(v, [](uint8_t x) { return x >> 4; });
}
template <int j>
inline DB bit_as_16(DB v) {
  return each_byte(v, [](uint8_t x) { return ((x >> j) & 1) << 4; });
}
template <int j>
inline DB two_bits_as_16(DB v) {
  return each_byte(v, [](uint8_t x) { return ((x >> (2 * j)) & 3) << 4; });
}
inline DB either(DB a, DB b) {
  for (int i = 0; i < 64; ++i) a.v[i] = static_cast<uint8_t>(a.v[i] | b.v[i]);
  return a;
}
inline DI dot_narrow(DI acc, DB w, DB x) {
  for (int i = 0; i < 64; ++i) acc.v[i / 4] += w.v[i] * static_cast<int8_t>(x.v[i]);
  return acc;
}
inline DI dot_wide(DI acc, DB w, DB x) {
  return dot_narrow(acc, w, x);
}
