#include "kernels/cpu/workers.h"

#include <cassert>
#include <chrono>
#include <utility>

namespace chorus::kernels {
namespace {

// Thrown through a job by a barrier after another worker failed.
struct OtherWorkerFailed {};

constexpr int kSpins = 2000;  // about 20 us on a core of 2024 (a pause takes some 10 ns)

// Returns when `value` is no longer `old`.
template <class T>
void wait_while(const std::atomic<T>& value, T old) {
  for (int i = 0; i < kSpins; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
    __builtin_ia32_pause();
  }
  value.wait(old, std::memory_order_acquire);
}

}  // namespace

Workers::Workers(int count) : count_(count) {
  assert(count >= 1);
  for (int worker = 1; worker < count; ++worker) {
    threads_.emplace_back([this, worker] { work(worker); });
  }
}

Workers::~Workers() {
  stopping_ = true;
  started_.fetch_add(1, std::memory_order_release);
  started_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void Workers::barrier() {
  const uint32_t phase = phase_.load(std::memory_order_acquire);
  if (failed_.load(std::memory_order_acquire)) throw OtherWorkerFailed();
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == count_) {
    // The last one: the others see both counters restarted once they see the new phase.
    arrived_.store(0, std::memory_order_relaxed);
    next_chunk_.store(0, std::memory_order_relaxed);
    phase_.store(phase + 1, std::memory_order_release);
    if (count_ > 1) phase_.notify_all();
  } else {
    wait_while(phase_, phase);
  }
  if (failed_.load(std::memory_order_acquire)) throw OtherWorkerFailed();
}

void Workers::run(const std::function<void(int)>& job) {
  if (failed_.load(std::memory_order_acquire)) std::rethrow_exception(error_);
  job_ = &job;
  next_chunk_.store(0, std::memory_order_relaxed);
  busy_.store(count_ - 1, std::memory_order_relaxed);
  started_.fetch_add(1, std::memory_order_release);
  if (count_ > 1) started_.notify_all();
  perform(0);
  for (int32_t busy = busy_.load(std::memory_order_acquire); busy != 0;
       busy = busy_.load(std::memory_order_acquire)) {
    wait_while(busy_, busy);
  }
  job_ = nullptr;
  if (failed_.load(std::memory_order_acquire)) std::rethrow_exception(error_);
}

void Workers::work(int worker) {
  for (uint32_t seen = 0;; ++seen) {
    wait_while(started_, seen);
    if (stopping_.load(std::memory_order_acquire)) return;
    perform(worker);
    if (busy_.fetch_sub(1, std::memory_order_acq_rel) == 1) busy_.notify_all();
  }
}

void Workers::perform(int worker) {
  // Not a catch that goes on: whatever a job throws on any thread leaves run() on the caller's.
  try {
    (*job_)(worker);
  } catch (const OtherWorkerFailed&) {
    return;
  } catch (...) {
    fail(std::current_exception());
  }
}

void Workers::fail(std::exception_ptr error) {
  {
    const std::lock_guard lock(error_mutex_);
    if (!error_) error_ = std::move(error);
  }
  failed_.store(true, std::memory_order_release);
  phase_.fetch_add(1, std::memory_order_acq_rel);  // those who wait at a barrier look at failed_
  phase_.notify_all();
}

}  // namespace chorus::kernels
