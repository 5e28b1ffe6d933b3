// A group of ranks that are threads of the test: the Collective of a backend without processes.
#pragma once

#include <algorithm>
#include <barrier>
#include <functional>
#include <thread>
#include <vector>

#include "kernels/collective.h"

namespace chorus::tests {

class RankGroup {
 public:
  explicit RankGroup(int ranks) : barrier_(ranks), parts_(static_cast<size_t>(ranks)) {}

  class Rank final : public kernels::Collective {
   public:
    Rank(RankGroup& group, int rank) : group_(group), rank_(rank) {}
    int rank() const override { return rank_; }
    int ranks() const override { return static_cast<int>(group_.parts_.size()); }
    void all_reduce(float* data, int64_t count, int worker, Workers& workers) override {
      const std::vector<float> own(data, data + count);
      exchange(own.data(), worker, workers, [&] {
        for (int64_t i = 0; i < count; ++i) {
          float sum = static_cast<const float*>(group_.parts_[0])[i];
          for (size_t r = 1; r < group_.parts_.size(); ++r) {
            sum += static_cast<const float*>(group_.parts_[r])[i];
          }
          data[i] = sum;
        }
      });
    }
    void all_gather(std::byte* out, const std::byte* in, int64_t bytes, int worker,
                    Workers& workers) override {
      exchange(in, worker, workers, [&] {
        for (size_t r = 0; r < group_.parts_.size(); ++r) {
          const auto* part = static_cast<const std::byte*>(group_.parts_[r]);
          std::byte* to = out + static_cast<int64_t>(r) * bytes;
          if (to != part) std::copy(part, part + bytes, to);  // the others read what is shown
        }
      });
    }

   private:
    // Worker 0 shows its rank's data to the others, takes what it wants, and waits until all have.
    template <class Take>
    void exchange(const void* data, int worker, Workers& workers, const Take& take) {
      workers.barrier();
      if (worker == 0) {
        group_.parts_[static_cast<size_t>(rank_)] = data;
        group_.barrier_.arrive_and_wait();
        take();
        group_.barrier_.arrive_and_wait();
      }
      workers.barrier();
    }
    RankGroup& group_;
    int rank_;
  };

 private:
  std::barrier<> barrier_;
  std::vector<const void*> parts_;
};

// Runs job(rank's collective) on one thread a rank.
inline void on_ranks(int ranks, const std::function<void(kernels::Collective&)>& job) {
  RankGroup group(ranks);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&, rank] {
      RankGroup::Rank own(group, rank);
      job(own);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace chorus::tests
