// Several ranks on GPUs: what the CUDA backend needs beyond CudaOptions::collective.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "kernels/ops.h"

namespace chorus::kernels {

// A device that waits for a rank which never comes does so for ever, and silently. A thread of the
// backend looks after it (kernels/cuda/device_group.cu says how).
struct RanksWatch {
  std::function<bool()> is_lost;  // has the group been aborted? any thread
  // Called on that thread when the group is lost, a collective failed, or a step or the start does
  // not end. Must not return.
  std::function<void(const std::string& why)> on_lost;
  // Called on rank 0 when the group starts, where a faster way is not open to it: worth a line in
  // the log.
  std::function<void(const std::string& what)> on_fallback;
};

// Can ranks on several devices work together? `why_not` says what is missing.
bool cuda_ranks_can_meet(std::string& why_not);
// make_cuda_ops for a rank of several. Throws std::runtime_error naming what is missing.
std::unique_ptr<Ops> make_cuda_ops(const CudaOptions& options, const RanksWatch& watch);

}  // namespace chorus::kernels
