// What a group of ranks does together, as seen by a backend on host memory. The implementation
// stands in shard/comm (shared memory between processes, or nothing for a group of one); the
// backend calls it from its queue, at the same place on every rank.
#pragma once

#include <cstddef>
#include <cstdint>

namespace chorus::kernels {

// Thread rules: the `workers` threads of one backend call each function together, every one with
// its own `worker` index; Workers::barrier is the backend's barrier over those threads. When
// another rank is gone these calls do not return (shard/comm ends the process).
class Collective {
 public:
  virtual ~Collective() = default;
  virtual int rank() const = 0;
  virtual int ranks() const = 0;

  // A barrier over the workers of this rank, passed in so that the collective can share them.
  class Workers {
   public:
    virtual ~Workers() = default;
    virtual int count() const = 0;
    virtual void barrier() = 0;
  };

  // data[i] = sum over ranks 0, 1, ... in that order of their data[i]: the same bits everywhere.
  virtual void all_reduce(float* data, int64_t count, int worker, Workers& workers) = 0;

  // out[r * bytes ...] = rank r's `in`, for every r; `bytes` is the same on all ranks.
  virtual void all_gather(std::byte* out, const std::byte* in, int64_t bytes, int worker,
                          Workers& workers) = 0;
};

// Of a thread that calls alone.
class OneWorker final : public Collective::Workers {
 public:
  int count() const override { return 1; }
  void barrier() override {}
};

}  // namespace chorus::kernels
