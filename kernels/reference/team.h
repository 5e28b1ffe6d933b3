// The threads of the reference backend. The calling thread is worker 0; all meet at barriers made
// of a mutex and a condition variable: slow beside the CPU backend's, and plain to see through.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "kernels/collective.h"
#include "kernels/weight.h"

namespace chorus::kernels::reference {

class Team final : public Collective::Workers {
 public:
  explicit Team(int count);
  ~Team() override;
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  int count() const override { return count_; }
  // Within a job. Throws where another worker has thrown, so that nobody waits for it.
  void barrier() override;

  // Runs job(worker) on every worker; returns when all are done. The first exception of a worker
  // is thrown from here.
  void run(const std::function<void(int worker)>& job);

 private:
  void serve(int worker);
  void perform(int worker);

  const int count_;
  std::mutex mutex_;
  std::condition_variable changed_;
  const std::function<void(int)>* job_ = nullptr;
  uint64_t jobs_ = 0;
  uint64_t barriers_ = 0;
  int arrived_ = 0;
  int busy_ = 0;  // workers other than 0 that are still in the job
  bool stopping_ = false;
  std::exception_ptr error_;
  std::vector<std::thread> threads_;
};

// The part of [0, count) that worker `worker` of `workers` takes.
constexpr Range share(int64_t count, int worker, int workers) {
  return {count * worker / workers, count * (worker + 1) / workers};
}

}  // namespace chorus::kernels::reference
