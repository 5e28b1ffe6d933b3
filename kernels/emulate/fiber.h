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

// Makes `fiber` run `main` from the next switch to it on. TSan takes it for a thread of its own,
// which knows nothing yet of the running one's doings. A fiber that was started before keeps its
// stack, and for TSan is still the thread that it was.
void start(Fiber& fiber, void (*main)());
// `main` begins with this.
void entered(Fiber& fiber, Fiber& scheduler);
// Makes `fiber` stand for the calling OS thread.
void adopt_thread(Fiber& fiber);
// Continues `to`, leaving `from`, for ever where `last`.
void switch_fiber(Fiber& from, Fiber& to, bool last);
void free_stack(Fiber& fiber);

// ThreadSanitizer's threads are dear to make and to keep: 0.8 MB each, and every one makes every
// clock longer. Are there too many to make the rest of `count` new ones?
bool fibers_are_scarce(size_t count);
// After the fiber's last switch: it may stand for another from now on. Call it when whoever starts
// fibers next knows of all that this one did.
void retire(Fiber& fiber);
// Ends those retired. Before a fork(): ThreadSanitizer watches the child of a process of one thread
// only.
void forget_retired();

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
