// The scheduler behind emulate.h: fibers, meetings, asynchronous copies.
//
// Three builds of the same source: plain; -fsanitize=address (dynamic shared memory is a heap block
// of exactly the requested size, so one byte too far is reported); -fsanitize=thread for the
// kernels only, this file staying uninstrumented: each CUDA thread is a TSan fiber, meetings that
// order memory are acquire/release pairs, and nothing else is, so TSan's vector clocks find every
// pair of unordered accesses the run made, within a block and between blocks.
#include "kernels/emulate/emulate.h"

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef EMULATE_TSAN  // this file is not compiled with -fsanitize=thread, so it must be told
#include <sanitizer/tsan_interface.h>
extern "C" void __tsan_read_range(void*, unsigned long);
extern "C" void __tsan_write_range(void*, unsigned long);
extern "C" void __tsan_ignore_thread_begin();
extern "C" void __tsan_ignore_thread_end();
#endif

// Saves the callee-saved registers on this stack, stores the stack pointer, continues on the other.
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

// While one lives, TSan ignores the calling thread's accesses: allocation and memcpy are
// intercepted even in uninstrumented code, and the scheduler's own data is not the kernel's
// business.
struct Machinery {
#ifdef EMULATE_TSAN
  Machinery() {
    __tsan_ignore_thread_begin();
  }
  ~Machinery() {
    __tsan_ignore_thread_end();
  }
#else
  Machinery() {}
#endif
};

constexpr size_t kStackBytes = 256 << 10;  // touched pages only cost memory

struct Copy {
  void* to;
  const void* from;
  int bytes, zero_bytes, group;
};

struct Fiber {
  void* stack_pointer = nullptr;
  char* stack = nullptr;
  uint3 index{};
  int rank = 0;
  bool done = false;
  const Where* waiting_at = nullptr;
  std::vector<Copy> copies;
  int group = 0;
  void* fake_stack = nullptr;  // ASan's
  void* tsan = nullptr;
};

struct Meeting {
  std::vector<Fiber*> members;
  std::vector<void*> operands;
  const Step* step = nullptr;
  Where where;
  int arrived = 0;
  int threads = 0;  // of a named barrier
  int round = 0;
  // TSan clocks, by parity of the round: an early thread may already leave its mark for the next
  // round while a late one still has to take up this one's.
  char clock[2];
};

// One block at a time; a launch reuses all of this.
struct Block {
  std::vector<Fiber> fibers;
  std::vector<Fiber*> ready;
  size_t first_ready = 0;
  std::vector<Fiber*> polling;  // in wait_until
  std::vector<std::function<void()>> idle_actions;
  bool progress = false;
  int live = 0;
  std::map<int, Meeting> barriers;                    // by barrier number
  std::map<std::pair<int, unsigned>, Meeting> warps;  // by warp and mask
  std::vector<Meeting> full_warps;                    // the common case of the above
  std::map<int, Meeting> warpgroups;
  std::unique_ptr<unsigned char[]> shared;
  const std::function<void()>* kernel = nullptr;
} block;

Fiber* current = nullptr;
Fiber scheduler;  // stands for the thread that called run_grid
uint64_t random_state = 1;

uint32_t random_below(uint32_t bound) {
  random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
  return uint32_t((random_state >> 32) % bound);
}

void switch_to(Fiber* next) {
  Fiber* previous = current;
  if (next == previous) return;
  current = next;
  ++statistics.switches;
  threadIdx = next->index;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(previous->done ? nullptr : &previous->fake_stack, next->stack,
                                 kStackBytes);
#endif
#ifdef EMULATE_TSAN
  __tsan_switch_to_fiber(next->tsan, __tsan_switch_to_fiber_no_sync);
#endif
  emulate_switch(&previous->stack_pointer, next->stack_pointer);
#if defined(__SANITIZE_ADDRESS__)
  const void* bottom;
  size_t size;
  __sanitizer_finish_switch_fiber(previous->fake_stack, &bottom, &size);
  if (previous == &scheduler) return;
#endif
}

// Nobody is ready: let those in wait_until look again, after one delayed action if nothing has
// changed since they last looked. False when that cannot help either.
bool wake_polling() {
  block.ready.clear();
  block.first_ready = 0;
  if (block.polling.empty()) return false;
  if (!block.progress) {
    if (block.idle_actions.empty()) return false;
    size_t chosen = settings.order == Order::shuffled ? random_below(block.idle_actions.size()) : 0;
    auto action = std::move(block.idle_actions[chosen]);
    block.idle_actions.erase(block.idle_actions.begin() + chosen);
    action();
  }
  block.progress = false;
  block.ready.swap(block.polling);
  return true;
}

Fiber* take_ready() {
  if (block.first_ready == block.ready.size() && !wake_polling()) return &scheduler;
  switch (settings.order) {
    case Order::forward:
    case Order::reverse: {
      Fiber* fiber = block.ready[block.first_ready++];
      if (block.first_ready == 1024) {
        block.ready.erase(block.ready.begin(), block.ready.begin() + 1024);
        block.first_ready = 0;
      }
      return fiber;
    }
    case Order::shuffled: {
      size_t left = block.ready.size() - block.first_ready;
      std::swap(block.ready[block.first_ready + random_below(left)], block.ready.back());
      [[fallthrough]];
    }
    case Order::greedy: {
      Fiber* fiber = block.ready.back();
      block.ready.pop_back();
      return fiber;
    }
  }
  return &scheduler;
}

void make_ready(const std::vector<Fiber*>& fibers) {
  auto add = [](Fiber* fiber) {
    if (fiber) block.ready.push_back(fiber);
  };
  if (settings.order == Order::forward) {
    for (auto i = fibers.begin(); i != fibers.end(); ++i) add(*i);
  } else {
    for (auto i = fibers.rbegin(); i != fibers.rend(); ++i) add(*i);
  }
}

void complete(Meeting& meeting) {
  ++statistics.meetings;
  if (meeting.step && *meeting.step) (*meeting.step)(meeting.operands.data());
  meeting.arrived = 0;
  ++meeting.round;
  make_ready(meeting.members);
  std::fill(meeting.members.begin(), meeting.members.end(), nullptr);
  std::fill(meeting.operands.begin(), meeting.operands.end(), nullptr);
}

// The calling fiber's coming to a meeting of `expected` among `size` members; true for the last.
bool arrive(Meeting& meeting, int size, int position, int expected, void* operand) {
  block.progress = true;
  if (meeting.members.empty()) meeting.members.resize(size), meeting.operands.resize(size);
  meeting.operands[position] = operand;
  return ++meeting.arrived == expected;
}

void attend(Meeting& meeting, int size, int position, int expected, void* operand, const Step* step,
            bool orders_memory, const Where& where) {
  Machinery machinery;
  const bool last = arrive(meeting, size, position, expected, operand);
  meeting.members[position] = current;
  meeting.step = step;
  current->waiting_at = &where;
#ifdef EMULATE_TSAN
  char* clock = &meeting.clock[meeting.round % 2];
  if (orders_memory) __tsan_release(clock);
#else
  (void)orders_memory;
#endif
  if (last) complete(meeting);
  switch_to(take_ready());
#ifdef EMULATE_TSAN
  if (orders_memory) __tsan_acquire(clock);
#endif
  current->waiting_at = nullptr;
}

// Where all must come by one and the same instruction.
void check_place(Meeting& meeting, const Where& where) {
  if (meeting.arrived == 0) meeting.where = where;
  if (meeting.where.line != where.line || meeting.where.file != where.file) {
    fail("threads of one group wait at different places: divergent barrier?", where);
  }
}

// A named barrier: `threads` come, from wherever they are, each once in a round.
Meeting& named_barrier(int barrier, int threads, const Where& where) {
  Meeting& meeting = block.barriers[barrier];
  if (threads <= 0 || threads % 32 != 0) fail("a barrier counts whole warps", where);
  if (meeting.arrived == 0) meeting.threads = threads;
  if (meeting.threads != threads) fail("threads disagree on how many meet at a barrier", where);
  if (meeting.arrived > 0 && meeting.operands[current->rank])
    fail("a thread comes to a barrier twice in one round", where);
  return meeting;
}

int live_lanes(int warp, unsigned mask) {
  int count = 0;
  for (int lane = 0; lane < 32; ++lane) {
    size_t rank = size_t(warp) * 32 + lane;
    count += (mask >> lane & 1) && rank < block.fibers.size() && !block.fibers[rank].done;
  }
  return count;
}

void finish_copies(Fiber& fiber, int up_to_group) {
  auto& copies = fiber.copies;
  size_t kept = 0;
  for (Copy& copy : copies) {
    if (copy.group >= up_to_group) {
      copies[kept++] = copy;
      continue;
    }
    note_write(copy.to, copy.bytes + copy.zero_bytes);
    Machinery machinery;
    std::memcpy(copy.to, copy.from, copy.bytes);
    std::memset(static_cast<char*>(copy.to) + copy.bytes, 0, copy.zero_bytes);
  }
  copies.resize(kept);
}

void fiber_main() {
#if defined(__SANITIZE_ADDRESS__)
  const void* bottom;
  size_t size;
  __sanitizer_finish_switch_fiber(nullptr, &bottom, &size);
  if (!scheduler.stack) scheduler.stack = static_cast<char*>(const_cast<void*>(bottom));
#endif
  (*block.kernel)();
  finish_copies(*current, current->group + 1);
#ifdef EMULATE_TSAN
  __tsan_release(&block);
#endif
  Fiber* next;
  {
    Machinery machinery;
    current->done = true;
    --block.live;
    // Whoever waits for "all threads that still live" may have waited for this one.
    Meeting& barrier = block.barriers[0];
    if (barrier.arrived > 0 && barrier.arrived == block.live) complete(barrier);
    int warp = current->rank / 32;
    Meeting& full = block.full_warps[warp];
    if (full.arrived > 0 && full.arrived == live_lanes(warp, ~0u)) complete(full);
    next = take_ready();
  }
  switch_to(next);
  std::abort();
}

void prepare(Fiber& fiber, int rank, dim3 size) {
  fiber.rank = rank;
  fiber.index = {rank % size.x, rank / size.x % size.y, rank / (size.x * size.y)};
  fiber.done = false;
  fiber.group = 0;
  fiber.copies.clear();
  if (!fiber.stack) {
    fiber.stack = static_cast<char*>(mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE,
                                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  }
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(fiber.stack, kStackBytes);  // the last block's frames
#endif
  // What emulate_switch pops: six registers and the return address; one more keeps the alignment.
  void** top = reinterpret_cast<void**>(fiber.stack + kStackBytes) - 8;
  std::fill(top, top + 8, nullptr);
  top[6] = reinterpret_cast<void*>(&fiber_main);
  fiber.stack_pointer = top;
#ifdef EMULATE_TSAN
  fiber.tsan = __tsan_create_fiber(0);
#endif
}

void run_block(dim3 size, size_t shared_bytes) {
  Machinery machinery;
  int threads = size.x * size.y * size.z;
  if (block.fibers.size() != size_t(threads)) {
    for (size_t i = threads; i < block.fibers.size(); ++i) {
      if (block.fibers[i].stack) munmap(block.fibers[i].stack, kStackBytes);
    }
    block.fibers.resize(threads);
    block.full_warps.assign((threads + 31) / 32, {});
    block.barriers.clear();
    block.warps.clear();
    block.warpgroups.clear();
  }
  block.shared.reset(new (std::align_val_t(1024)) unsigned char[shared_bytes]);
  std::memset(block.shared.get(), 0xff, shared_bytes);  // NaN in every float format
  block.live = threads;
  block.idle_actions.clear();
  block.polling.clear();
  block.ready.clear();
  block.first_ready = 0;
  std::vector<Fiber*> all;
  for (int rank = 0; rank < threads; ++rank) {
    prepare(block.fibers[rank], rank, size);
    all.push_back(&block.fibers[rank]);
  }
  make_ready(all);
  statistics.threads += threads;
  switch_to(take_ready());
  for (Fiber& fiber : block.fibers) {
    if (!fiber.done)
      fail("deadlock: this thread waits for threads that never come", *fiber.waiting_at);
  }
#ifdef EMULATE_TSAN
  for (Fiber& fiber : block.fibers) {
    __tsan_destroy_fiber(fiber.tsan);
    munmap(fiber.stack, kStackBytes);  // TSan must forget who used it
    fiber.stack = nullptr;
  }
#endif
  ::operator delete[](block.shared.release(), std::align_val_t(1024));
}

}  // namespace

void run_grid(dim3 grid, dim3 size, size_t shared_bytes, const std::function<void()>& kernel) {
  gridDim = grid;
  blockDim = size;
  block.kernel = &kernel;
  random_state = settings.seed;
  current = &scheduler;
#ifdef EMULATE_TSAN
  scheduler.tsan = __tsan_get_current_fiber();
#endif
  unsigned blocks = grid.x * grid.y * grid.z;
  for (unsigned i = 0; i < blocks; ++i) {
    unsigned b = settings.order == Order::forward ? i : blocks - 1 - i;
    blockIdx = {b % grid.x, b / grid.x % grid.y, b / (grid.x * grid.y)};
    run_block(size, shared_bytes);
  }
#ifdef EMULATE_TSAN
  __tsan_acquire(&block);
#endif
}

unsigned char* dynamic_shared() {
  return block.shared.get();
}
int thread_rank() {
  return current->rank;
}

void fail(const char* what, Where where) {
  std::fprintf(stderr, "%s:%d: %s; block (%u,%u,%u), thread (%u,%u,%u)\n", where.file, where.line,
               what, blockIdx.x, blockIdx.y, blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z);
  std::abort();
}

void meet_warp(unsigned mask, void* operand, const Step& step, bool orders_memory, Where where) {
  int warp = current->rank / 32, lane = current->rank % 32;
  if (!(mask >> lane & 1)) fail("the calling lane is not in the mask", where);
  Meeting& meeting = mask == ~0u ? block.full_warps[warp] : block.warps[{warp, mask}];
  int expected =
      mask == ~0u && block.live == int(block.fibers.size()) && block.fibers.size() % 32 == 0
          ? 32
          : live_lanes(warp, mask);
  check_place(meeting, where);
  attend(meeting, 32, lane, expected, operand, &step, orders_memory, where);
}

void meet_warpgroup(void* operand, const Step& step, Where where) {
  Meeting& meeting = block.warpgroups[current->rank / 128];
  check_place(meeting, where);
  attend(meeting, 128, current->rank % 128, 128, operand, &step, false, where);
}

void meet_block(int barrier, int threads, Where where) {
  Machinery machinery;
  const int size = int(block.fibers.size());
  if (barrier == 0) {
    Meeting& meeting = block.barriers[0];
    check_place(meeting, where);
    attend(meeting, size, current->rank, block.live, nullptr, nullptr, true, where);
  } else {
    Meeting& meeting = named_barrier(barrier, threads, where);
    attend(meeting, size, current->rank, threads, current, nullptr, true, where);
  }
}

int count_block(bool vote, Where where) {
  struct Operand {
    bool vote;
    int count;
  } mine{vote, 0};
  Machinery machinery;
  const size_t size = block.fibers.size();
  const Step step = [size](void* const* operands) {
    int votes = 0;
    for (size_t i = 0; i < size; ++i) {
      if (operands[i] && static_cast<Operand*>(operands[i])->vote) ++votes;
    }
    for (size_t i = 0; i < size; ++i) {
      if (operands[i]) static_cast<Operand*>(operands[i])->count = votes;
    }
  };
  Meeting& meeting = block.barriers[0];
  check_place(meeting, where);
  attend(meeting, int(size), current->rank, block.live, &mine, &step, true, where);
  return mine.count;
}

void arrive_block(int barrier, int threads, Where where) {
  Machinery machinery;
  Meeting& meeting = named_barrier(barrier, threads, where);
  release(&meeting.clock[meeting.round % 2]);
  if (arrive(meeting, int(block.fibers.size()), current->rank, threads, current)) complete(meeting);
}

void copy_async(void* to, const void* from, int bytes, int zero_bytes) {
  note_read(from, bytes);
  note_write(to, bytes + zero_bytes);
  {
    Machinery machinery;
    current->copies.push_back({to, from, bytes, zero_bytes, current->group});
  }
  if (settings.copies == Copies::early) finish_copies(*current, current->group + 1);
}
void commit_copies() {
  ++current->group;
}
void wait_copies(int groups_left) {
  finish_copies(*current, current->group - groups_left);
}

void wait_until(const std::function<bool()>& ready, Where where) {
  Machinery machinery;
  current->waiting_at = &where;
  while (!ready()) {
    block.polling.push_back(current);
    switch_to(take_ready());
  }
  current->waiting_at = nullptr;
  block.progress = true;
}
void when_idle(std::function<void()> action) {
  Machinery machinery;
  if (settings.copies == Copies::early) {
    action();
  } else {
    block.idle_actions.push_back(std::move(action));
  }
  block.progress = true;
}
void note_progress() {
  block.progress = true;
}

void release([[maybe_unused]] void* object) {
#ifdef EMULATE_TSAN
  __tsan_release(object);
#endif
}
void acquire([[maybe_unused]] void* object) {
#ifdef EMULATE_TSAN
  __tsan_acquire(object);
#endif
}
void note_read([[maybe_unused]] const void* from, [[maybe_unused]] int bytes) {
#ifdef EMULATE_TSAN
  if (bytes) __tsan_read_range(const_cast<void*>(from), bytes);
#endif
}
void note_write([[maybe_unused]] void* to, [[maybe_unused]] int bytes) {
#ifdef EMULATE_TSAN
  if (bytes) __tsan_write_range(to, bytes);
#endif
}

uint64_t exchange(unsigned mask, uint64_t value, int source_lane, Where where) {
  struct Operand {
    uint64_t value, result;
    int source;
  } mine{value, 0xdeadbeefdeadbeef, source_lane};
  static const Step step = [](void* const* operands) {
    for (int lane = 0; lane < 32; ++lane) {
      auto* operand = static_cast<Operand*>(operands[lane]);
      if (!operand) continue;
      auto* source = static_cast<Operand*>(operands[operand->source]);
      if (source) operand->result = source->value;  // else garbage, as on the GPU
    }
  };
  meet_warp(mask, &mine, step, false, where);
  return mine.result;
}

}  // namespace chorus::emulate

unsigned __ballot_sync(unsigned mask, int predicate, chorus::emulate::Where where) {
  struct Operand {
    int predicate;
    unsigned result;
  } mine{predicate, 0};
  static const chorus::emulate::Step step = [](void* const* operands) {
    unsigned votes = 0;
    for (int lane = 0; lane < 32; ++lane) {
      auto* operand = static_cast<Operand*>(operands[lane]);
      if (operand && operand->predicate) votes |= 1u << lane;
    }
    for (int lane = 0; lane < 32; ++lane) {
      if (operands[lane]) static_cast<Operand*>(operands[lane])->result = votes;
    }
  };
  chorus::emulate::meet_warp(mask, &mine, step, false, where);
  return mine.result;
}

int __syncthreads_count(int predicate, chorus::emulate::Where where) {
  return chorus::emulate::count_block(predicate != 0, where);
}
