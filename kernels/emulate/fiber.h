// Flows of control with stacks of their own, one OS thread running them all: a CUDA thread is one.
// Knows how to tell AddressSanitizer and ThreadSanitizer about each switch; nothing about CUDA.
#pragma once

#include <cstddef>

namespace chorus::emulate {

struct Fiber {
  void* stack_pointer = nullptr;  // while it does not run
  const char* stack = nullptr;
  size_t stack_bytes = 0;
  void* fake_stack = nullptr;  // ASan's
  void* tsan = nullptr;        // TSan's
};

// Makes `fiber` run `main` from the next switch to it on. A fiber that was started before keeps its
// stack. TSan takes it for a thread of its own, which knows nothing yet of the running one's
// doings.
void start(Fiber& fiber, void (*main)());
// `main` begins with this.
void entered(Fiber& fiber, Fiber& scheduler);
// Makes `fiber` stand for the calling OS thread.
void adopt_thread(Fiber& fiber);
// Continues `to`, leaving `from`, for ever where `last`.
void switch_fiber(Fiber& from, Fiber& to, bool last);
// After its last switch. The stack stays for the next start(); under TSan, for that of another
// fiber, after recycle().
void retire(Fiber& fiber);
void free_stack(Fiber& fiber);
// TSan's threads are dear to make. Those retired may stand for others from now on: call it when
// whoever starts fibers next knows of all that they did.
void recycle();
// Ends them. Before a fork(): ThreadSanitizer watches the child of a process of one thread only.
void forget_recycled();

// While one lives, TSan ignores the calling thread's accesses: allocation and memcpy are
// intercepted even in uninstrumented code, and the scheduler's own memory is not the kernel's
// business.
struct Machinery {
#ifdef EMULATE_TSAN
  Machinery();
  ~Machinery();
#else
  Machinery() {}
  ~Machinery() {}
#endif
};

}  // namespace chorus::emulate
