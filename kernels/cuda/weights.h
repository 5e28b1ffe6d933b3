// Brings weights to the device: reads the source's rows (threads, conversion), through pinned
// buffers that the copy engine empties while the next ones are filled.
#pragma once

#include <array>
#include <map>
#include <tuple>
#include <vector>

#include "kernels/cuda/device_weight.h"
#include "kernels/cuda/runtime.h"
#include "kernels/view.h"

namespace chorus::kernels::cuda {

class WeightLoader {
 public:
  // Plain weights become `operand` (f32, f16 or bf16).
  WeightLoader(DType operand, cudaStream_t stream);
  ~WeightLoader();

  Weight matrix(const std::vector<WeightPart>& parts);
  // Keeps the bits of quantised parts where repack.h has a coding for each; else as matrix().
  Weight product_matrix(const std::vector<WeightPart>& parts);
  Weight vector(const VectorDescription& description);
  // Ends the copies under way and frees the pinned buffers until the next call.
  void finish();

 private:
  struct Buffer {
    HostMemory host;
    Event sent;
    bool used = false;
  };
  // A pinned buffer whose last copy is done.
  Buffer& next_buffer();

  DType operand_;
  cudaStream_t stream_;
  std::array<Buffer, 2> buffers_;
  size_t current_ = 0;
  std::vector<Memory> memory_;
  // The same source is held once: a tied embedding is the output's weight as well.
  std::map<std::tuple<const std::byte*, int64_t, int64_t, int64_t>,
           std::weak_ptr<const PackedWeight>>
      known_;
};

}  // namespace chorus::kernels::cuda
