// What the operations of the CPU backend share while they run: the table of inner loops, the
// workers, and scratch memory. Operations are plain functions (matmul.h, attention.h, rows.h); the
// class behind `Ops` (cpu_ops.cc) only records calls of them.
//
// Each operation is called by all workers together and meets nobody at its end: the caller puts a
// barrier between operations.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/collective.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/memory.h"
#include "kernels/cpu/workers.h"
#include "kernels/view.h"

namespace chorus::kernels {

// Memory that operations use one after the other. Grown while recording, never while running.
class Scratch {
 public:
  explicit Scratch(int workers) : own_(static_cast<size_t>(workers)) {}
  void want_shared(int64_t bytes) { grow(shared_, bytes); }
  void want_own(int64_t bytes) {
    for (Memory& memory : own_) grow(memory, bytes);
  }
  std::byte* shared() const { return shared_.data(); }
  std::byte* own(int worker) const { return own_[static_cast<size_t>(worker)].data(); }

 private:
  static void grow(Memory& memory, int64_t bytes) {
    if (memory.bytes() < bytes) memory = Memory(bytes);
  }
  Memory shared_;
  std::vector<Memory> own_;
};

struct Backend {
  const CpuKernels& kernels;
  Workers& workers;
  Scratch& scratch;
  Collective* collective = nullptr;  // null for a group of one
};

// Rows of `view` that hold something in this step.
inline int64_t live_rows(const View& view) {
  return view.live_rows == nullptr ? view.rows : std::min<int64_t>(*view.live_rows, view.rows);
}

template <class T>
T* row_of(const View& view, int64_t row) {
  return static_cast<T*>(view.data) + row * view.cols;
}

// Calls each(i) for every i in [0, count), in chunks of `chunk` taken by whichever worker is free.
template <class Each>
void share(Workers& workers, int64_t count, int64_t chunk, Each each) {
  for (int64_t i = workers.next_chunk() * chunk; i < count; i = workers.next_chunk() * chunk) {
    for (int64_t j = i; j < std::min(i + chunk, count); ++j) each(j);
  }
}

}  // namespace chorus::kernels
