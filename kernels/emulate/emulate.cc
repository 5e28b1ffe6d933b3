// The scheduler behind emulate.h: blocks of fibers, meetings, asynchronous copies.
//
// Three builds of the same source: plain; -fsanitize=address (dynamic shared memory is a heap block
// of exactly the requested size, so one byte too far is reported); -fsanitize=thread for the
// kernels only, this folder staying uninstrumented: each CUDA thread is a TSan fiber, meetings that
// order memory are acquire/release pairs, and nothing else is, so TSan's vector clocks find every
// pair of unordered accesses the run made, within a block, between blocks, between devices, and
// between a kernel and the one that it overlaps with. (In grids of more than 2048 threads some
// pairs of blocks are not watched: see take_block.)
#include "kernels/emulate/emulate.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/emulate/fiber.h"

#ifdef EMULATE_TSAN
#include <sanitizer/tsan_interface.h>
extern "C" void __tsan_read_range(void*, unsigned long);
extern "C" void __tsan_write_range(void*, unsigned long);
#endif

namespace chorus::emulate {
namespace {

struct Copy {
  void* to;
  const void* from;
  int bytes, zero_bytes, group;
};

struct Block;
struct Meeting;

struct Thread {
  Fiber fiber;
  Block* block = nullptr;
  Meeting* warp = nullptr;  // of all lanes of its warp that live
  uint3 index{};
  int rank = 0;
  bool done = false;
  const Where* waiting_at = nullptr;
  bool waits_elsewhere = false;  // and it is for another device
  std::vector<Copy> copies;
  int group = 0;
};

struct Meeting {
  std::vector<Thread*> members;  // those who wait
  std::vector<void*> operands;   // of all who came
  const Step* step = nullptr;
  Where where;
  int arrived = 0;
  int threads = 0;  // of a named barrier; of a whole warp's meeting
  int round = 0;
  // TSan clocks, by parity of the round: an early thread may already leave its mark for the next
  // round while a late one still has to take up this one's.
  char clock[2];
};

// A device's queue of grids.
struct Stream {
  std::deque<Grid> grids;                      // the first one is under way
  std::vector<std::unique_ptr<Block>> blocks;  // of that, those that live
  unsigned started = 0;                        // of its blocks
  bool waited = false;                         // for the predecessor, by one of its threads
  // TSan clocks: the ends of the threads of all grids, of this grid, of the one before (allocated,
  // which makes them new); and what the host knows when it starts a block.
  char clock = 0;
  std::unique_ptr<char> ends = std::make_unique<char>(), predecessor_ends;
  char start_clock = 0;
};

struct Block {
  Stream* stream = nullptr;
  uint3 index{};
  std::vector<Thread> threads;
  int live = 0;
  std::map<int, Meeting> barriers;                    // by barrier number
  std::map<std::pair<int, unsigned>, Meeting> warps;  // by warp and mask
  std::vector<Meeting> full_warps;                    // the common case, of the lanes that live
  std::map<int, Meeting> warpgroups;
  std::map<const void*, std::shared_ptr<void>> slots;
  unsigned char* shared = nullptr;
};

// Who can run, over all blocks that live.
std::vector<Thread*> ready;
size_t first_ready = 0;
std::vector<Thread*> polling;                                              // in wait_until
std::vector<std::pair<const Block*, std::function<void()>>> idle_actions;  // and whose they are
bool progress = false;

Thread* current = nullptr;
Thread scheduler;  // stands for the thread that called run_grid
std::vector<std::unique_ptr<Block>> spare_blocks;
uint64_t random_state = 1;

// Whose turn it is among the host threads.
std::mutex running;
std::condition_variable turn_ended;
uint64_t progress_count = 0;  // of all of them
thread_local std::vector<Grid>* recording = nullptr;
thread_local Stream* overlapping = nullptr;

uint32_t random_below(uint32_t bound) {
  random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
  return uint32_t((random_state >> 32) % bound);
}

void show(const Thread& thread, const Block* shown) {
  threadIdx = thread.index;
  if (!thread.block || thread.block == shown) return;
  const Grid& grid = thread.block->stream->grids.front();
  blockIdx = thread.block->index;
  blockDim = grid.threads;
  gridDim = grid.blocks;
}

inline void switch_to(Thread* next) {
  Thread* previous = current;
  if (next == previous) return;
  current = next;
  ++statistics.switches;
  show(*next, previous->block);
  switch_fiber(previous->fiber, next->fiber, previous->done);
}

// Nobody is ready: let those in wait_until look again, after one delayed action if nothing has
// changed since they last looked. False when that cannot help either.
bool wake_polling() {
  ready.clear();
  first_ready = 0;
  if (polling.empty()) return false;
  if (!progress) {
    if (idle_actions.empty()) return false;
    size_t chosen = settings.order == Order::shuffled ? random_below(idle_actions.size()) : 0;
    auto action = std::move(idle_actions[chosen].second);
    idle_actions.erase(idle_actions.begin() + chosen);
    action();
  }
  progress = false;
  ready.swap(polling);
  return true;
}

// The scheduler, where nobody can run.
inline Thread* take_ready() {
  if (first_ready == ready.size() && !wake_polling()) return &scheduler;
  switch (settings.order) {
    case Order::forward:
    case Order::reverse: {
      Thread* thread = ready[first_ready++];
      if (first_ready == 1024) {
        ready.erase(ready.begin(), ready.begin() + 1024);
        first_ready = 0;
      }
      return thread;
    }
    case Order::shuffled: {
      size_t left = ready.size() - first_ready;
      std::swap(ready[first_ready + random_below(left)], ready.back());
      [[fallthrough]];
    }
    case Order::greedy: {
      Thread* thread = ready.back();
      ready.pop_back();
      return thread;
    }
  }
  return &scheduler;
}

void make_ready(const std::vector<Thread*>& threads) {
  auto add = [](Thread* thread) {
    if (thread) ready.push_back(thread);
  };
  if (settings.order == Order::forward) {
    for (auto i = threads.begin(); i != threads.end(); ++i) add(*i);
  } else {
    for (auto i = threads.rbegin(); i != threads.rend(); ++i) add(*i);
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

void make_room(Meeting& meeting, size_t members) {
  meeting.members.resize(members);
  meeting.operands.resize(members);
}

// The calling thread's coming to a meeting of `expected`; true for the last.
inline bool arrive(Meeting& meeting, int position, int expected, void* operand) {
  progress = true;
  meeting.operands[position] = operand;
  return ++meeting.arrived == expected;
}

[[gnu::always_inline]] inline void attend(Meeting& meeting, int position, int expected,
                                          void* operand, const Step* step, bool orders_memory,
                                          const Where& where) {
  Machinery machinery;
  const bool last = arrive(meeting, position, expected, operand);
  meeting.members[position] = current;
  meeting.step = step;
  current->waiting_at = &where;
  char* clock = &meeting.clock[meeting.round % 2];
  if (orders_memory) release(clock);
  if (last) complete(meeting);
  switch_to(take_ready());
  if (orders_memory) acquire(clock);
  current->waiting_at = nullptr;
}

// Where all must come by one and the same instruction.
inline void check_place(Meeting& meeting, const Where& where) {
  if (meeting.arrived == 0) {
    meeting.where = where;
  } else if (meeting.where.line != where.line || meeting.where.file != where.file) {
    fail("threads of one group wait at different places: divergent barrier?", where);
  }
}

// A named barrier: `threads` come, from wherever they are, each once in a round.
Meeting& named_barrier(int barrier, int threads, const Where& where) {
  Meeting& meeting = current->block->barriers[barrier];
  if (threads <= 0 || threads % 32 != 0) fail("a barrier counts whole warps", where);
  if (meeting.members.empty()) make_room(meeting, current->block->threads.size());
  if (meeting.arrived == 0) meeting.threads = threads;
  if (meeting.threads != threads) fail("threads disagree on how many meet at a barrier", where);
  if (meeting.arrived > 0 && meeting.operands[current->rank])
    fail("a thread comes to a barrier twice in one round", where);
  return meeting;
}

int live_lanes(const Block& block, int warp, unsigned mask) {
  int count = 0;
  for (int lane = 0; lane < 32; ++lane) {
    size_t rank = size_t(warp) * 32 + lane;
    count += (mask >> lane & 1) && rank < block.threads.size() && !block.threads[rank].done;
  }
  return count;
}

void finish_copies(Thread& thread, int up_to_group) {
  auto& copies = thread.copies;
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

// What comes after a thread's last instruction. Whoever waits for "all threads that still live" may
// have waited for this one.
Thread* end_thread(Block& block) {
  Machinery machinery;
  current->done = true;
  --block.live;
  Meeting& barrier = block.barriers[0];
  if (barrier.arrived > 0 && barrier.arrived == block.live) complete(barrier);
  Meeting& warp = *current->warp;
  --warp.threads;
  if (warp.arrived > 0 && warp.arrived == warp.threads) complete(warp);
  if (block.live > 0) return take_ready();
  for (const auto& action : idle_actions) {
    if (action.first == &block)
      fail("a block ends while copies into it are under way", {__FILE__, __LINE__});
  }
  return &scheduler;
}

void thread_main() {
  entered(current->fiber, scheduler.fiber);
  Block& block = *current->block;
  acquire(&block.stream->start_clock);
  block.stream->grids.front().kernel();
  finish_copies(*current, current->group + 1);
  release(&block.stream->clock);
  release(block.stream->ends.get());
  switch_to(end_thread(block));
  std::abort();
}

#ifdef EMULATE_TSAN
constexpr bool kWatched = true;
#else
constexpr bool kWatched = false;
#endif

// A block of `threads` threads, from those that have ended where one fits. Under TSan only where
// its own threads would be too many: its clocks take what this block does for ordered after what
// the ended one did, and do not see a race of these two. Which two is drawn by lot, so that no
// fault that many blocks have is always between two of a kind.
std::unique_ptr<Block> take_block(size_t threads) {
  const size_t count = kWatched && !fibers_are_scarce(threads) ? 0 : spare_blocks.size();
  const size_t first = kWatched && count > 0 ? random_below(uint32_t(count)) : 0;
  for (size_t i = 0; i < count; ++i) {
    auto& spare = spare_blocks[(first + i) % count];
    if (spare->threads.size() != threads) continue;
    auto block = std::move(spare);
    std::swap(spare, spare_blocks.back());
    spare_blocks.pop_back();
    return block;
  }
  auto block = std::make_unique<Block>();
  block->threads.resize(threads);
  block->full_warps.resize((threads + 31) / 32);
  for (Meeting& warp : block->full_warps) make_room(warp, 32);
  return block;
}

void give_back(std::unique_ptr<Block> block) {
  ::operator delete[](block->shared, std::align_val_t(1024));
  block->shared = nullptr;
  block->slots.clear();
  block->barriers.clear();
  block->warps.clear();
  block->warpgroups.clear();
  spare_blocks.push_back(std::move(block));
  while (!kWatched && spare_blocks.size() > 64) {
    for (Thread& thread : spare_blocks.front()->threads) free_stack(thread.fiber);
    spare_blocks.erase(spare_blocks.begin());
  }
}

// Whoever starts blocks next knows of all that the ended ones did.
void recycle() {
  if (!kWatched) return;
  for (auto& block : spare_blocks) {
    for (Thread& thread : block->threads) retire(thread.fiber);
  }
  spare_blocks.clear();
}

void start_block(Stream& stream, unsigned number) {
  const Grid& grid = stream.grids.front();
  const dim3 size = grid.threads;
  auto block = take_block(size_t(size.x) * size.y * size.z);
  block->stream = &stream;
  block->index = {number % grid.blocks.x, number / grid.blocks.x % grid.blocks.y,
                  number / (grid.blocks.x * grid.blocks.y)};
  block->live = int(block->threads.size());
  block->shared = new (std::align_val_t(1024)) unsigned char[grid.shared_bytes];
  std::memset(block->shared, 0xff, grid.shared_bytes);  // NaN in every float format
  std::vector<Thread*> all;
  release(&stream.start_clock);
  for (unsigned rank = 0; rank < block->threads.size(); ++rank) {
    Thread& thread = block->threads[rank];
    thread.block = block.get();
    thread.rank = int(rank);
    thread.warp = &block->full_warps[rank / 32];
    thread.warp->threads = int(rank % 32) + 1;
    thread.index = {rank % size.x, rank / size.x % size.y, rank / (size.x * size.y)};
    thread.done = false;
    thread.group = 0;
    thread.copies.clear();
    start(thread.fiber, thread_main);
    all.push_back(&thread);
  }
  make_room(block->barriers[0], block->threads.size());
  make_ready(all);
  statistics.threads += int64_t(all.size());
  stream.blocks.push_back(std::move(block));
}

unsigned count(dim3 size) {
  return size.x * size.y * size.z;
}

// Takes away the blocks that have ended and starts the next ones; false at the end of all grids.
bool advance(Stream& stream) {
  std::erase_if(stream.blocks, [](std::unique_ptr<Block>& block) {
    if (block->live > 0) return false;
    give_back(std::move(block));
    return true;
  });
  while (!stream.grids.empty()) {
    const Grid& grid = stream.grids.front();
    const unsigned blocks = count(grid.blocks);
    while (stream.started < blocks && (stream.blocks.empty() || grid.together)) {
      const unsigned i = stream.started++;
      start_block(stream, settings.order == Order::forward ? i : blocks - 1 - i);
    }
    if (!stream.blocks.empty()) return true;
    if (blocks > 0 && !stream.waited)
      fail("no thread of a kernel calls ptx::wait_for_predecessor()", {__FILE__, __LINE__});
    stream.grids.pop_front();
    stream.started = 0;
    stream.waited = false;
    stream.predecessor_ends = std::move(stream.ends);
    stream.ends = std::make_unique<char>();
  }
  return false;
}

// Longer than another rank needs to come to its kernel on a busy machine, under a sanitizer.
constexpr auto kPatience = std::chrono::seconds(120);

// Nobody can run, and no delayed action is left. Where one waits for a flag of another device,
// whose kernels another host thread may run: lets that have its turn. False when nothing comes of
// it.
bool let_others_run(std::unique_lock<std::mutex>& turn) {
  const auto elsewhere = [](const Thread* thread) { return thread->waits_elsewhere; };
  if (std::none_of(polling.begin(), polling.end(), elsewhere)) return false;
  const std::vector<Thread*> waiting = std::move(polling);
  const Fiber host = scheduler.fiber;
  const uint64_t seen = progress_count;
  polling.clear();
  turn_ended.notify_all();
  const bool changed = turn_ended.wait_for(turn, kPatience, [&] { return progress_count != seen; });
  polling = waiting;
  scheduler.fiber = host;
  current = &scheduler;
  progress = true;
  return changed;
}

[[noreturn]] void report_deadlock(const std::vector<Stream*>& streams) {
  for (const Stream* stream : streams) {
    for (const auto& block : stream->blocks) {
      for (const Thread& thread : block->threads) {
        if (thread.done) continue;
        show(thread, nullptr);
        fail("deadlock: this thread waits for threads that never come", *thread.waiting_at);
      }
    }
  }
  fail("deadlock", {__FILE__, __LINE__});
}

// `turn` is null where all the devices there are run here.
void run(const std::vector<Stream*>& streams, std::unique_lock<std::mutex>* turn) {
  Machinery machinery;
  random_state = settings.seed;
  current = &scheduler;
  adopt_thread(scheduler.fiber);
  ready.clear();
  first_ready = 0;
  for (;;) {
    bool alive = false;
    for (Stream* stream : streams) alive |= advance(*stream);
    if (!alive) break;
    Thread* next = take_ready();
    if (next != &scheduler) {
      switch_to(next);
    } else if (turn == nullptr || !let_others_run(*turn)) {
      report_deadlock(streams);
    }
  }
}

}  // namespace

void run_grid(Grid grid) {
  constexpr size_t kSharedBytesMax = 227 << 10;  // of a block, on any GPU
  if (grid.shared_bytes > kSharedBytesMax) {
    throw std::invalid_argument("a block asks for " + std::to_string(grid.shared_bytes) +
                                " bytes of shared memory, no GPU has that");
  }
  if (recording) {
    recording->push_back(std::move(grid));
    return;
  }
  std::unique_lock turn(running);
  Stream own;
  Stream& stream = overlapping ? *overlapping : own;
  stream.grids.push_back(std::move(grid));
  run({&stream}, &turn);
  turn_ended.notify_all();
  if (overlapping) return;
  acquire(&own.clock);
  recycle();
}

void run_together(const std::vector<std::function<void()>>& devices) {
  std::vector<Stream> streams(devices.size());
  std::vector<Stream*> all;
  for (size_t i = 0; i < devices.size(); ++i) {
    std::vector<Grid> grids;
    recording = &grids;
    devices[i]();
    recording = nullptr;
    streams[i].grids.assign(grids.begin(), grids.end());
    all.push_back(&streams[i]);
  }
  std::lock_guard lock(running);
  run(all, nullptr);
  for (Stream& stream : streams) acquire(&stream.clock);
  recycle();
}

Overlap::Overlap() {
  if (overlapping) fail("one Overlap within another", {__FILE__, __LINE__});
  overlapping = new Stream;
}
Overlap::~Overlap() {
  catch_up();
  delete overlapping;
  overlapping = nullptr;
}
void catch_up() {
  if (!overlapping) return;
  acquire(&overlapping->clock);
  std::lock_guard lock(running);
  recycle();
}
void wait_for_predecessor() {
  Stream& stream = *current->block->stream;
  stream.waited = true;
  if (stream.predecessor_ends) acquire(stream.predecessor_ends.get());
}

unsigned char* dynamic_shared() {
  return current->block->shared;
}
int thread_rank() {
  return current->rank;
}
std::shared_ptr<void>& block_slot(const void* key) {
  return current->block->slots[key];
}

void fail(const char* what, Where where) {
  std::fprintf(stderr, "%s:%d: %s; block (%u,%u,%u), thread (%u,%u,%u)\n", where.file, where.line,
               what, blockIdx.x, blockIdx.y, blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z);
  std::abort();
}

namespace {
[[gnu::noinline]] void meet_lanes(unsigned mask, void* operand, const Step& step,
                                  bool orders_memory, const Where& where) {
  Block& block = *current->block;
  const int warp = current->rank / 32;
  Meeting& meeting = block.warps[{warp, mask}];
  if (meeting.members.empty()) make_room(meeting, 32);
  check_place(meeting, where);
  attend(meeting, current->rank % 32, live_lanes(block, warp, mask), operand, &step, orders_memory,
         where);
}
}  // namespace

void meet_warp(unsigned mask, void* operand, const Step& step, bool orders_memory, Where where) {
  const int lane = current->rank & 31;
  if (!(mask >> lane & 1)) fail("the calling lane is not in the mask", where);
  if (mask != ~0u) {
    Machinery machinery;
    meet_lanes(mask, operand, step, orders_memory, where);
    return;
  }
  Meeting& warp = *current->warp;
  check_place(warp, where);
  attend(warp, lane, warp.threads, operand, &step, orders_memory, where);
}

void meet_warpgroup(void* operand, const Step& step, Where where) {
  Machinery machinery;
  Meeting& meeting = current->block->warpgroups[current->rank / 128];
  if (meeting.members.empty()) make_room(meeting, 128);
  check_place(meeting, where);
  attend(meeting, current->rank % 128, 128, operand, &step, false, where);
}

void meet_block(int barrier, int threads, Where where) {
  Machinery machinery;
  Block& block = *current->block;
  if (barrier == 0) {
    Meeting& meeting = block.barriers[0];
    check_place(meeting, where);
    attend(meeting, current->rank, block.live, nullptr, nullptr, true, where);
  } else {
    Meeting& meeting = named_barrier(barrier, threads, where);
    attend(meeting, current->rank, threads, current, nullptr, true, where);
  }
}

int count_block(bool vote, Where where) {
  struct Operand {
    bool vote;
    int count;
  } mine{vote, 0};
  Machinery machinery;
  Block& block = *current->block;
  const size_t size = block.threads.size();
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
  attend(meeting, current->rank, block.live, &mine, &step, true, where);
  return mine.count;
}

void arrive_block(int barrier, int threads, Where where) {
  Machinery machinery;
  Meeting& meeting = named_barrier(barrier, threads, where);
  release(&meeting.clock[meeting.round % 2]);
  if (arrive(meeting, current->rank, threads, current)) complete(meeting);
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

void wait_until(const std::function<bool()>& ready_now, Where where, bool elsewhere) {
  Machinery machinery;
  current->waiting_at = &where;
  current->waits_elsewhere = elsewhere;
  while (!ready_now()) {
    polling.push_back(current);
    switch_to(take_ready());
  }
  current->waiting_at = nullptr;
  progress = true;
}
void when_idle(std::function<void()> action) {
  Machinery machinery;
  if (settings.copies == Copies::early) {
    action();
  } else {
    idle_actions.emplace_back(current->block, std::move(action));
  }
  progress = true;
}
void note_progress() {
  progress = true;
  ++progress_count;
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
