// The threads of one CPU backend. The calling thread is worker 0; the others sleep between jobs.
//
// A job runs on every worker at once. Inside it, work is taken in chunks from a shared counter
// (next_chunk), never cut beforehand: on a machine where another program takes part of a core, the
// worker on the free core does most of it. Waiters spin for some microseconds, then sleep, so that
// the core of a waiting worker goes to the one that is waited for.
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

class Workers final : public Collective::Workers {
 public:
  explicit Workers(int count);
  ~Workers() override;
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  int count() const override { return count_; }

  // Within a job, called by every worker: returns when all have called. Restarts next_chunk.
  void barrier() override;

  // Within a job: the next number from 0 on that no worker has taken since the last barrier.
  int64_t next_chunk() { return next_chunk_.fetch_add(1, std::memory_order_relaxed); }

  // Runs job(worker) on every worker and returns when all are done; from one thread only. An
  // exception in one worker ends the job on all (at their next barrier) and is thrown from here,
  // and from every later call: the workers' state is not to be relied on any more.
  void run(const std::function<void(int worker)>& job);

 private:
  void work(int worker);
  void perform(int worker);
  void fail(std::exception_ptr error);

  const int count_;
  const std::function<void(int)>* job_ = nullptr;
  std::atomic<bool> stopping_ = false;
  std::atomic<bool> failed_ = false;
  std::mutex error_mutex_;
  std::exception_ptr error_;

  // Each on a cache line of its own: all are written by one worker while others read.
  alignas(64) std::atomic<uint32_t> started_ = 0;  // number of the job
  alignas(64) std::atomic<int32_t> arrived_ = 0;
  alignas(64) std::atomic<uint32_t> phase_ = 0;  // number of the barrier
  alignas(64) std::atomic<int32_t> busy_ = 0;    // workers other than 0 still in the job
  alignas(64) std::atomic<int64_t> next_chunk_ = 0;
  std::vector<std::thread> threads_;
};

}  // namespace chorus::kernels
