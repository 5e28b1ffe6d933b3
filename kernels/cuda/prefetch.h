// Memory that a kernel's additional blocks bring into L2 while its others work: the weights of the
// product behind it, which would otherwise only begin to come when that starts. At batch 1 the
// kernels between two products leave memory idle for a seventh of the time (H200).
#pragma once

#include <cstdint>

#include "kernels/rounding.h"

namespace chorus::kernels::cuda {

struct Prefetch {
  const void* data = nullptr;
  int64_t bytes = 0;
  static constexpr int64_t kBytesPerBlock = 1 << 20;
  // How many blocks it takes, behind those that the kernel has itself.
  unsigned blocks() const { return static_cast<unsigned>(ceil_div(bytes, kBytesPerBlock)); }
};

}  // namespace chorus::kernels::cuda
