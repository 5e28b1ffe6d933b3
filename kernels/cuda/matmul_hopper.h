// out = x W^T (+ bias, + gated activation) for many rows on sm_90a. Which shapes come here, and
// with which tile, is large_matmul.h's business.
#pragma once

#include "kernels/cuda/large_matmul.h"
#include "kernels/cuda/matmul.h"

namespace chorus::kernels::cuda {

// Whether the kernel takes these arguments on a device of compute capability 9.0: bf16 or f16
// weights, x of the weight's type, out of that type or f32; columns of x a multiple of 8, of out a
// multiple of 4.
bool matmul_hopper_takes(const MatmulArgs& args);
// A result's bits do not depend on plan.tile_columns, but on plan.splits. `partial`: f32 [splits,
// rows, columns] where there are several. At most args.limits.multiprocessors blocks are launched.
void matmul_hopper(const MatmulArgs& args, const HopperPlan& plan, float* partial,
                   cudaStream_t stream);

}  // namespace chorus::kernels::cuda
