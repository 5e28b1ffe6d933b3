// Writes tiles of quantised weights from a slice of the source that was brought to the device.
#pragma once

#include "kernels/cuda/repack_plan.h"
#include "kernels/cuda/runtime.h"

namespace chorus::kernels::cuda {

// `staged`: the slice's runs, in device memory, aligned to 16 bytes. `weight`: the memory of the
// whole weight, which was zero; its planes get the slice's row tiles. Where the plan has a list of
// columns, it stands there already. Acts in the order of `stream`.
void repack(const PartPlan& plan, const RepackSlice& slice, const void* staged, void* weight,
            cudaStream_t stream);

}  // namespace chorus::kernels::cuda
