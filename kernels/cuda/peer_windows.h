// A piece of each rank's device memory that all ranks of a group reach: the ground of kernels that
// exchange rows without NCCL.
#pragma once

#include <cuda_runtime_api.h>

#include <string>
#include <vector>

#include "kernels/collective.h"
#include "kernels/cuda/runtime.h"

namespace chorus::kernels::cuda {

class PeerWindows {
 public:
  // Made by all ranks together, each in a process of its own, on one host. Where they cannot reach
  // each other, why_not() says the same on every rank and all() is not to be used. Throws
  // DeviceError.
  PeerWindows(Collective& collective, int64_t bytes);
  ~PeerWindows();
  PeerWindows(const PeerWindows&) = delete;
  PeerWindows& operator=(const PeerWindows&) = delete;

  const std::string& why_not() const { return why_not_; }
  // Every rank's at the address that this device knows it by; filled with zeros at first.
  const std::vector<void*>& all() const { return all_; }

 private:
  void try_out(Collective& collective, int64_t bytes);

  int rank_;
  Memory own_;
  std::vector<void*> all_;
  std::string why_not_;
};

}  // namespace chorus::kernels::cuda
