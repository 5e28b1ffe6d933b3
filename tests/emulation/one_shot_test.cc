// The one-shot all-reduce: several ranks, each with a window in memory that all of them reach, over
// more rounds than there are buffers and with blocks that come and go.
#include "kernels/cuda/one_shot.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <functional>
#include <iostream>
#include <random>
#include <thread>
#include <vector>

#include "kernels/cuda/rows.h"
#include "kernels/half.h"
#include "tests/emulation/schedules.h"

using namespace chorus;
using namespace chorus::tests;
using kernels::DType;
using kernels::View;

namespace {

constexpr float kEps = 1e-5F;

struct Round {
  int64_t rows, live;
  bool norm;
};

// ThreadSanitizer's threads are dear, and what it looks for does not depend on their number.
#if defined(__SANITIZE_THREAD__)
constexpr bool kFewThreads = true;
#else
constexpr bool kFewThreads = false;
#endif

// Rows 1 to 9, some of them dead, up and down.
std::vector<Round> many_rounds() {
  std::vector<int64_t> counts = {1, 9, 1, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 1, 9};
  if (kFewThreads) counts = {1, 3, 1, 1, 2, 3};
  std::vector<Round> rounds;
  for (const int64_t rows : counts) {
    const auto round = std::ssize(rounds);
    rounds.push_back(
        {.rows = rows, .live = round % 5 == 4 ? rows / 2 : rows, .norm = round % 3 != 1});
  }
  return rounds;
}

// What one rank has of a round.
struct Part {
  std::vector<float> x, residual, out;  // `out` holds `type`'s elements
  bool operator==(const Part& other) const {
    const auto same = [](const std::vector<float>& a, const std::vector<float>& b) {
      return std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
    };
    return same(x, other.x) && same(residual, other.residual) && same(out, other.out);
  }
};

struct Case {
  int ranks;
  int64_t cols;
  DType type;  // of what norms write
  std::vector<Round> rounds;
};

class Ranks {
 public:
  explicit Ranks(Case c) : case_(std::move(c)) {
    std::mt19937 generator(case_.ranks * 1000 + static_cast<int>(case_.cols));
    std::uniform_real_distribution<float> numbers(-1, 1);
    const auto fill = [&](std::vector<float>& values, int64_t count, float scale) {
      for (int64_t i = 0; i < count; ++i) values.push_back(scale * numbers(generator));
    };
    fill(weight_, case_.cols, 2);
    for (const Round& round : case_.rounds) {
      const int64_t count = round.rows * case_.cols;
      std::vector<float> residual;
      fill(residual, count, 1);
      auto& parts = given_.emplace_back();
      for (int rank = 0; rank < case_.ranks; ++rank) {
        Part& part = parts.emplace_back();
        // The order in which these are added shows.
        fill(part.x, count, rank % 3 == 1 ? 1e3F : 1);
        part.residual = residual;  // the same on all ranks
        part.out.assign(static_cast<size_t>(count), std::numeric_limits<float>::quiet_NaN());
      }
      live_.push_back(static_cast<int32_t>(round.live));
    }
  }

  // All rounds on all ranks.
  std::vector<std::vector<Part>> run() {
    auto parts = given_;
    std::vector<kernels::cuda::Memory> memory;
    std::vector<void*> windows;
    for (int rank = 0; rank < case_.ranks; ++rank) {
      memory.push_back(kernels::cuda::allocate(kernels::cuda::OneShot::window_bytes()));
      windows.push_back(memory.back().get());
    }
    std::vector<kernels::cuda::OneShot> ranks;
    for (int rank = 0; rank < case_.ranks; ++rank) ranks.emplace_back(rank, windows);
    const auto launch_all = [&](int rank, cudaStream_t stream) {
      for (size_t i = 0; i < case_.rounds.size(); ++i) {
        Part& part = parts[i][static_cast<size_t>(rank)];
        const auto& one_shot = ranks[static_cast<size_t>(rank)];
        if (case_.rounds[i].norm) {
          one_shot.all_reduce_add_rms_norm(view(part.out, i, case_.type), view(part.residual, i),
                                           view(part.x, i), weight_.data(), kEps, stream);
        } else {
          one_shot.all_reduce(view(part.x, i), stream);
        }
      }
    };
    on_devices(launch_all);
    return parts;
  }

  // The same from sums of our own and the norm that stands alone.
  std::vector<std::vector<Part>> expected() {
    auto parts = given_;
    for (size_t i = 0; i < parts.size(); ++i) {
      std::vector<float> sum = given_[i][0].x;
      for (size_t rank = 1; rank < parts[i].size(); ++rank) {
        for (size_t n = 0; n < sum.size(); ++n) sum[n] += given_[i][rank].x[n];
      }
      const auto live = static_cast<size_t>(case_.rounds[i].live * case_.cols);
      for (Part& part : parts[i]) {
        if (case_.rounds[i].norm) {
          kernels::cuda::add_rms_norm(view(part.out, i, case_.type), view(part.residual, i),
                                      view(sum, i), weight_.data(), kEps, nullptr);
        } else {
          std::memcpy(part.x.data(), sum.data(), live * sizeof(float));
        }
      }
      wait_for_device();
    }
    return parts;
  }

  // The largest error of norms and sums against f64, relative to what a row has at most.
  double error(const std::vector<std::vector<Part>>& found) const {
    double worst = 0;
    for (size_t i = 0; i < found.size(); ++i) {
      for (int64_t row = 0; row < case_.rounds[i].live; ++row) {
        worst = std::max(worst, row_error(found[i], i, row));
      }
    }
    return worst;
  }

 private:
  View view(std::vector<float>& values, size_t round, DType type = DType::f32) {
    return {values.data(), type, case_.rounds[round].rows, case_.cols, &live_[round]};
  }

  // Runs `launch_all` as on as many devices.
  void on_devices(const std::function<void(int, cudaStream_t)>& launch_all) const {
#ifdef CHORUS_ON_DEVICE
    std::vector<std::thread> threads;
    for (int rank = 0; rank < case_.ranks; ++rank) {
      threads.emplace_back([&, rank] {
        const kernels::cuda::Stream stream;
        launch_all(rank, stream.get());
        kernels::cuda::wait_for(stream.get());
      });
    }
    for (auto& thread : threads) thread.join();
#else
    std::vector<std::function<void()>> devices;
    for (int rank = 0; rank < case_.ranks; ++rank) {
      devices.emplace_back([&, rank] { launch_all(rank, nullptr); });
    }
    emulate::run_together(devices);
#endif
  }

  double row_error(const std::vector<Part>& parts, size_t i, int64_t row) const {
    const auto cols = static_cast<size_t>(case_.cols), first = static_cast<size_t>(row) * cols;
    std::vector<double> wanted(cols);
    double squares = 0, most = 0, worst = 0;
    for (size_t c = 0; c < cols; ++c) {
      for (const Part& part : given_[i]) wanted[c] += static_cast<double>(part.x[first + c]);
      if (case_.rounds[i].norm) wanted[c] += static_cast<double>(given_[i][0].residual[first + c]);
      squares += wanted[c] * wanted[c];
    }
    const double factor = 1 / std::sqrt(squares / static_cast<double>(cols) + double{kEps});
    for (size_t c = 0; c < cols; ++c) {
      if (case_.rounds[i].norm) wanted[c] *= factor * static_cast<double>(weight_[c]);
      most = std::max(most, std::abs(wanted[c]));
    }
    for (const Part& part : parts) {
      for (size_t c = 0; c < cols; ++c) {
        const double is = case_.rounds[i].norm ? element(part.out, first + c)
                                               : static_cast<double>(part.x[first + c]);
        worst = std::max(worst, std::abs(is - wanted[c]));
      }
    }
    return worst / most;
  }

  double element(const std::vector<float>& values, size_t i) const {
    if (case_.type == DType::f32) return static_cast<double>(values[i]);
    uint16_t bits = 0;
    std::memcpy(&bits, reinterpret_cast<const char*>(values.data()) + 2 * i, 2);
    return static_cast<double>(case_.type == DType::f16 ? kernels::f16_to_f32(bits)
                                                        : kernels::bf16_to_f32(bits));
  }

  Case case_;
  std::vector<float> weight_;
  std::vector<std::vector<Part>> given_;  // by round and rank
  std::vector<int32_t> live_;
};

// Bits of the sum in the order of ranks and of the norm that stands alone, whatever the schedule.
void check(Case c) {
  CAPTURE(c.ranks, c.cols, static_cast<int>(c.type));
  const double bound = c.type == DType::bf16 ? 5e-3 : c.type == DType::f16 ? 1e-3 : 1e-5;
  Ranks ranks(std::move(c));
  const auto expected = ranks.expected();
  for (const auto& schedule : schedules()) {
    use(schedule);
    const auto found = ranks.run();
    CHECK(found == expected);
    CHECK(ranks.error(found) <= bound);
  }
  use({});
}

// Several ranks on one GPU are streams of this process, which do not wait for each other's launches
// when the test says so.
bool can_run_together() {
#ifdef CHORUS_ON_DEVICE
  const char* blocking = std::getenv("CUDA_LAUNCH_BLOCKING");
  if (blocking == nullptr || std::string(blocking) != "0") {
    std::cout << "chorus-skip: several ranks on one GPU need CUDA_LAUNCH_BLOCKING=0\n";
    return false;
  }
#endif
  return true;
}

}  // namespace

TEST_CASE("a one-shot all-reduce of one rank is a copy, and the norm behind it the norm") {
  check({.ranks = 1, .cols = 64, .type = DType::bf16, .rounds = many_rounds()});
  if (kFewThreads) return;
  check({.ranks = 1,
         .cols = 264,  // two warps
         .type = DType::f32,
         .rounds = {{34, 34, true}, {70, 69, true}}});
}

TEST_CASE("one-shot all-reduces of 2, 4 and 8 ranks add in the order of ranks") {
  if (!can_run_together()) return;
  check({.ranks = 2, .cols = 64, .type = DType::f32, .rounds = many_rounds()});
  check({.ranks = 3, .cols = 248, .type = DType::f16, .rounds = many_rounds()});
  check({.ranks = 4, .cols = 72, .type = DType::bf16, .rounds = many_rounds()});
  check({.ranks = 8, .cols = 8, .type = DType::f32, .rounds = many_rounds()});
}

TEST_CASE("one-shot all-reduces of rows that fill a block, or of more rows than blocks") {
  if (!can_run_together()) return;
  const std::vector<Round> wide = {{1, 1, true}, {1, 1, false}, {2, 2, true}, {2, 1, true}};
  check({.ranks = 2, .cols = 1000, .type = DType::bf16, .rounds = wide});
  if (kFewThreads) return;
  check({.ranks = 2,
         .cols = 8208,  // two groups a thread
         .type = DType::f32,
         .rounds = {{1, 1, true}, {1, 1, false}, {1, 1, true}, {1, 1, true}}});
  check({.ranks = 2,
         .cols = 16,
         .type = DType::f16,
         .rounds = {{33, 33, true}, {70, 40, true}, {70, 65, false}, {2, 2, true}, {33, 0, true}}});
}

TEST_CASE("a one-shot all-reduce takes what counts by latency") {
  using kernels::cuda::OneShot;
  CHECK(OneShot::takes(1, 16384));
  CHECK(OneShot::takes(4, 16384));
  CHECK_FALSE(OneShot::takes(5, 16384));
  CHECK(OneShot::takes(128, 512));
  CHECK_FALSE(OneShot::takes(129, 8));
  CHECK_FALSE(OneShot::takes(1, 100));
}
