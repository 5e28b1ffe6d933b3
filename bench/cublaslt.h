// NVIDIA's matmul library, where it is installed: the peer that matmul_hopper is measured against.
// Loaded when a GPU is used, so that one binary runs with it and without. Chorus itself does not
// use it: docs/performance.md has both kernels' speed.
#pragma once

#include <memory>
#include <string>

#include "kernels/cuda/matmul.h"

namespace chorus::kernels::cuda {

// What a matmul may use as scratch memory.
inline constexpr int64_t kCublasLtWorkspaceBytes = int64_t{32} << 20;

// Belongs to the device that is current when it is made, and to one thread.
class CublasLt {
 public:
  // Null, with the reason in `why_none`, where there is no usable library.
  static std::unique_ptr<CublasLt> load(std::string& why_none);
  virtual ~CublasLt() = default;

  virtual std::string description() const = 0;  // "cuBLASLt 13.0.2"
  // Queues out = x W^T (+ bias). False where the library has no kernel for these arguments; it has
  // none for gated ones, for a bias on 16-bit outputs, nor for matrices of odd alignment. An
  // algorithm is chosen when (rows, weight rows, cols, types) is first met and stays; it never
  // splits k. All rows that are launched for are written, not only the live ones. `workspace`:
  // kCublasLtWorkspaceBytes. May be captured in a graph.
  virtual bool matmul(const MatmulArgs& args, void* workspace, cudaStream_t stream) = 0;
};

}  // namespace chorus::kernels::cuda
