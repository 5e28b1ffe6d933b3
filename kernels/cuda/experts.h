// Mixtures of experts: the choice of a token's experts, and their feed-forward layers. Contracts in
// kernels/ops.h.
#pragma once

#include <cuda_runtime_api.h>

#include <vector>

#include "kernels/cuda/plan.h"
#include "kernels/ops.h"

namespace chorus::kernels::cuda {

inline constexpr int64_t kExpertsMax = 512;

// The logits' rows are what is launched for. Throws std::invalid_argument above kExpertsMax.
void route_experts(const RouteArgs& args, cudaStream_t stream);

// Where the experts' weights stand: all of gate_up, then all of down. The kernels read a copy of it
// in device memory. Throws std::invalid_argument for weights that they do not take.
std::vector<const void*> expert_pointers(const ExpertsArgs& args);
// Memory for the experts of at most args.x.rows rows; all layers of a step may share it.
int64_t experts_workspace_bytes(const ExpertsArgs& args);
// For the first `rows` of args.x. A row has the same bits for any number of rows.
void experts(const ExpertsArgs& args, int64_t rows, const DeviceLimits& limits,
             const void* const* pointers, void* workspace, cudaStream_t stream);

}  // namespace chorus::kernels::cuda
