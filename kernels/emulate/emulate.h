// CUDA C++ as ordinary C++20: the vocabulary a kernel uses, run by emulate.cc on one CPU thread.
//
// A thread block is a set of fibers; every fiber is one CUDA thread and runs until it must wait.
// All waiting is one idea, a *meeting*: each member brings a pointer to its operands, the last to
// arrive runs the step over everybody's operands, then all are released. __syncthreads is a meeting
// of the block with an empty step; a shuffle, a vote, ldmatrix and mma.sync are meetings of a warp,
// wgmma of four warps.
//
// What a GPU leaves open is decided by `settings`, so that a test can try every answer: the order
// in which threads run, and whether asynchronous copies land at once or as late as they may. A
// correct kernel gives the same bits under all of them.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <type_traits>

#undef __global__
#undef __device__
#undef __host__
#undef __shared__
#undef __launch_bounds__
#undef __cluster_dims__
#undef __grid_constant__
#define __global__
#define __device__
#define __host__
#define __shared__ static  // one OS thread runs the blocks in turn, so a static is the block's own
#define __launch_bounds__(...)
#define __cluster_dims__(...)
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

void run_grid(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& kernel);
unsigned char* dynamic_shared();
[[noreturn]] void fail(const char* what, Where where);
int thread_rank();  // within the block

void meet_warp(unsigned mask, void* operand, const Step& step, bool orders_memory, Where where);
void meet_warpgroup(void* operand, const Step& step, Where where);
void meet_block(int barrier, int threads, Where where);

// Asynchronous copies of the calling thread, in committed groups as cp.async has them.
void copy_async(void* to, const void* from, int bytes, int zero_bytes);
void commit_copies();
void wait_copies(int groups_left);

// For barriers other than meetings: waits until `ready` holds; runs `action` at once, or under
// Copies::late when every thread waits; note_progress says that someone's `ready` may have changed.
void wait_until(const std::function<bool()>& ready, Where where);
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
inline int __popc(unsigned x) {
  return std::popcount(x);
}
inline int __ffs(int x) {
  return __builtin_ffs(x);
}
inline int __clz(int x) {
  return std::countl_zero(unsigned(x));
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
void __stcs(T* address, T value) {
  *address = value;
}
inline float __expf(float x) {
  return std::exp(x);
}
inline float rsqrtf(float x) {
  return 1.0f / std::sqrt(x);
}
inline float __fdividef(float x, float y) {
  return x / y;
}
inline float __int_as_float(int x) {
  return std::bit_cast<float>(x);
}
inline int __float_as_int(float x) {
  return std::bit_cast<int>(x);
}
inline int min(int a, int b) {
  return a < b ? a : b;
}
inline int max(int a, int b) {
  return a > b ? a : b;
}
template <typename T>
size_t __cvta_generic_to_shared(const T* pointer) {
  return reinterpret_cast<size_t>(pointer);
}
