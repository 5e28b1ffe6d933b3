#include "kernels/cpu/workers.h"

#include <cassert>
#include <utility>

namespace chorus::kernels {
namespace {

// Thrown through a chunk by a barrier after another worker failed.
struct OtherWorkerFailed {};

constexpr int kSpins = 1000;  // some 15 us on a core of 2024

// Returns when `value` is no longer `old`.
void wait_while(const std::atomic<uint32_t>& value, uint32_t old) {
  for (int i = 0; i < kSpins; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
    __builtin_ia32_pause();
  }
  value.wait(old, std::memory_order_acquire);
}

}  // namespace

Workers::Workers(int count) : count_(count), busy_(static_cast<size_t>(count)) {
  assert(count >= 1);
  for (int worker = 1; worker < count; ++worker) {
    threads_.emplace_back([this, worker] { work(worker); });
  }
}

Workers::~Workers() {
  stopping_ = true;
  publish(0);
  for (std::thread& thread : threads_) thread.join();
}

void Workers::run(const Phases& phases) {
  if (!failed_.load(std::memory_order_acquire)) {
    phases_ = &phases;
    phase_idx_ = 0;
    open_next();
    work(0);
  }
  if (!failed_.load(std::memory_order_acquire)) return;
  for (const Busy& busy : busy_) {
    while (busy.value.load(std::memory_order_acquire)) std::this_thread::yield();
  }
  const std::lock_guard lock(error_mutex_);
  std::rethrow_exception(error_);
}

void Workers::work(int worker) {
  for (;;) {
    const uint32_t seen = opened_.load(std::memory_order_acquire);
    while (run_chunk(worker)) {
    }
    if (worker == 0 && seen == finished_.load(std::memory_order_relaxed)) return;
    if (stopping_.load(std::memory_order_acquire)) return;
    wait_while(opened_, seen);
  }
}

// Takes a chunk and runs it; false where none is left.
bool Workers::run_chunk(int worker) {
  std::atomic<bool>& busy = busy_[static_cast<size_t>(worker)].value;
  // Ordered before the ticket by its read-modify-write: after a failure, run() sees the flag of
  // everyone who still got a chunk.
  busy.store(true, std::memory_order_relaxed);
  const uint64_t ticket = ticket_.fetch_sub(1, std::memory_order_seq_cst);
  const uint64_t rest = ticket & ((uint64_t{1} << kChunkBits) - 1);
  if (rest <= kNoChunk) {
    busy.store(false, std::memory_order_release);
    return false;
  }
  // Not a catch that goes on: whatever a chunk throws on any thread leaves run() on the caller's.
  try {
    const int64_t chunks = chunks_;
    (*phases_)[phase_idx_].run(chunks - static_cast<int64_t>(rest - kNoChunk), worker);
    if (done_.fetch_add(1, std::memory_order_acq_rel) + 1 == chunks) {
      ++phase_idx_;
      open_next();
    }
  } catch (const OtherWorkerFailed&) {
    assert(failed_);
  } catch (...) {
    fail(std::current_exception());
  }
  busy.store(false, std::memory_order_release);
  return true;
}

// Opens the phase at phase_idx_, or the first after it that has chunks.
void Workers::open_next() {
  int64_t chunks = 0;
  for (; phase_idx_ < phases_->size(); ++phase_idx_) {
    chunks = (*phases_)[phase_idx_].chunks();
    if (chunks > 0) break;
  }
  publish(chunks);
}

// Announcing comes last: once worker 0 has seen that a run is over, it may begin another.
void Workers::publish(int64_t chunks) {
  assert(chunks < (int64_t{1} << kChunkBits) - static_cast<int64_t>(kNoChunk));
  chunks_ = chunks;
  done_.store(0, std::memory_order_relaxed);
  const uint64_t number = (ticket_.load(std::memory_order_relaxed) >> kChunkBits) + 1;
  if (chunks == 0) finished_.store(static_cast<uint32_t>(number), std::memory_order_relaxed);
  ticket_.store(number << kChunkBits | (kNoChunk + static_cast<uint64_t>(chunks)),
                std::memory_order_seq_cst);
  announce(static_cast<uint32_t>(number));
}

// Never backwards: the others may have gone through the phase, and opened later ones, before the
// one who opened it gets here.
void Workers::announce(uint32_t number) {
  uint32_t known = opened_.load(std::memory_order_relaxed);
  while (static_cast<int32_t>(number - known) > 0) {
    if (opened_.compare_exchange_weak(known, number, std::memory_order_acq_rel)) break;
  }
  if (count_ > 1) opened_.notify_all();
}

void Workers::fail(std::exception_ptr error) {
  const std::lock_guard lock(error_mutex_);
  if (error_) return;
  error_ = std::move(error);
  failed_.store(true, std::memory_order_release);
  // No more chunks; the failed one never counts as done, so nobody opens a phase after this.
  const uint64_t number = (ticket_.load(std::memory_order_relaxed) >> kChunkBits) + 1;
  ticket_.exchange(number << kChunkBits | kNoChunk, std::memory_order_seq_cst);
  finished_.store(static_cast<uint32_t>(number), std::memory_order_relaxed);
  announce(static_cast<uint32_t>(number));
  barriers_.fetch_add(1, std::memory_order_acq_rel);
  barriers_.notify_all();
}

void Workers::barrier() {
  const uint32_t passed = barriers_.load(std::memory_order_acquire);
  if (failed_.load(std::memory_order_acquire)) throw OtherWorkerFailed();
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == count_) {
    arrived_.store(0, std::memory_order_relaxed);
    barriers_.store(passed + 1, std::memory_order_release);
    if (count_ > 1) barriers_.notify_all();
  } else {
    wait_while(barriers_, passed);
  }
  if (failed_.load(std::memory_order_acquire)) throw OtherWorkerFailed();
}

}  // namespace chorus::kernels
