// The threads of one CPU backend. The calling thread is worker 0; the others sleep between runs.
//
// A run is a list of phases, each cut into chunks. Workers take chunks from one shared ticket, and
// whoever finishes a phase's last chunk opens the next phase. So nobody ever waits for a worker,
// only for a chunk that somebody holds: a worker that the system has put aside (another program
// took its core), or that has not woken up yet, is simply not there, and the others do its share.
// Who finds no chunk spins for some microseconds, then sleeps, so that its core is free for the
// one who holds the last chunk.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "kernels/collective.h"

namespace chorus::kernels {

struct Phase {
  std::function<int64_t()> chunks;  // asked once, when the phase opens; 0: it is skipped
  std::function<void(int64_t chunk, int worker)> run;
};
using Phases = std::vector<Phase>;

class Workers final : public Collective::Workers {
 public:
  explicit Workers(int count);
  ~Workers() override;
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  int count() const override { return count_; }

  // Within a phase of count() chunks that all call it: every worker then holds one of them.
  void barrier() override;

  // Within a chunk: a number that no other phase of any run has.
  uint64_t phase_number() const { return ticket_.load(std::memory_order_relaxed) >> kChunkBits; }

  // Runs the phases in order; from one thread only. An exception in a chunk ends the run and is
  // thrown from here, when no worker is in a chunk any more, and from every later run: what the
  // phases worked on is not to be relied on.
  void run(const Phases& phases);

 private:
  // The ticket: the phase's number above, below it kNoChunk + chunks not yet taken. Taking
  // subtracts one; workers who find none take the lower part below kNoChunk, a few times each.
  static constexpr int kChunkBits = 24;
  static constexpr uint64_t kNoChunk = 1 << 16;

  // One cache line each, so that nobody's flag disturbs another's.
  struct alignas(64) Busy {
    std::atomic<bool> value = false;
  };

  void work(int worker);
  bool run_chunk(int worker);
  void open_next();
  void publish(int64_t chunks);
  void announce(uint32_t number);
  void fail(std::exception_ptr error);

  const int count_;
  std::atomic<bool> stopping_ = false, failed_ = false;
  std::atomic<uint32_t> finished_ = 0;  // what opened_ becomes when the run is over
  std::mutex error_mutex_;
  std::exception_ptr error_;
  std::vector<Busy> busy_;

  // Written by whoever opens a phase, read by holders of one of its chunks.
  const Phases* phases_ = nullptr;
  size_t phase_idx_ = 0;
  int64_t chunks_ = 0;

  // Each on a cache line of its own: all are written by one worker while others read.
  alignas(64) std::atomic<uint64_t> ticket_ = kNoChunk;
  alignas(64) std::atomic<int64_t> done_ = 0;       // chunks of the phase
  alignas(64) std::atomic<uint32_t> opened_ = 0;    // the ticket's phase number, to sleep on
  alignas(64) std::atomic<int32_t> arrived_ = 0;    // at the barrier
  alignas(64) std::atomic<uint32_t> barriers_ = 0;  // passed
  std::vector<std::thread> threads_;
};

}  // namespace chorus::kernels
