#include "kernels/emulate/fiber.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) && !defined(__SANITIZE_ADDRESS__)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef EMULATE_TSAN  // this file is not compiled with -fsanitize=thread, so it must be told
#include <sanitizer/tsan_interface.h>
extern "C" void __tsan_ignore_thread_begin();
extern "C" void __tsan_ignore_thread_end();
#endif

// Saves the callee-saved registers on this stack, stores the stack pointer, continues on the other:
// 12 instructions, where swapcontext makes two system calls.
extern "C" void emulate_switch(void** save, void* load);
asm(R"(
.text
.globl emulate_switch
.type emulate_switch,@function
emulate_switch:
  pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
  ret
.size emulate_switch,.-emulate_switch
)");

namespace chorus::emulate {
namespace {
// Touched pages only cost memory. No power of two, and a stack begins at one of 64 cache lines (see
// start): else what the threads of a block have in use would lie in the same few sets of the
// caches.
constexpr size_t kStackBytes = 260 << 10;

const char* make_stack() {
  void* memory = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    std::perror("emulation: no memory for the stack of a CUDA thread");
    std::abort();
  }
  return static_cast<const char*>(memory);
}

#ifdef EMULATE_TSAN
constexpr size_t kKeptMax = 2048;  // TSan has 8192 threads in all
std::vector<Fiber> retired;
size_t fiber_count = 0;
#endif
}  // namespace

void start(Fiber& fiber, void (*main)()) {
#ifdef EMULATE_TSAN
  if (fiber.tsan) {
    // That of a block that has ended.
  } else if (!retired.empty()) {
    fiber = retired.back();
    retired.pop_back();
  } else {
    fiber.tsan = __tsan_create_fiber(0);
    ++fiber_count;
  }
#endif
  if (!fiber.stack) {
    fiber.stack = make_stack();
    fiber.stack_bytes = kStackBytes;
  }
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(fiber.stack, kStackBytes);  // the last run's frames
#endif
  const size_t unused = reinterpret_cast<uintptr_t>(fiber.stack) / 4096 * 13 % 64 * 64;
  // What emulate_switch pops: six registers and the return address; one more keeps the alignment.
  void** top = reinterpret_cast<void**>(const_cast<char*>(fiber.stack) + kStackBytes - unused) - 8;
  std::fill(top, top + 8, nullptr);
  top[6] = reinterpret_cast<void*>(main);
  fiber.stack_pointer = top;
  fiber.fake_stack = nullptr;
}

void entered([[maybe_unused]] Fiber& fiber, [[maybe_unused]] Fiber& scheduler) {
#if defined(__SANITIZE_ADDRESS__)
  const void* bottom = nullptr;
  size_t size = 0;
  __sanitizer_finish_switch_fiber(fiber.fake_stack, &bottom, &size);
  if (!scheduler.stack) {
    scheduler.stack = static_cast<const char*>(bottom);
    scheduler.stack_bytes = size;
  }
#endif
}

void adopt_thread(Fiber& fiber) {
  fiber = {};
#ifdef EMULATE_TSAN
  fiber.tsan = __tsan_get_current_fiber();
#endif
}

void switch_fiber(Fiber& from, Fiber& to, [[maybe_unused]] bool last) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(last ? nullptr : &from.fake_stack, to.stack, to.stack_bytes);
#endif
#ifdef EMULATE_TSAN
  __tsan_switch_to_fiber(to.tsan, __tsan_switch_to_fiber_no_sync);
#endif
  emulate_switch(&from.stack_pointer, to.stack_pointer);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

#ifdef EMULATE_TSAN
bool fibers_are_scarce(size_t count) {
  return count > retired.size() && fiber_count + count - retired.size() > kKeptMax;
}
void destroy(Fiber& fiber) {
  __tsan_destroy_fiber(fiber.tsan);
  --fiber_count;
  free_stack(fiber);  // TSan must forget who used it
}
void retire(Fiber& fiber) {
  if (fiber_count <= kKeptMax) {
    retired.push_back(fiber);
  } else {
    destroy(fiber);
  }
  fiber = {};
}
void forget_retired() {
  for (Fiber& fiber : retired) destroy(fiber);
  retired.clear();
}
#else
bool fibers_are_scarce(size_t) {
  return false;
}
void retire(Fiber&) {}
void forget_retired() {}
#endif

void free_stack(Fiber& fiber) {
  if (fiber.stack) munmap(const_cast<char*>(fiber.stack), fiber.stack_bytes);
  fiber.stack = nullptr;
}

#ifdef EMULATE_TSAN
Machinery::Machinery() {
  __tsan_ignore_thread_begin();
}
Machinery::~Machinery() {
  __tsan_ignore_thread_end();
}
#endif

}  // namespace chorus::emulate
