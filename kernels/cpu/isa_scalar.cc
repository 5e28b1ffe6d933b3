// The inner loops for any x86-64. This file is compiled with flags of its own: everything in it is
// in the anonymous namespace, and it includes no header with functions of external linkage.
#include <cstdint>

#include "kernels/cpu/cpu_kernels.h"

namespace chorus::kernels {
namespace {

#include "kernels/cpu/lanes_scalar.h"
// The loops need the lanes above.
#include "kernels/cpu/elementwise_body.h"
// attention_body.h uses elementwise_body.h's exponential().
#include "kernels/cpu/attention_body.h"
#include "kernels/cpu/dot_body.h"

}  // namespace

const CpuKernels kScalarKernels =
#include "kernels/cpu/table_body.h"
    ;

}  // namespace chorus::kernels
