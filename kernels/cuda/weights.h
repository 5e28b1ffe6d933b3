// Brings weights to the device: reads the source's rows (threads, conversion), through two pinned
// buffers, one of which the copy engine empties while the other is filled. Quantised weights come
// as they lie in the source; a kernel puts their codes and scales where products want them, out of
// a buffer on the device that is no larger than a pinned one. Beside the weights, and until
// finish(), a loader takes at most twice `buffer_bytes` of the host's memory and once as much of
// the device's.
#pragma once

#include <array>
#include <map>
#include <tuple>
#include <vector>

#include "kernels/cuda/device_weight.h"
#include "kernels/cuda/repack_plan.h"
#include "kernels/cuda/runtime.h"
#include "kernels/view.h"

namespace chorus::kernels::cuda {

class WeightLoader {
 public:
  static constexpr int64_t kBufferBytes = 64 << 20;
  // Plain weights become `operand` (f32, f16 or bf16). A buffer must hold a row, and 16 rows (or
  // the heads that they stand in) of a quantised weight.
  WeightLoader(DType operand, cudaStream_t stream, int64_t buffer_bytes = kBufferBytes);
  ~WeightLoader();

  Weight matrix(const std::vector<WeightPart>& parts);
  // Keeps the bits of quantised parts where repack_plan.h has a coding for each; else as matrix().
  Weight product_matrix(const std::vector<WeightPart>& parts);
  Weight vector(const VectorDescription& description);
  // Ends the copies under way and frees the buffers until the next call.
  void finish();

 private:
  struct Buffer {
    HostMemory host;
    Event sent;
    bool used = false;
  };
  // A pinned buffer whose last copy is done.
  Buffer& next_buffer();
  // Sends `bytes` of a buffer that next_buffer() gave.
  void send(Buffer& buffer, void* to, int64_t bytes);
  void send_part(const PartPlan& plan, void* weight);

  DType operand_;
  cudaStream_t stream_;
  int64_t buffer_bytes_;
  std::array<Buffer, 2> buffers_;
  size_t current_ = 0;
  Memory staged_;  // as large as the largest slice so far
  int64_t staged_bytes_ = 0;
  std::vector<Memory> memory_;
  // The same source is held once: a tied embedding is the output's weight as well.
  std::map<std::tuple<const std::byte*, int64_t, int64_t, int64_t>,
           std::weak_ptr<const PackedWeight>>
      known_;
};

}  // namespace chorus::kernels::cuda
