// Ranks as threads over one memory file; the abort as a process, since a lost group ends one.
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <future>
#include <string>
#include <thread>
#include <vector>

#include "shard/comm/communicator.h"

using namespace chorus;

namespace {

class Barrier final : public kernels::Collective::Workers {
 public:
  explicit Barrier(int count) : count_(count) {}
  int count() const override { return count_; }
  void barrier() override {
    const int target = round_.load();
    if (arrived_.fetch_add(1) + 1 == count_) {
      arrived_ = 0;
      round_.fetch_add(1);
    } else {
      while (round_.load() == target) std::this_thread::yield();
    }
  }

 private:
  int count_;
  std::atomic<int> arrived_{0}, round_{0};
};

struct Group {
  int fd = memfd_create("chorus-test", MFD_CLOEXEC);
  ~Group() { close(fd); }

  template <class Work>
  void run(int ranks, Work work) {
    std::vector<std::thread> threads;
    for (int rank = 0; rank < ranks; ++rank) {
      threads.emplace_back([this, rank, ranks, &work] {
        auto communicator = comm::make_shared_memory(fd, rank, ranks, [] { std::abort(); });
        work(*communicator);
      });
    }
    for (auto& thread : threads) thread.join();
  }
};

}  // namespace

TEST_CASE("all_reduce sums whole numbers exactly on every rank, by several workers") {
  const int ranks = GENERATE(1, 2, 3, 5);
  const int workers = GENERATE(1, 2);
  const int64_t count = GENERATE(1, 17, 300000);
  Group group;
  std::atomic<int> wrong{0};
  group.run(ranks, [&](comm::Communicator& communicator) {
    std::vector<float> data(count);
    for (int round = 0; round < 3; ++round) {
      for (int64_t i = 0; i < count; ++i) {
        data[i] = static_cast<float>(i % 97 + communicator.rank() + round);
      }
      Barrier barrier(workers);
      std::vector<std::thread> threads;
      for (int worker = 0; worker < workers; ++worker) {
        threads.emplace_back(
            [&, worker] { communicator.all_reduce(data.data(), count, worker, barrier); });
      }
      for (auto& thread : threads) thread.join();
      for (int64_t i = 0; i < count; ++i) {
        const auto expected =
            static_cast<float>(ranks * (i % 97 + round) + ranks * (ranks - 1) / 2);
        if (data[i] != expected) ++wrong;
      }
    }
  });
  CHECK(wrong == 0);
}

TEST_CASE("all_gather puts every rank's bytes in rank order") {
  const int64_t bytes = GENERATE(1, 4096, (1 << 20) + 13);
  Group group;
  std::atomic<int> wrong{0};
  group.run(3, [&](comm::Communicator& communicator) {
    std::vector<std::byte> in(bytes, std::byte(communicator.rank() + 1)), out(3 * bytes);
    communicator.all_gather(out.data(), in.data(), bytes);
    for (int64_t i = 0; i < 3 * bytes; ++i) wrong += out[i] != std::byte(i / bytes + 1);
  });
  CHECK(wrong == 0);
}

TEST_CASE("published messages of any size arrive whole and in order") {
  Group group;
  const std::vector<size_t> sizes = {0, 1, 100, 3 << 20, 5};
  std::atomic<int> wrong{0};
  group.run(3, [&](comm::Communicator& communicator) {
    for (size_t size : sizes) {
      if (communicator.rank() == 0) {
        communicator.publish(std::vector<std::byte>(size, std::byte(size % 251)));
      } else {
        wrong += communicator.receive() != std::vector<std::byte>(size, std::byte(size % 251));
      }
    }
  });
  CHECK(wrong == 0);
}

TEST_CASE("an aborted group releases a rank that waits for a lost one") {
  Group group;
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {  // rank 1 waits for a message that never comes
    auto communicator = comm::make_shared_memory(group.fd, 1, 2, [] { _exit(70); });
    communicator->receive();
    _exit(0);
  }
  comm::abort_group(group.fd);
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 70);
}
