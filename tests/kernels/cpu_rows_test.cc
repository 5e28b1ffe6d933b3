// The CPU backend's row operations: the same bits from every instruction set, also at lengths that
// are no multiple of a vector, and near f64.
#include "kernels/cpu/rows.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <functional>
#include <vector>

#include "kernels/half.h"
#include "kernels/ops.h"
#include "tests/kernels/random_floats.h"

namespace chorus::kernels {
namespace {

using tests::random_floats;

constexpr int64_t kLengths[] = {1, 15, 16, 17, 31, 32, 33, 576, 1000};

std::vector<const CpuKernels*> tables() {
  std::vector<const CpuKernels*> present = {&kScalarKernels};
  if (supported(Isa::avx2)) present.push_back(&kAvx2Kernels);
  if (supported(Isa::avx512)) present.push_back(&kAvx512Kernels);
  return present;
}

// The result of every table for inputs of each length, compared bit for bit; the first is returned.
template <class T>
std::vector<T> agreed(int64_t count, const std::function<void(const CpuKernels&, T*)>& compute) {
  std::vector<T> first;
  for (const CpuKernels* table : tables()) {
    std::vector<T> out(static_cast<size_t>(count));
    compute(*table, out.data());
    if (first.empty()) first = out;
    CHECK(std::memcmp(out.data(), first.data(), out.size() * sizeof(T)) == 0);
  }
  return first;
}

}  // namespace

TEST_CASE("norms agree among instruction sets and with f64") {
  for (const int64_t n : kLengths) {
    CAPTURE(n);
    const auto x = random_floats(n, 1, 2), weight = random_floats(n, 2);
    const auto out = agreed<float>(n, [&](const CpuKernels& table, float* to) {
      table.rms_norm(to, x.data(), weight.data(), n, 1e-5f);
    });
    double squares = 0;
    for (const float value : x) squares += double{value} * value;
    const double rms = std::sqrt(squares / static_cast<double>(n) + 1e-5);
    for (int64_t i = 0; i < n; ++i) {
      CHECK(out[i] == Approx(x[i] / rms * weight[i]).epsilon(1e-5).margin(1e-6));
    }
  }
}

TEST_CASE("gates agree among instruction sets and with f64") {
  for (const int64_t n : kLengths) {
    CAPTURE(n);
    auto gate = random_floats(n, 3, 8);
    const auto up = random_floats(n, 4);
    gate[0] = -200;
    gate[static_cast<size_t>(n / 2)] = 200;
    const auto silu = agreed<float>(n, [&](const CpuKernels& table, float* to) {
      table.silu_gate(to, gate.data(), up.data(), n);
    });
    const auto gelu = agreed<float>(n, [&](const CpuKernels& table, float* to) {
      table.gelu_gate(to, gate.data(), up.data(), n);
    });
    for (int64_t i = 0; i < n; ++i) {
      const double x = gate[i];
      const double u = std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);
      CHECK(silu[i] == Approx(x / (1 + std::exp(-x)) * up[i]).epsilon(1e-5).margin(1e-6));
      CHECK(gelu[i] == Approx(x / (1 + std::exp(-2 * u)) * up[i]).epsilon(1e-5).margin(1e-6));
    }
  }
}

TEST_CASE("softmax leaves out what is outside its range, whatever stands there") {
  for (const int64_t count : {int64_t{1}, int64_t{16}, int64_t{17}, int64_t{90}}) {
    for (const int64_t first : {int64_t{0}, int64_t{5}, int64_t{40}}) {
      if (first >= count) continue;
      CAPTURE(count, first);
      auto scores = random_floats(96, 5, 20);
      for (int64_t i = 0; i < 96; ++i) {
        if (i < first || i >= count) scores[i] = NAN;
      }
      const auto out = agreed<float>(97, [&](const CpuKernels& table, float* to) {
        std::memcpy(to, scores.data(), 96 * 4);
        to[96] = table.softmax(to, first, count);
      });
      double largest = -INFINITY, total = 0;
      for (int64_t i = first; i < count; ++i) largest = std::max<double>(largest, scores[i]);
      for (int64_t i = first; i < count; ++i) total += std::exp(scores[i] - largest);
      CHECK(out[96] == Approx(total).epsilon(1e-5));
      for (int64_t i = first / 16 * 16; i < (count + 15) / 16 * 16; ++i) {
        const bool inside = i >= first && i < count;
        const double expected = inside ? std::exp(scores[i] - largest) : 0;
        CHECK(out[i] == Approx(expected).epsilon(1e-5).margin(1e-30));
      }
    }
  }
}

TEST_CASE("every f32 near a half rounds as the conversion spelt out in bits does") {
  std::vector<float> values;
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = f16_to_f32(static_cast<uint16_t>(bits));
    if (std::isnan(value)) continue;
    values.push_back(value);
    values.push_back(std::nextafter(value, INFINITY));
    values.push_back(std::isfinite(value) ? value * 1.00048828125f : value);  // half an ulp up
  }
  const auto n = static_cast<int64_t>(values.size());
  const auto halves = agreed<uint16_t>(
      n, [&](const CpuKernels& table, uint16_t* to) { table.to_f16(to, values.data(), n); });
  int64_t wrong = 0;
  for (int64_t i = 0; i < n; ++i) wrong += halves[i] != f32_to_f16(values[i]);
  CHECK(wrong == 0);
}

TEST_CASE("rotation agrees among instruction sets and with f64") {
  for (const int64_t half : {int64_t{8}, int64_t{16}, int64_t{24}, int64_t{40}, int64_t{64}}) {
    const auto x = random_floats(2 * half, 6);
    const auto cosines = random_floats(half, 7), sines = random_floats(half, 8);
    const auto out = agreed<float>(2 * half, [&](const CpuKernels& table, float* to) {
      std::memcpy(to, x.data(), x.size() * 4);
      table.rotate(to, cosines.data(), sines.data(), half, 0.125f);
    });
    for (int64_t i = 0; i < half; ++i) {
      const double a = x[i], b = x[half + i], c = cosines[i], s = sines[i];
      CHECK(out[i] == Approx((a * c - b * s) / 8).margin(1e-6));
      CHECK(out[half + i] == Approx((b * c + a * s) / 8).margin(1e-6));
    }
  }
}

TEST_CASE("every chunk of a phase is run once, after all of the phase before") {
  Workers workers(3);
  for (int repeat = 0; repeat < 300; ++repeat) {
    std::vector<int> first(50), second(7);
    const Phase one = cut_phase(
        [] {
          return Cut{50, 3};
        },
        [&](int64_t i, int) { ++first[static_cast<size_t>(i)]; });
    const Phase none = cut_phase([] { return Cut{0, 1}; }, [&](int64_t, int) { ++first[0]; });
    const Phase two = cut_phase(
        [] {
          return Cut{7, 1};
        },
        [&](int64_t i, int) {
          for (size_t j = 0; j < 7; ++j) second[static_cast<size_t>(i)] += first[7 * j];
        });
    workers.run({one, none, two, none});
    CHECK(first == std::vector<int>(50, 1));
    CHECK(second == std::vector<int>(7, 7));
    workers.run({});
  }
}

TEST_CASE("all workers meet in a phase of their number") {
  Workers workers(3);
  std::vector<int> before(3), seen(3);
  Phase gang;
  gang.chunks = [] { return 3; };
  gang.run = [&](int64_t place, int) {
    before[static_cast<size_t>(place)] += 1;
    workers.barrier();
    seen[static_cast<size_t>(place)] = before[0] + before[1] + before[2];
    workers.barrier();
  };
  for (int repeat = 1; repeat <= 200; ++repeat) {
    workers.run({gang});
    CHECK(seen == std::vector<int>(3, 3 * repeat));
  }
}

TEST_CASE("what a chunk throws ends the run on all workers and every later run") {
  Workers workers(3);
  Phase failing;
  failing.chunks = [] { return 3; };
  failing.run = [&](int64_t place, int) {
    workers.barrier();
    if (place == 2) throw std::runtime_error("a peer is gone");
    workers.barrier();
  };
  CHECK_THROWS_WITH(workers.run({failing}), "a peer is gone");
  CHECK_THROWS_WITH(workers.run({}), "a peer is gone");
}

}  // namespace chorus::kernels
