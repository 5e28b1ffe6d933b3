// The asynchronous instructions of sm_90a behind named functions: transaction barriers (mbarrier),
// tensor copies (TMA) with 128-byte swizzle and wgmma. Emulated twins in kernels/emulate/hopper.cc.
//
// A box is `box_rows` rows of 64 16-bit elements (128 bytes each) in shared memory, 1024-byte
// aligned, its 16-byte pieces swizzled by TMA so that wgmma reads them without conflicts.
#pragma once
#include <cuda.h>  // CUtensorMap; plain C, needs no GPU

#include "kernels/cuda/device.h"
#include "kernels/cuda/ptx.h"
#include "kernels/cuda/wgmma.h"

namespace chorus::kernels::cuda::hopper {

// In shared memory. Completes a phase when `count` arrivals and all expected bytes have come in.
struct Barrier {
  uint64_t state;
};

// A row-major matrix of 16-bit elements cut into boxes of `box_rows` (at most 256) x 64 columns;
// boxes over the edge read zeros.
enum class Element : uint8_t { bf16, f16 };
struct Matrix {
  const void* data = nullptr;  // aligned to 16 bytes
  Element element = Element::bf16;
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t stride = 0;  // elements from row to row: a multiple of 8
};
CUtensorMap make_tensor_map(const Matrix& matrix, int box_rows);

// What multiply() reads: a box whose columns are k (a: 64 rows of the result, b: n columns of it).
// 16 further along k is + 2 (addresses are in units of 16 bytes), 64 rows further + 8192 / 16.
__device__ inline uint64_t matrix_descriptor(uint32_t shared_address) {
  const uint64_t eight_rows = 1024 >> 4;
  return uint64_t(1) << 62 | eight_rows << 32 | uint64_t(1) << 16 | (shared_address & 0x3ffff) >> 4;
}
// For transposed_b: boxes whose rows are k and whose columns are 64 of the n, side by side every
// `box_bytes`. 16 further along k is + 2048 / 16.
__device__ inline uint64_t transposed_descriptor(uint32_t shared_address, uint32_t box_bytes) {
  const uint64_t eight_rows = 1024 >> 4;
  return uint64_t(1) << 62 | eight_rows << 32 | uint64_t(box_bytes >> 4) << 16 |
         (shared_address & 0x3ffff) >> 4;
}

// multiply<T, n, transposed_b>(d, a, b, accumulate) of wgmma.h, by the 128 threads of a warpgroup:
// d (64 x n in f32) += a (64 x 16) * b (n x 16)^T, or = where not `accumulate`; T is __nv_bfloat16
// or __half; n is 64, 128, 192 or 256. Thread t holds in d[4j + 2h + i] row 16 * (t / 32) + t % 32
// / 4 + 8h, column 8j + 2 * (t % 4) + i. `a` is a descriptor, or (not at n = 192) a ptx::Fragment4
// that each warp holds of its 16 rows as mma_m16n8k16 does. Runs on until wait_multiply: d, and a
// in registers, may not be touched before. begin_multiply() first, when registers were written
// since the last wait.

#ifdef __CUDACC__

__device__ inline uint32_t shared_address(const void* pointer) {
  return uint32_t(__cvta_generic_to_shared(pointer));
}

__device__ inline void init(Barrier& barrier, int count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(&barrier)), "r"(count)
               : "memory");
}
// Barriers set up by this thread may be used by tensor copies; __syncthreads for other threads.
__device__ inline void publish_inits() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
// What this thread wrote to shared memory may be read by wgmma: each writer calls it before the
// barrier that the reader waits at.
__device__ inline void publish_writes() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
__device__ inline void arrive(Barrier& barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(&barrier))
               : "memory");
}
__device__ inline void arrive_expecting(Barrier& barrier, int bytes) {
  asm volatile(
      "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(&barrier)),
      "r"(bytes)
      : "memory");
}
// Waits until the phase of this parity is complete: 0 for the first, 1 for the second, 0 ...
__device__ inline void wait(Barrier& barrier, int parity) {
  asm volatile(
      "{\n.reg .pred done;\nagain_%=:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n@!done bra again_%=;\n}\n" ::"r"(
          shared_address(&barrier)),
      "r"(parity)
      : "memory");
}
// By one thread: brings a box in; `barrier` counts its bytes.
__device__ inline void load_box(void* shared, const CUtensorMap& map, int column, int row,
                                Barrier& barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, "
      "{%2, %3}], [%4];" ::"r"(shared_address(shared)),
      "l"(&map), "r"(column), "r"(row), "r"(shared_address(&barrier))
      : "memory");
}
// Brings the map where load_box finds it.
__device__ inline void prefetch_map(const CUtensorMap& map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}

// By all threads of a warpgroup: fewer registers for this one, more for those that multiply.
template <int registers>
__device__ inline void shrink_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(registers));
}
template <int registers>
__device__ inline void grow_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(registers));
}

// Between the compiler's own accesses to sums and the multiplications that work on them unseen:
// call it before begin_multiply and after wait_multiply.
template <int count>
__device__ inline void settle(float (&d)[count]) {
#pragma unroll
  for (int i = 0; i < count; ++i) asm volatile("" : "+f"(d[i])::"memory");
}
__device__ inline void begin_multiply() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ inline void commit_multiply() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int groups_left>
__device__ inline void wait_multiply() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(groups_left) : "memory");
}

#else

using Where = emulate::Where;
uint32_t shared_address(const void* pointer);
void init(Barrier& barrier, int count);
inline void publish_inits() {}
inline void publish_writes() {}
void arrive(Barrier& barrier);
void arrive_expecting(Barrier& barrier, int bytes);
void wait(Barrier& barrier, int parity, Where where = Where::current());
void load_box(void* shared, const CUtensorMap& map, int column, int row, Barrier& barrier,
              Where where = Where::current());
inline void prefetch_map(const CUtensorMap&) {}
template <int registers>
void shrink_registers() {
  static_assert(registers % 8 == 0 && registers >= 24 && registers <= 256);
}
template <int registers>
void grow_registers() {
  static_assert(registers % 8 == 0 && registers >= 24 && registers <= 256);
}
template <int count>
void settle(float (&)[count]) {}
inline void begin_multiply() {}
void commit_multiply(Where where = Where::current());
void wait_multiplies(int groups_left, Where where);
template <int groups_left>
void wait_multiply(Where where = Where::current()) {
  wait_multiplies(groups_left, where);
}

#endif

}  // namespace chorus::kernels::cuda::hopper
