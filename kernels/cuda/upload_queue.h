// The small writes that prepare a step (token ids, spans, block tables, sampling parameters): they
// are gathered in pinned memory and sent as one copy, behind which one kernel puts every piece in
// its place. Alone, each would cost a copy's launch of some microseconds.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "kernels/cuda/runtime.h"

namespace chorus::kernels::cuda {

class UploadQueue {
 public:
  explicit UploadQueue(cudaStream_t stream);

  // Queues a copy of from[0, bytes) to `to` in device memory; `from` may change afterwards. Pieces
  // take effect in order at flush().
  void add(void* to, const void* from, int64_t bytes);
  void flush();

 private:
  struct Piece {
    void* to = nullptr;
    int64_t from = 0;  // in the arena
    int64_t bytes = 0;
  };
  struct Arena {
    HostMemory host;
    Memory device;
    Event sent;  // the copy out of `host` is done
    bool used = false;
  };
  bool overlaps(const void* to, int64_t bytes) const;

  cudaStream_t stream_;
  std::array<Arena, 3> arenas_;  // steps in flight
  size_t current_ = 0;
  int64_t filled_ = 0;
  std::vector<Piece> pieces_;
};

}  // namespace chorus::kernels::cuda
