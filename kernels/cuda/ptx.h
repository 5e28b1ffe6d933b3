// Named functions for the PTX the kernels need. Under nvcc each is one instruction; the emulated
// twins (ptx_emulate.cc) follow the register layouts of the PTX manual, "Matrix fragments".
#pragma once
#include "kernels/cuda/device.h"

namespace chorus::kernels::cuda::ptx {

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

// Programmatic dependent launch: the predecessor's writes are visible after the wait.
__device__ inline void wait_for_predecessor() {
#if defined(__CUDACC__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;\n" ::: "memory");
#endif
}
__device__ inline void let_successor_start() {
#if defined(__CUDACC__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;\n" ::: "memory");
#endif
}

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

// The same with k = 32 and one-byte elements: signed integers, or e4m3 (sm_89 and later).
__device__ inline void mma_m16n8k32_s8(int (&d)[4], const Fragment4& a, const Fragment2& b) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};\n"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a.x[0]), "r"(a.x[1]), "r"(a.x[2]), "r"(a.x[3]), "r"(b.x[0]), "r"(b.x[1]));
}
__device__ inline void mma_m16n8k32_e4m3(float (&d)[4], const Fragment4& a, const Fragment2& b) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a.x[0]), "r"(a.x[1]), "r"(a.x[2]), "r"(a.x[3]), "r"(b.x[0]), "r"(b.x[1]));
}

#else

using Where = emulate::Where;
Fragment4 ldmatrix_x4(const void* row, Where where = Where::current());
Fragment4 ldmatrix_x4_transposed(const void* row, Where where = Where::current());
template <typename T>
void mma_m16n8k16(float (&d)[4], const Fragment4& a, const Fragment2& b,
                  Where where = Where::current());
void mma_m16n8k32_s8(int (&d)[4], const Fragment4& a, const Fragment2& b,
                     Where where = Where::current());
void mma_m16n8k32_e4m3(float (&d)[4], const Fragment4& a, const Fragment2& b,
                       Where where = Where::current());

#endif

}  // namespace chorus::kernels::cuda::ptx
