// Named functions for the PTX the kernels need. Under nvcc each is one instruction or a few; the
// emulated twins (kernels/emulate/ptx.cc) follow the register layouts of the PTX manual, "Matrix
// fragments".
#pragma once
#include "kernels/cuda/device.h"
#include "kernels/cuda/prefetch.h"

namespace chorus::kernels::cuda::ptx {

#ifndef __CUDACC__
using Where = emulate::Where;
#endif

// ---- Copies and loads ----

// 16 bytes global -> shared, of which the last 16 - `valid` become zero (and are not read).
__device__ inline void copy_async_16(void* shared, const void* global, int valid = 16) {
#ifdef __CUDACC__
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(
                   uint32_t(__cvta_generic_to_shared(shared))),
               "l"(global), "r"(valid)
               : "memory");
#else
  emulate::copy_async(shared, global, valid, 16 - valid);
#endif
}

__device__ inline void commit_copies() {
#ifdef __CUDACC__
  asm volatile("cp.async.commit_group;\n" ::: "memory");
#else
  emulate::commit_copies();
#endif
}

template <int groups_left>
__device__ inline void wait_copies() {
#ifdef __CUDACC__
  asm volatile("cp.async.wait_group %0;\n" ::"n"(groups_left) : "memory");
#else
  emulate::wait_copies(groups_left);
#endif
}

// 16 bytes that are read once and that nobody writes while the kernel runs (weights): past L1, by
// the read-only path, in whole lines from memory. Keeps its place among the other functions of this
// file.
#ifdef __CUDACC__
__device__ inline uint4 load_streaming_16(const void* global) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(global));
  return v;
}
// The same where `wanted`; elsewhere `v` stays what it was. A predicate and no branch.
__device__ inline void load_streaming_16_if(uint4& v, const void* global, bool wanted) {
  asm volatile(
      "{\n.reg .pred wanted;\nsetp.ne.u32 wanted, %5, 0;\n"
      "@wanted ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0,%1,%2,%3}, [%4];\n}\n"
      : "+r"(v.x), "+r"(v.y), "+r"(v.z), "+r"(v.w)
      : "l"(global), "r"(uint32_t(wanted)));
}
#else
inline uint4 load_streaming_16(const void* global, Where where = Where::current()) {
  if (reinterpret_cast<uintptr_t>(global) % 16 != 0)
    emulate::fail("a 16-byte load is not aligned", where);
  return *static_cast<const uint4*>(global);
}
inline void load_streaming_16_if(uint4& v, const void* global, bool wanted,
                                 Where where = Where::current()) {
  if (wanted) v = load_streaming_16(global, where);
}
#endif

// Asks for `bytes` (a multiple of 16, from an address that is one too) to be brought into L2. One
// thread's call is enough.
__device__ inline void prefetch_l2(const void* global, uint32_t bytes) {
#ifdef __CUDACC__
#if __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;\n" ::"l"(global), "r"(bytes));
#else
  for (uint32_t at = 0; at < bytes; at += 128) {
    asm volatile("prefetch.global.L2 [%0];\n" ::"l"(static_cast<const char*>(global) + at));
  }
#endif
#else
  if (bytes % 16 != 0 || reinterpret_cast<uintptr_t>(global) % 16 != 0)
    emulate::fail("prefetch_l2 takes multiples of 16 bytes", Where::current());
#endif
}

// By all threads of a block; `index` counts the additional blocks. Reads nothing that changes.
__device__ inline void prefetch_share(const Prefetch& prefetch, int index) {
  constexpr int64_t kPiece = 8 << 10;
  const int64_t first = index * Prefetch::kBytesPerBlock;
  const int64_t end = first + Prefetch::kBytesPerBlock;
  for (int64_t at = first + threadIdx.x * kPiece; at < end && at < prefetch.bytes;
       at += blockDim.x * kPiece) {
    const int64_t left = prefetch.bytes - at;
    prefetch_l2(static_cast<const char*>(prefetch.data) + at,
                uint32_t((left < kPiece ? left : kPiece) / 16 * 16));
  }
}

// ---- Order among kernels, blocks and devices ----

// Programmatic dependent launch: the predecessor's writes are visible after the wait.
__device__ inline void wait_for_predecessor() {
#if defined(__CUDACC__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;\n" ::: "memory");
#elif !defined(__CUDACC__)
  emulate::wait_for_predecessor();
#endif
}
__device__ inline void let_successor_start() {
#if defined(__CUDACC__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;\n" ::: "memory");
#endif
}

// Who shares a flag: the blocks of one device, or several devices and the host.
enum class Scope { device, system };

// What the calling thread wrote, and what it knows of through barriers, is visible to whoever reads
// the flag by load_acquire (or wait_for_flag, fetch_add) and finds this value or a later one.
template <Scope scope>
__device__ inline void store_release(uint32_t* flag, uint32_t value) {
#ifdef __CUDACC__
  if constexpr (scope == Scope::device) {
    asm volatile("st.release.gpu.global.u32 [%0], %1;\n" ::"l"(flag), "r"(value) : "memory");
  } else {
    asm volatile("st.release.sys.global.u32 [%0], %1;\n" ::"l"(flag), "r"(value) : "memory");
  }
#else
  __atomic_store_n(flag, value, __ATOMIC_RELEASE);
  emulate::note_progress();
#endif
}

template <Scope scope>
__device__ inline uint32_t load_acquire(const uint32_t* flag) {
  uint32_t value;
#ifdef __CUDACC__
  if constexpr (scope == Scope::device) {
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];\n" : "=r"(value) : "l"(flag) : "memory");
  } else {
    asm volatile("ld.acquire.sys.global.u32 %0, [%1];\n" : "=r"(value) : "l"(flag) : "memory");
  }
#else
  value = __atomic_load_n(flag, __ATOMIC_ACQUIRE);
#endif
  return value;
}

// Adds, and answers what was there before; both releases and acquires: the counter by which the
// last block of a grid finds out that it is the last.
__device__ inline uint32_t fetch_add(uint32_t* counter, uint32_t value) {
  uint32_t before;
#ifdef __CUDACC__
  asm volatile("atom.add.acq_rel.gpu.global.u32 %0, [%1], %2;\n"
               : "=r"(before)
               : "l"(counter), "r"(value)
               : "memory");
#else
  before = __atomic_fetch_add(counter, value, __ATOMIC_ACQ_REL);
  emulate::note_progress();
#endif
  return before;
}

// Waits until the flag has come to `value` or gone past it (counting modulo 2^32). The only way to
// spin on memory: the emulation must know that this thread waits.
#ifdef __CUDACC__
template <Scope scope>
__device__ inline void wait_for_flag(const uint32_t* flag, uint32_t value) {
  while (int32_t(load_acquire<scope>(flag) - value) < 0) {
  }
}
#else
template <Scope scope>
inline void wait_for_flag(const uint32_t* flag, uint32_t value, Where where = Where::current()) {
  emulate::wait_until([&] { return int32_t(__atomic_load_n(flag, __ATOMIC_RELAXED) - value) >= 0; },
                      where, scope == Scope::system);
  load_acquire<scope>(flag);
}
#endif

// Barrier `id` (1 to 15; 0 is __syncthreads) of `threads` threads, a multiple of 32: sync waits,
// arrive only counts as come.
#ifdef __CUDACC__
__device__ inline void barrier_sync(int id, int threads) {
  asm volatile("bar.sync %0, %1;\n" ::"r"(id), "r"(threads) : "memory");
}
__device__ inline void barrier_arrive(int id, int threads) {
  asm volatile("bar.arrive %0, %1;\n" ::"r"(id), "r"(threads) : "memory");
}
#else
inline void barrier_sync(int id, int threads, Where where = Where::current()) {
  emulate::meet_block(id, threads, where);
}
inline void barrier_arrive(int id, int threads, Where where = Where::current()) {
  emulate::arrive_block(id, threads, where);
}
#endif

// ---- Sums over lanes ----

// Over each group of `width` lanes (a power of two), for all 32 lanes together; every lane has the
// same bits, from one order of additions.
#ifdef __CUDACC__
template <int width = 32, typename T>
__device__ inline T warp_sum(T value) {
  for (int distance = width / 2; distance > 0; distance /= 2) {
    value += __shfl_xor_sync(~0u, value, distance);
  }
  return value;
}
template <int width = 32, typename T>
__device__ inline T warp_max(T value) {
  for (int distance = width / 2; distance > 0; distance /= 2) {
    const T other = __shfl_xor_sync(~0u, value, distance);
    value = value < other ? other : value;
  }
  return value;
}
#else
template <int width, typename T, typename Combine>
T warp_combine(T value, Combine combine, Where where) {
  const emulate::Step step = [combine](void* const* lanes) {
    T values[32], next[32];
    for (int lane = 0; lane < 32; ++lane) {
      if (lanes[lane]) values[lane] = *static_cast<T*>(lanes[lane]);
    }
    for (int distance = width / 2; distance > 0; distance /= 2) {
      for (int lane = 0; lane < 32; ++lane) {
        next[lane] = combine(values[lane], values[lane ^ distance]);
      }
      std::memcpy(values, next, sizeof values);
    }
    for (int lane = 0; lane < 32; ++lane) *static_cast<T*>(lanes[lane]) = values[lane];
  };
  emulate::meet_warp(~0u, &value, step, false, where);
  return value;
}
template <int width = 32, typename T>
T warp_sum(T value, Where where = Where::current()) {
  return warp_combine<width>(
      value, [](T a, T b) { return T(a + b); }, where);
}
template <int width = 32, typename T>
T warp_max(T value, Where where = Where::current()) {
  return warp_combine<width>(
      value, [](T a, T b) { return a < b ? b : a; }, where);
}
#endif

// ---- Conversions and approximations ----

// Two 16-bit numbers in one register, the first in the low half: what mma's operands are made of.
template <typename T>
__device__ inline uint32_t pack(float low, float high) {
  if constexpr (std::is_same_v<T, __nv_bfloat16>) {
    const __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
    uint32_t bits;
    memcpy(&bits, &both, 4);
    return bits;
  } else {
    static_assert(std::is_same_v<T, __half>);
    const __half2 both = __floats2half2_rn(low, high);
    uint32_t bits;
    memcpy(&bits, &both, 4);
    return bits;
  }
}
template <typename T>
__device__ inline float2 unpack(uint32_t bits) {
  if constexpr (std::is_same_v<T, __nv_bfloat16>) {
    return {__uint_as_float(bits << 16), __uint_as_float(bits & 0xffff0000u)};
  } else {
    static_assert(std::is_same_v<T, __half>);
    __half2 both;
    memcpy(static_cast<void*>(&both), &bits, 4);
    return __half22float2(both);
  }
}

// 2^x to about 2 ulp, in one instruction.
__device__ inline float exp2_approximate(float x) {
#ifdef __CUDACC__
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(y) : "f"(x));
  return y;
#else
  return std::exp2(x);
#endif
}

// ---- Matrix units ----

struct Fragment4 {
  uint32_t x[4];
};
struct Fragment2 {
  uint32_t x[2];
};

#ifdef __CUDACC__

// Four 8x8 matrices of 16-bit elements; lane i gives the address of row i % 8 of matrix i / 8.
__device__ inline Fragment4 ldmatrix_x4(const void* row) {
  Fragment4 f;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(f.x[0]), "=r"(f.x[1]), "=r"(f.x[2]), "=r"(f.x[3])
               : "r"(uint32_t(__cvta_generic_to_shared(row)))
               : "memory");
  return f;
}
__device__ inline Fragment4 ldmatrix_x4_transposed(const void* row) {
  Fragment4 f;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(f.x[0]), "=r"(f.x[1]), "=r"(f.x[2]), "=r"(f.x[3])
               : "r"(uint32_t(__cvta_generic_to_shared(row)))
               : "memory");
  return f;
}

// d += a * b with a 16 x 16 (row major), b 16 x 8 (column major), d 16 x 8 in f32.
template <typename T>
__device__ inline void mma_m16n8k16(float (&d)[4], const Fragment4& a, const Fragment2& b) {
  if constexpr (std::is_same_v<T, __nv_bfloat16>) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%0,%1,%2,%3};\n"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a.x[0]), "r"(a.x[1]), "r"(a.x[2]), "r"(a.x[3]), "r"(b.x[0]), "r"(b.x[1]));
  } else {
    static_assert(std::is_same_v<T, __half>);
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};\n"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a.x[0]), "r"(a.x[1]), "r"(a.x[2]), "r"(a.x[3]), "r"(b.x[0]), "r"(b.x[1]));
  }
}

#else

Fragment4 ldmatrix_x4(const void* row, Where where = Where::current());
Fragment4 ldmatrix_x4_transposed(const void* row, Where where = Where::current());
template <typename T>
void mma_m16n8k16(float (&d)[4], const Fragment4& a, const Fragment2& b,
                  Where where = Where::current());

#endif

}  // namespace chorus::kernels::cuda::ptx
