// The inner loops for AVX-512 with VNNI. This file is compiled with flags of its own: everything in
// it is in the anonymous namespace, and it includes no header with functions of external linkage.
#include <immintrin.h>
#include <cstdint>

#include "kernels/cpu/cpu_kernels.h"

// g++ 12 takes the deliberately undefined operands inside its own intrinsics for mistakes.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

namespace chorus::kernels {
namespace {

#include "kernels/cpu/lanes_avx512.h"
// The loops need the lanes above.
#include "kernels/cpu/elementwise_body.h"
// attention_body.h uses elementwise_body.h's exponential().
#include "kernels/cpu/attention_body.h"
#include "kernels/cpu/dot_body.h"

}  // namespace

const CpuKernels kAvx512Kernels =
#include "kernels/cpu/table_body.h"
    ;

}  // namespace chorus::kernels
