// The asynchronous instructions of sm_90a behind named functions: transaction barriers (mbarrier),
// tensor copies (TMA) with 128-byte swizzle, and wgmma on bf16 and f16 (its long operand lists
// stand in wgmma.h). Emulated twins in kernels/emulate/hopper.cc.
#pragma once
#include <cuda.h>  // CUtensorMap; plain C, needs no GPU

#include "kernels/cuda/device.h"
#include "kernels/view.h"
#ifdef __CUDACC__
#include "kernels/cuda/wgmma.h"
#endif

namespace chorus::kernels::cuda::hopper {

// In shared memory. Completes a phase when `count` arrivals and all expected bytes have come in.
struct Barrier {
  uint64_t state;
};

// A row-major matrix of bf16 or f16 in device memory; `stride` elements from one row to the next,
// which is a multiple of 16 bytes, as the address is.
struct Matrix {
  const void* data = nullptr;
  DType type = DType::bf16;
  int64_t rows = 0, columns = 0, stride = 0;
};
// Cuts a matrix into boxes of `box_rows` x 64 columns; boxes over the edge read zeros. Takes the
// host about a microsecond.
CUtensorMap make_tensor_map(const Matrix& matrix, int box_rows);
inline CUtensorMap make_tensor_map(const __nv_bfloat16* matrix, int rows, int columns,
                                   int box_rows) {
  return make_tensor_map(Matrix{matrix, DType::bf16, rows, columns, columns}, box_rows);
}

// What a wgmma reads: rows of 64 bf16 (128 bytes), swizzled as TMA leaves them, 1024-byte aligned.
// Advance along k by adding 2 per 16 elements (addresses are in units of 16 bytes).
__device__ inline uint64_t matrix_descriptor(uint32_t shared_address) {
  const uint64_t eight_rows = 1024 >> 4;
  return uint64_t(1) << 62 | eight_rows << 32 | uint64_t(1) << 16 | (shared_address & 0x3ffff) >> 4;
}

#ifdef __CUDACC__

__device__ inline uint32_t shared_address(const void* pointer) {
  return uint32_t(__cvta_generic_to_shared(pointer));
}

__device__ inline void init(Barrier& barrier, int count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(&barrier)), "r"(count)
               : "memory");
}
__device__ inline void publish_inits() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
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
__device__ inline void wait(Barrier& barrier, int parity) {
  asm volatile(
      "{\n.reg .pred done;\nagain:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n@!done bra again;\n}\n" ::"r"(
          shared_address(&barrier)),
      "r"(parity)
      : "memory");
}
__device__ inline void load_box(void* shared, const CUtensorMap& map, int column, int row,
                                Barrier& barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, "
      "{%2, %3}], [%4];" ::"r"(shared_address(shared)),
      "l"(&map), "r"(column), "r"(row), "r"(shared_address(&barrier))
      : "memory");
}
// Brings a box into L2, for a load_box to come.
__device__ inline void prefetch_box(const CUtensorMap& map, int column, int row) {
  asm volatile("cp.async.bulk.prefetch.tensor.2d.L2.global.tile [%0, {%1, %2}];" ::"l"(&map),
               "r"(column), "r"(row)
               : "memory");
}
__device__ inline void prefetch_map(const CUtensorMap& map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}

// Moves registers between warpgroups: each thread of the calling one keeps `count` (a multiple of
// 8). Those who give must do so for those who take to go on.
template <int count>
__device__ inline void keep_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(count));
}
template <int count>
__device__ inline void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(count));
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

// d (64 x 64, spread over 128 threads) += a (64 x 16) * b (64 x 16)^T
__device__ inline void multiply_m64n64k16(float (&d)[32], uint64_t a, uint64_t b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
      "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}, %32, %33, 1, 1, 1, 0, 0;\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]),
        "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]),
        "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]),
        "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]),
        "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31])
      : "l"(a), "l"(b));
}

#else

using Where = emulate::Where;
uint32_t shared_address(const void* pointer);
void init(Barrier& barrier, int count);
inline void publish_inits() {}
void arrive(Barrier& barrier);
void arrive_expecting(Barrier& barrier, int bytes);
void wait(Barrier& barrier, int parity, Where where = Where::current());
void load_box(void* shared, const CUtensorMap& map, int column, int row, Barrier& barrier,
              Where where = Where::current());
inline void prefetch_box(const CUtensorMap&, int, int) {}
inline void prefetch_map(const CUtensorMap&) {}
template <int count>
void keep_registers() {}
template <int count>
void take_registers() {}
template <int count>
void settle(float (&)[count]) {}
inline void begin_multiply() {}
void multiply_emulated(float* d, int columns, DType type, uint64_t a, uint64_t b, bool add,
                       Where where);
// See wgmma.h.
template <typename T, int count>
void multiply(float (&d)[count], uint64_t a, uint64_t b, bool add, Where where = Where::current()) {
  const DType type = std::is_same_v<T, __half> ? DType::f16 : DType::bf16;
  multiply_emulated(d, count * 2, type, a, b, add, where);
}
void multiply_m64n64k16(float (&d)[32], uint64_t a, uint64_t b, Where where = Where::current());
void commit_multiply(Where where = Where::current());
void wait_multiplies(int groups_left, Where where);
template <int groups_left>
void wait_multiply(Where where = Where::current()) {
  wait_multiplies(groups_left, where);
}

#endif

}  // namespace chorus::kernels::cuda::hopper
