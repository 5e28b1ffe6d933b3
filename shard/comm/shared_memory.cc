// Collectives over a memory file that all ranks of one host map.
//
// Layout: a control page, a mailbox for plans, then two windows per rank (double buffered: a rank
// that writes window k+2 has passed barrier k+1, which nobody enters before having read window k).
// Sums run over ranks 0, 1, ... in that order on every rank, so all ranks hold the same bits.
//
// Waiting: the control page's first word counts events (in steps of two; an odd value means abort).
// A waiter spins a little, then sleeps on that word; whoever changes something that others may
// wait for bumps the word and, when somebody sleeps, wakes them.
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cassert>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#include "kernels/weight.h"
#include "shard/comm/communicator.h"

namespace chorus::comm {
namespace {

constexpr int64_t kControlBytes = 4096;
constexpr int64_t kMailboxBytes = 1 << 20;
constexpr int64_t kWindowBytes = 1 << 20;
// About 20 µs on current machines: longer than a barrier that all ranks reach together, shorter
// than what a sleeping neighbour would lose.
constexpr int kSpins = 2000;

struct Control {
  std::atomic<uint32_t> events;  // even; odd: aborted
  std::atomic<uint32_t> sleepers;
  alignas(64) std::atomic<uint32_t> arrived;    // at the barrier, of all ranks, ever
  alignas(64) std::atomic<uint32_t> mail_sent;  // pieces of mail put into the mailbox, ever
  std::atomic<uint32_t> mail_taken;             // sum over ranks 1.. of pieces taken, ever
  int64_t mail_piece_bytes;                     // of the piece in the mailbox
  int64_t mail_left_bytes;                      // of the same message, after this piece
};
static_assert(sizeof(Control) <= kControlBytes);
static_assert(std::atomic<uint32_t>::is_always_lock_free);

void futex_wait(std::atomic<uint32_t>& word, uint32_t seen) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAIT, seen, nullptr, nullptr, 0);
}

void futex_wake_all(std::atomic<uint32_t>& word) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

class Mapping {
 public:
  Mapping(int fd, int64_t bytes) : bytes_(bytes) {
    // Every rank asks for the same size, so whoever comes first makes room for all.
    struct stat status;
    if (fstat(fd, &status) != 0 || (status.st_size < bytes && ftruncate(fd, bytes) != 0)) {
      throw std::runtime_error("the group's shared memory cannot be sized: " +
                               std::string(std::strerror(errno)));
    }
    void* start =
        mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (start == MAP_FAILED) {
      throw std::runtime_error("the group's shared memory cannot be mapped: " +
                               std::string(std::strerror(errno)));
    }
    start_ = static_cast<std::byte*>(start);
  }
  ~Mapping() { munmap(start_, static_cast<size_t>(bytes_)); }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  std::byte* start() const { return start_; }

 private:
  std::byte* start_ = nullptr;
  int64_t bytes_;
};

kernels::Range share(int64_t count, int worker, int workers) {
  return {count * worker / workers, count * (worker + 1) / workers};
}

class SharedMemory final : public Communicator {
 public:
  SharedMemory(int fd, int rank, int ranks, std::function<void()> on_lost)
      : mapping_(fd, kControlBytes + kMailboxBytes + 2 * ranks * kWindowBytes),
        control_(*reinterpret_cast<Control*>(mapping_.start())),
        rank_(rank),
        ranks_(ranks),
        on_lost_(std::move(on_lost)) {
    assert(rank >= 0 && rank < ranks);
  }

  int rank() const override { return rank_; }
  int ranks() const override { return ranks_; }
  bool lost() const override { return (control_.events.load() & 1) != 0; }

  void all_reduce(float* data, int64_t count, int worker, Workers& workers) override {
    constexpr int64_t kPiece = kWindowBytes / static_cast<int64_t>(sizeof(float));
    for (int64_t begin = 0; begin < count; begin += kPiece) {
      float* piece = data + begin;
      const auto [first, last] = share(std::min(kPiece, count - begin), worker, workers.count());
      const int parity = next_parity(worker, workers);
      std::copy(piece + first, piece + last, floats(rank_, parity) + first);
      meet(worker, workers);
      const float* source = floats(0, parity);
      std::copy(source + first, source + last, piece + first);
      for (int other = 1; other < ranks_; ++other) {
        source = floats(other, parity);
        for (int64_t i = first; i < last; ++i) piece[i] += source[i];
      }
    }
    workers.barrier();
  }

  void all_gather(std::byte* out, const std::byte* in, int64_t bytes, int worker,
                  Workers& workers) override {
    for (int64_t begin = 0; begin < bytes; begin += kWindowBytes) {
      const int64_t size = std::min(kWindowBytes, bytes - begin);
      const auto [first, last] = share(size, worker, workers.count());
      const int parity = next_parity(worker, workers);
      std::copy(in + begin + first, in + begin + last, window(rank_, parity) + first);
      meet(worker, workers);
      for (int other = 0; other < ranks_; ++other) {
        const std::byte* source = window(other, parity);
        std::copy(source + first, source + last, out + other * bytes + begin + first);
      }
    }
    workers.barrier();
  }

  void publish(std::span<const std::byte> bytes) override {
    assert(rank_ == 0);
    const auto others = static_cast<uint32_t>(ranks_ - 1);
    int64_t sent = 0;
    const auto size = static_cast<int64_t>(bytes.size());
    do {
      wait_until([&] { return control_.mail_taken.load() == control_.mail_sent.load() * others; });
      const int64_t piece = std::min(kMailboxBytes, size - sent);
      std::copy_n(bytes.data() + sent, piece, mailbox());
      sent += piece;
      control_.mail_piece_bytes = piece;
      control_.mail_left_bytes = size - sent;
      control_.mail_sent.fetch_add(1);
      announce();
    } while (sent < size);
  }

  std::vector<std::byte> receive() override {
    assert(rank_ > 0);
    std::vector<std::byte> message;
    int64_t left = 0;
    do {
      wait_until([&] { return control_.mail_sent.load() != mail_read_; });
      ++mail_read_;
      message.insert(message.end(), mailbox(), mailbox() + control_.mail_piece_bytes);
      left = control_.mail_left_bytes;
      control_.mail_taken.fetch_add(1);
      announce();
    } while (left > 0);
    return message;
  }

 private:
  std::byte* mailbox() const { return mapping_.start() + kControlBytes; }
  std::byte* window(int rank, int parity) const {
    return mapping_.start() + kControlBytes + kMailboxBytes + (2 * rank + parity) * kWindowBytes;
  }
  float* floats(int rank, int parity) const {
    return reinterpret_cast<float*>(window(rank, parity));
  }

  // Which of the two windows this exchange uses. Worker 0 advances it behind a barrier of the
  // workers, so that all of them read the same value.
  int next_parity(int worker, Workers& workers) {
    workers.barrier();
    if (worker == 0) ++exchanges_;
    workers.barrier();
    return static_cast<int>(exchanges_ & 1);
  }

  // All workers of all ranks have written their share of this exchange.
  void meet(int worker, Workers& workers) {
    workers.barrier();
    if (worker == 0) group_barrier();
    workers.barrier();
  }

  void group_barrier() {
    const auto ranks = static_cast<uint32_t>(ranks_);
    const uint32_t target = ++barriers_ * ranks;
    if (control_.arrived.fetch_add(1) + 1 == target) {
      announce();
    } else {
      // Counters wrap: compare by difference.
      wait_until([&] { return static_cast<int32_t>(control_.arrived.load() - target) >= 0; });
    }
  }

  void announce() {
    control_.events.fetch_add(2);
    if (control_.sleepers.load() != 0) futex_wake_all(control_.events);
  }

  template <class Condition>
  void wait_until(Condition condition) {
    for (int spin = 0; spin < kSpins; ++spin) {
      if (condition()) return;
      __builtin_ia32_pause();
    }
    // The sleeper count is raised before the last look at the condition, and an announcer changes
    // the condition before it reads the count (both sequentially consistent): no wake-up is lost.
    control_.sleepers.fetch_add(1);
    while (true) {
      const uint32_t seen = control_.events.load();
      if ((seen & 1) != 0) {
        on_lost_();
        std::abort();
      }
      if (condition()) break;
      futex_wait(control_.events, seen);
    }
    control_.sleepers.fetch_sub(1);
  }

  Mapping mapping_;
  Control& control_;
  int rank_;
  int ranks_;
  std::function<void()> on_lost_;
  uint64_t exchanges_ = 0;  // of this rank; all ranks make the same ones in the same order
  uint32_t barriers_ = 0;
  uint32_t mail_read_ = 0;
};

}  // namespace

std::unique_ptr<Communicator> make_shared_memory(int group_fd, int rank, int ranks,
                                                 std::function<void()> on_lost) {
  return std::make_unique<SharedMemory>(group_fd, rank, ranks, std::move(on_lost));
}

void abort_group(int group_fd) {
  Mapping page(group_fd, kControlBytes);
  auto& control = *reinterpret_cast<Control*>(page.start());
  control.events.fetch_or(1);
  futex_wake_all(control.events);
}

}  // namespace chorus::comm
