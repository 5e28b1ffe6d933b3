#include "kernels/reference/team.h"

#include <cassert>
#include <stdexcept>
#include <utility>

namespace chorus::kernels::reference {
namespace {

struct OtherWorkerFailed : std::runtime_error {
  OtherWorkerFailed() : std::runtime_error("another worker of this step failed") {}
};

}  // namespace

Team::Team(int count) : count_(count) {
  assert(count >= 1);
  for (int worker = 1; worker < count; ++worker) {
    threads_.emplace_back([this, worker] { serve(worker); });
  }
}

Team::~Team() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void Team::barrier() {
  if (count_ == 1) return;
  std::unique_lock lock(mutex_);
  const uint64_t mine = barriers_;
  if (++arrived_ == count_) {
    arrived_ = 0;
    ++barriers_;
    changed_.notify_all();
    return;
  }
  changed_.wait(lock, [&] { return barriers_ != mine || error_ != nullptr; });
  if (barriers_ == mine) throw OtherWorkerFailed();
}

void Team::run(const std::function<void(int)>& job) {
  {
    const std::lock_guard lock(mutex_);
    job_ = &job;
    ++jobs_;
    busy_ = count_ - 1;
    arrived_ = 0;
    error_ = nullptr;
  }
  changed_.notify_all();
  perform(0);
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return busy_ == 0; });
  if (error_ != nullptr) std::rethrow_exception(std::exchange(error_, nullptr));
}

// The exception is not swallowed: run() throws it.
void Team::perform(int worker) {
  try {
    (*job_)(worker);
  } catch (...) {
    const std::lock_guard lock(mutex_);
    if (error_ == nullptr) error_ = std::current_exception();
    changed_.notify_all();
  }
}

void Team::serve(int worker) {
  uint64_t done = 0;
  while (true) {
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return jobs_ != done || stopping_; });
      if (stopping_) return;
      done = jobs_;
    }
    perform(worker);
    const std::lock_guard lock(mutex_);
    if (--busy_ == 0) changed_.notify_all();
  }
}

}  // namespace chorus::kernels::reference
