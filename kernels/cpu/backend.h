// What the operations of the CPU backend share while they run: the table of inner loops, the
// workers, and scratch memory. An operation is a function that gives the phases of work it consists
// of (matmul.h, attention.h, rows.h, sample.h); the class behind `Ops` (cpu_ops.cc) records them.
// Row counts are read when a phase opens, since they change from step to step.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/collective.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/memory.h"
#include "kernels/cpu/workers.h"
#include "kernels/rounding.h"
#include "kernels/view.h"
#include "kernels/weight.h"

namespace chorus::kernels {

// Memory that operations use one after the other. Grown while recording, never while running.
class Scratch {
 public:
  explicit Scratch(int workers)
      : own_(static_cast<size_t>(workers)), stamps_(static_cast<size_t>(workers)) {}
  void want_shared(int64_t bytes) { grow(shared_, bytes); }
  void want_own(int64_t bytes) {
    for (Memory& memory : own_) grow(memory, bytes);
  }
  // For an operation that hands something from phase to phase while matmul's pieces use the rest.
  void want_stage(int64_t bytes) { grow(stage_, bytes); }
  std::byte* shared() const { return shared_.data(); }
  std::byte* stage() const { return stage_.data(); }
  std::byte* own(int worker) const { return own_[static_cast<size_t>(worker)].data(); }
  // The phase that a worker's own memory was last filled in, to be kept by whoever reuses it.
  uint64_t& stamp(int worker) { return stamps_[static_cast<size_t>(worker)].phase; }

 private:
  static void grow(Memory& memory, int64_t bytes) {
    if (memory.bytes() < bytes) memory = Memory(bytes);
  }
  Memory shared_, stage_;
  struct alignas(64) Stamp {
    uint64_t phase = 0;
  };
  std::vector<Memory> own_;
  std::vector<Stamp> stamps_;
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

// `count` items of work in chunks of `size`.
struct Cut {
  int64_t count = 0;
  int64_t size = 1;
};

// A phase that calls run(items, worker) for every chunk. cut() gives the same for a whole phase.
template <class MakeCut, class Run>
Phase range_phase(MakeCut cut, Run run) {
  Phase phase;
  phase.chunks = [cut]() -> int64_t {
    const Cut now = cut();
    return ceil_div(now.count, now.size);
  };
  phase.run = [cut, run](int64_t chunk, int worker) {
    const Cut now = cut();
    const int64_t first = chunk * now.size;
    run(Range{first, std::min(first + now.size, now.count)}, worker);
  };
  return phase;
}

// The same item by item: each(i, worker).
template <class MakeCut, class Each>
Phase cut_phase(MakeCut cut, Each each) {
  return range_phase(cut, [each](const Range& items, int worker) {
    for (int64_t i = items.begin; i < items.end; ++i) each(i, worker);
  });
}

// A phase that every worker is part of, each with a place of its own: for what meets at barriers.
template <class Each>
Phase gang_phase(const Backend& backend, Each each) {
  Phase phase;
  phase.chunks = [count = backend.workers.count()]() -> int64_t { return count; };
  phase.run = [each](int64_t chunk, int) { each(static_cast<int>(chunk)); };
  return phase;
}

}  // namespace chorus::kernels
