// CUDA C++ as ordinary C++20: the vocabulary a kernel uses, run by emulate.cc on one CPU thread.
//
// A thread block is a set of fibers; every fiber is one CUDA thread and runs until it must wait.
// All waiting is one idea, a *meeting*: each member brings a pointer to its operands, the last to
// arrive runs the step over everybody's operands, then all are released. __syncthreads is a meeting
// of the block with an empty step; a shuffle, a vote, ldmatrix and mma.sync are meetings of a warp,
// wgmma of four warps. What waits for memory (mbarriers, flags) polls whenever nobody else can run.
//
// What a GPU leaves open is decided by `settings`, so that a test can try every answer: the order
// in which threads run, and whether asynchronous copies land at once or as late as they may. A
// correct kernel gives the same bits under all of them.
//
// Blocks run one after the other, but those of a grid launched by launch_together(), and those of
// several devices under run_together(), live at the same time and may wait for each other. Devices
// may also be host threads: one whose kernel can only wait for another device's flag lets the other
// threads run.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <type_traits>
#include <vector>

#undef __global__
#undef __device__
#undef __host__
#undef __shared__
#undef __launch_bounds__
#undef __grid_constant__
#define __global__
#define __device__
#define __host__
// Neither poisoned nor watched, and shared by blocks that live together.
#define __shared__ _Pragma("GCC error \"use shared_memory<Layout>() of device.h\"")
#define __launch_bounds__(...)
#define __grid_constant__

inline uint3 threadIdx, blockIdx;  // of the fiber that runs now
inline dim3 blockDim, gridDim;
inline constexpr int warpSize = 32;

namespace chorus::emulate {

enum class Order { forward, reverse, greedy, shuffled };  // greedy: whoever was released last
enum class Copies { early, late };                        // cp.async, TMA, wgmma
struct Settings {
  Order order = Order::forward;
  Copies copies = Copies::early;
  uint64_t seed = 1;
};
inline Settings settings;

struct Statistics {
  int64_t threads = 0, switches = 0, meetings = 0;
};
inline Statistics statistics;

// Who called; std::source_location, which Debian's clang 14 does not have.
struct Where {
  const char* file = "";
  int line = 0;
  static Where current(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    return {file, line};
  }
};

using Step = std::function<void(void* const* operands)>;  // absent members are null

struct Grid {
  dim3 blocks, threads;
  size_t shared_bytes = 0;
  std::function<void()> kernel;  // one thread's run; owns its arguments
  bool together = false;         // all blocks live at the same time
};
// Runs it to its end; within run_together(), queues it. Host threads take turns: a grid at a time,
// or until nothing is left to do but to wait for a flag of another device.
void run_grid(Grid grid);

// As many devices as there are functions, each of which queues launches for its own (and reads none
// of their results). Device i runs its grids in order; the devices run at the same time, so that
// their kernels may wait for each other's flags.
void run_together(const std::vector<std::function<void()>>& devices);

// While one lives, the calling thread's launches overlap as they do on a stream: for the race
// detector a kernel knows of its predecessors' writes from wait_for_predecessor() on, and the host
// from catch_up() or the end on.
class Overlap {
 public:
  Overlap();
  ~Overlap();
  Overlap(const Overlap&) = delete;
  Overlap& operator=(const Overlap&) = delete;
};
void catch_up();
void wait_for_predecessor();  // every grid must, with one of its threads at least

unsigned char* dynamic_shared();
[[noreturn]] void fail(const char* what, Where where);
int thread_rank();  // within the block

void meet_warp(unsigned mask, void* operand, const Step& step, bool orders_memory, Where where);
void meet_warpgroup(void* operand, const Step& step, Where where);
// Barrier 0 is __syncthreads, of all threads that live (`threads` = 0). Others may be reached from
// different places; arrive_block counts the caller as come and does not wait.
void meet_block(int barrier, int threads, Where where);
void arrive_block(int barrier, int threads, Where where);
int count_block(bool vote, Where where);  // __syncthreads_count

// Asynchronous copies of the calling thread, in committed groups as cp.async has them.
void copy_async(void* to, const void* from, int bytes, int zero_bytes);
void commit_copies();
void wait_copies(int groups_left);

// The calling thread's block's own T, made when first asked for.
std::shared_ptr<void>& block_slot(const void* key);
template <typename T>
T& block_local() {
  static const char key = 0;
  auto& slot = block_slot(&key);
  if (!slot) slot = std::make_shared<T>();
  return *static_cast<T*>(slot.get());
}

// For barriers other than meetings: waits until `ready` holds; runs `action` at once, or under
// Copies::late when every thread waits; note_progress says that someone's `ready` may have changed.
// `elsewhere`: another device may make it hold, so that waiting alone is no deadlock yet.
void wait_until(const std::function<bool()>& ready, Where where, bool elsewhere = false);
void when_idle(std::function<void()> action);
void note_progress();

// Tells a race detector about an ordering through `object`, and about accesses made on behalf of
// the calling thread (see emulate.cc).
void release(void* object);
void acquire(void* object);
void note_read(const void* from, int bytes);
void note_write(void* to, int bytes);

uint64_t exchange(unsigned mask, uint64_t value, int source_lane, Where where);

}  // namespace chorus::emulate

// ---- Barriers and warp functions, with CUDA's names ----

inline void __syncthreads(chorus::emulate::Where where = chorus::emulate::Where::current()) {
  chorus::emulate::meet_block(0, 0, where);
}
inline void __syncwarp(unsigned mask = ~0u,
                       chorus::emulate::Where where = chorus::emulate::Where::current()) {
  chorus::emulate::meet_warp(mask, nullptr, nullptr, true, where);
}
inline void __threadfence() {}
inline void __threadfence_block() {}

template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32,
              chorus::emulate::Where where = chorus::emulate::Where::current()) {
  static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>);
  int lane = chorus::emulate::thread_rank() % 32;
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits =
      chorus::emulate::exchange(mask, bits, (lane & ~(width - 1)) | (source & (width - 1)), where);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32,
                  chorus::emulate::Where where = chorus::emulate::Where::current()) {
  int target = (chorus::emulate::thread_rank() % 32) ^ lane_mask;
  return __shfl_sync(mask, value, target,
                     target / width == chorus::emulate::thread_rank() % 32 / width ? width : 32,
                     where);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                   chorus::emulate::Where where = chorus::emulate::Where::current()) {
  int position = chorus::emulate::thread_rank() % width;
  return __shfl_sync(mask, value, position + int(delta) < width ? position + delta : position,
                     width, where);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                 chorus::emulate::Where where = chorus::emulate::Where::current()) {
  int position = chorus::emulate::thread_rank() % width;
  return __shfl_sync(mask, value, position >= int(delta) ? position - delta : position, width,
                     where);
}
unsigned __ballot_sync(unsigned mask, int predicate,
                       chorus::emulate::Where where = chorus::emulate::Where::current());
inline int __any_sync(unsigned mask, int predicate) {
  return __ballot_sync(mask, predicate) != 0;
}
inline int __all_sync(unsigned mask, int predicate) {
  return __ballot_sync(mask, !predicate) == 0;
}
int __syncthreads_count(int predicate,
                        chorus::emulate::Where where = chorus::emulate::Where::current());
inline int __syncthreads_or(int predicate,
                            chorus::emulate::Where where = chorus::emulate::Where::current()) {
  return __syncthreads_count(predicate, where) != 0;
}
inline int __syncthreads_and(int predicate,
                             chorus::emulate::Where where = chorus::emulate::Where::current()) {
  return __syncthreads_count(!predicate, where) == 0;
}

// ---- Integers ----

inline int __popc(unsigned x) {
  return std::popcount(x);
}
inline int __ffs(int x) {
  return __builtin_ffs(x);
}
inline int __clz(int x) {
  return std::countl_zero(unsigned(x));
}
inline int __popcll(unsigned long long x) {
  return std::popcount(x);
}
inline int __ffsll(long long x) {
  return __builtin_ffsll(x);
}
inline int __clzll(long long x) {
  return std::countl_zero(static_cast<unsigned long long>(x));
}
inline unsigned __umulhi(unsigned x, unsigned y) {
  return unsigned(uint64_t(x) * y >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return unsigned((uint64_t(high) << 32 | low) >> (shift & 31));
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  return unsigned((uint64_t(high) << 32 | low) << (shift & 31) >> 32);
}
// Byte i of the result is byte (selector >> 4i & 7) of y:x; with bit 3 set, its sign eight times.
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
  const uint64_t both = uint64_t(y) << 32 | x;
  unsigned result = 0;
  for (int i = 0; i < 4; ++i) {
    const unsigned chosen = selector >> 4 * i & 15;
    unsigned byte = unsigned(both >> 8 * (chosen & 7) & 0xff);
    if (chosen & 8) byte = byte & 0x80 ? 0xff : 0;
    result |= byte << 8 * i;
  }
  return result;
}
// sum + the four products of the signed bytes of a and b.
inline int __dp4a(int a, int b, int sum) {
  for (int i = 0; i < 4; ++i) sum += int8_t(a >> 8 * i) * int8_t(b >> 8 * i);
  return sum;
}
inline unsigned __dp4a(unsigned a, unsigned b, unsigned sum) {
  for (int i = 0; i < 4; ++i) sum += (a >> 8 * i & 0xff) * (b >> 8 * i & 0xff);
  return sum;
}

// ---- Atomics: every fiber switch is at a meeting, so plain code is atomic; the builtins are there
// for the race detector, which must see that these are not ordinary accesses. ----

template <typename T>
T atomicAdd(T* address, T value) {
  if constexpr (std::is_integral_v<T>) return __atomic_fetch_add(address, value, __ATOMIC_RELAXED);
  T old, sum;
  __atomic_load(address, &old, __ATOMIC_RELAXED);
  sum = old + value;
  __atomic_store(address, &sum, __ATOMIC_RELAXED);
  return old;
}
template <typename T>
T atomicMax(T* address, T value) {
  T old = __atomic_load_n(address, __ATOMIC_RELAXED);
  if (value > old) __atomic_store_n(address, value, __ATOMIC_RELAXED);
  return old;
}
template <typename T>
T atomicMin(T* address, T value) {
  T old = __atomic_load_n(address, __ATOMIC_RELAXED);
  if (value < old) __atomic_store_n(address, value, __ATOMIC_RELAXED);
  return old;
}
template <typename T>
T atomicExch(T* address, T value) {
  return __atomic_exchange_n(address, value, __ATOMIC_RELAXED);
}
template <typename T>
T atomicCAS(T* address, T expected, T desired) {
  __atomic_compare_exchange_n(address, &expected, desired, false, __ATOMIC_RELAXED,
                              __ATOMIC_RELAXED);
  return expected;
}

// ---- Memory and mathematics ----

template <typename T>
T __ldg(const T* address) {
  return *address;
}
template <typename T>
T __ldcs(const T* address) {
  return *address;
}
template <typename T>
T __ldcg(const T* address) {
  return *address;
}
template <typename T>
void __stcs(T* address, T value) {
  *address = value;
}
template <typename T>
void __stcg(T* address, T value) {
  *address = value;
}
template <typename T>
size_t __cvta_generic_to_shared(const T* pointer) {
  return reinterpret_cast<size_t>(pointer);
}
inline float __int_as_float(int x) {
  return std::bit_cast<float>(x);
}
inline int __float_as_int(float x) {
  return std::bit_cast<int>(x);
}
inline float __uint_as_float(unsigned x) {
  return std::bit_cast<float>(x);
}
inline unsigned __float_as_uint(float x) {
  return std::bit_cast<unsigned>(x);
}
inline float __expf(float x) {
  return std::exp(x);
}
inline float __logf(float x) {
  return std::log(x);
}
inline float __log2f(float x) {
  return std::log2(x);
}
inline float __powf(float x, float y) {
  return std::pow(x, y);
}
inline float rsqrtf(float x) {
  return 1.0f / std::sqrt(x);
}
inline float __frcp_rn(float x) {
  return 1.0f / x;
}
inline float __frsqrt_rn(float x) {
  return rsqrtf(x);
}
inline float __fsqrt_rn(float x) {
  return std::sqrt(x);
}
inline float __fdividef(float x, float y) {
  return x / y;
}
inline float __fdiv_rn(float x, float y) {
  return x / y;
}
inline float __fadd_rn(float x, float y) {
  return x + y;
}
inline float __fmul_rn(float x, float y) {
  return x * y;
}
inline float __fmaf_rn(float x, float y, float z) {
  return std::fma(x, y, z);
}
inline float __saturatef(float x) {
  return x > 0 ? (x < 1 ? x : 1) : 0;  // NaN becomes 0
}
inline int __float2int_rn(float x) {
  return int(std::nearbyint(x));
}
inline unsigned __float2uint_rn(float x) {
  return unsigned(std::nearbyint(x));
}
inline float __int2float_rn(int x) {
  return float(x);
}

// The headers of the 16-bit types leave these to device code. One rounding, as there.
template <typename T>
T emulate_fma(T x, T y, T z) {
  return T(float(std::fma(double(float(x)), double(float(y)), double(float(z)))));
}
inline __half __hfma(__half x, __half y, __half z) {
  return emulate_fma(x, y, z);
}
inline __nv_bfloat16 __hfma(__nv_bfloat16 x, __nv_bfloat16 y, __nv_bfloat16 z) {
  return emulate_fma(x, y, z);
}
inline __half2 __hfma2(__half2 x, __half2 y, __half2 z) {
  return {emulate_fma(x.x, y.x, z.x), emulate_fma(x.y, y.y, z.y)};
}
inline __nv_bfloat162 __hfma2(__nv_bfloat162 x, __nv_bfloat162 y, __nv_bfloat162 z) {
  return {emulate_fma(x.x, y.x, z.x), emulate_fma(x.y, y.y, z.y)};
}

// CUDA has overloads for every pair of integers, and for floats (where NaN loses).
template <typename A, typename B>
requires std::is_integral_v<A> && std::is_integral_v<B> std::common_type_t<A, B> min(A a, B b) {
  using T = std::common_type_t<A, B>;
  return T(a) < T(b) ? T(a) : T(b);
}
template <typename A, typename B>
requires std::is_integral_v<A> && std::is_integral_v<B> std::common_type_t<A, B> max(A a, B b) {
  using T = std::common_type_t<A, B>;
  return T(a) > T(b) ? T(a) : T(b);
}
inline float min(float a, float b) {
  return std::fmin(a, b);
}
inline float max(float a, float b) {
  return std::fmax(a, b);
}
