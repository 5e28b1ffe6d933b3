// The choice of experts and their feed-forward layers, on every backend: near sums in f64, and a
// token's result the same bits alone as among others, on any number of threads.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <map>
#include <numeric>

#include "tests/kernels/backends.h"
#include "tests/kernels/random_weights.h"

using namespace chorus;
using namespace chorus::tests;
using kernels::Gate;
using kernels::RouterScore;

namespace {

std::vector<int32_t> read_ids(Bench& bench, const View& view, int64_t rows) {
  std::vector<int32_t> values(static_cast<size_t>(rows * view.cols));
  bench.ops().download(values.data(), view, 0, rows * view.cols * 4);
  return values;
}

struct Routed {
  std::vector<int32_t> ids;
  std::vector<float> weights;
};
Routed route(const Backend& backend, const std::vector<float>& logits, int64_t experts,
             int64_t chosen, RouterScore score, bool normalised) {
  Bench bench(backend.make(2));
  const auto rows = static_cast<int64_t>(logits.size()) / experts;
  const auto* live = bench.live(static_cast<int32_t>(rows));
  const View in = bench.floats(logits, rows + 3, experts, live);
  const View ids = bench.integers({}, rows + 3, chosen, live);
  const View weights = bench.floats(rows + 3, chosen, live);
  bench.run([&] { bench.ops().route_experts({in, ids, weights, score, normalised}); });
  return {read_ids(bench, ids, rows), bench.read(weights, rows)};
}

struct Case {
  int64_t experts, chosen, hidden, ffn;
  Gate gate = Gate::silu;
  bool weigh_input = false, add = false;
  int64_t first_col = 0;  // of the slice that `down` is of its source
};

class Mixture {
 public:
  Mixture(const TypeFacts& facts, const Case& shape) : shape_(shape) {
    for (int64_t e = 0; e < shape.experts; ++e) {
      const auto seed = static_cast<uint32_t>(3 * e);
      gate_up_.push_back(random_matrix(facts, 2 * shape.ffn, shape.hidden, 100 + seed));
      const int64_t cols = (shape.first_col + shape.ffn + 255) / 256 * 256;
      down_.push_back(random_matrix(facts, shape.hidden, cols, 101 + seed));
    }
  }

  // Of tokens [first, first + rows), each with its own choice of experts.
  std::vector<float> compute(Bench& bench, int64_t first, int64_t rows) const {
    auto& ops = bench.ops();
    kernels::ExpertsArgs args;
    for (const auto& matrix : gate_up_) args.gate_up.push_back(ops.prepare({{matrix.part()}}));
    for (const auto& matrix : down_) {
      auto part = matrix.part();
      part.cols = {shape_.first_col, shape_.first_col + shape_.ffn};
      args.down.push_back(ops.prepare({{part}}));
    }
    std::vector<float> x, weights, before;
    std::vector<int32_t> ids;
    for (int64_t t = first; t < first + rows; ++t) {
      for (int64_t i = 0; i < shape_.hidden; ++i) x.push_back(input(t, i));
      for (int64_t i = 0; i < shape_.hidden; ++i) before.push_back(old(t, i));
      for (int64_t i = 0; i < shape_.chosen; ++i) {
        ids.push_back(static_cast<int32_t>(expert(t, i)));
        weights.push_back(weight(t, i));
      }
    }
    const auto* live = bench.live(static_cast<int32_t>(rows));
    args.x = bench.floats(x, rows + 2, shape_.hidden, live);
    args.out = bench.floats(before, rows + 2, shape_.hidden, live);
    args.experts = bench.integers(ids, rows + 2, shape_.chosen, live);
    args.weights = bench.floats(weights, rows + 2, shape_.chosen, live);
    args.gate = shape_.gate;
    args.weigh_input = shape_.weigh_input;
    args.add = shape_.add;
    bench.run([&] { ops.experts(args); });
    return bench.read(args.out, rows);
  }

  double expected(int64_t token, int64_t col) const {
    double sum = shape_.add ? old(token, col) : 0;
    for (int64_t i = 0; i < shape_.chosen; ++i) {
      const auto e = static_cast<size_t>(expert(token, i));
      const double in = shape_.weigh_input ? weight(token, i) : 1;
      double part = 0;
      for (int64_t f = 0; f < shape_.ffn; ++f) {
        double gate = 0, up = 0;
        for (int64_t h = 0; h < shape_.hidden; ++h) {
          gate += in * gate_up_[e].at(f, h) * input(token, h);
          up += in * gate_up_[e].at(shape_.ffn + f, h) * input(token, h);
        }
        const double cubic = std::sqrt(2 / M_PI) * (gate + 0.044715 * gate * gate * gate);
        const double active = shape_.gate == Gate::silu ? gate / (1 + std::exp(-gate))
                                                        : gate * 0.5 * (1 + std::tanh(cubic));
        part += down_[e].at(col, shape_.first_col + f) * active * up;
      }
      sum += (shape_.weigh_input ? 1 : weight(token, i)) * part;
    }
    return sum;
  }

 private:
  // Token 5 and later ones all want the same experts; the earlier ones differ.
  int64_t expert(int64_t token, int64_t i) const {
    const int64_t turn = token < 5 ? token : 5;
    std::vector<int64_t> ids;
    for (int64_t k = 0; k < shape_.chosen; ++k) ids.push_back((3 * turn + k) % shape_.experts);
    std::sort(ids.begin(), ids.end());
    return ids[static_cast<size_t>(i)];
  }
  float weight(int64_t token, int64_t i) const {
    return 0.1F + 0.05F * static_cast<float>((token + 2 * i) % 7);
  }
  float input(int64_t token, int64_t i) const {
    return static_cast<float>(std::sin(static_cast<double>(token * 37 + i * i))) * 0.3F;
  }
  float old(int64_t token, int64_t i) const { return static_cast<float>((token + i) % 5); }

  Case shape_;
  std::vector<SourceMatrix> gate_up_, down_;
};

constexpr Case kCases[] = {{4, 2, 64, 32},
                           {8, 1, 33, 31, Gate::gelu_tanh, true, true},
                           {5, 5, 32, 96},
                           {16, 3, 40, 17, Gate::silu, false, true}};

}  // namespace

TEST_CASE("the router chooses the largest logits and weighs them by softmax or sigmoid") {
  const int64_t experts = 12;
  const auto logits = random_floats(33 * experts, 5, 2);
  for (const RouterScore score : {RouterScore::softmax, RouterScore::sigmoid}) {
    for (const int64_t chosen : {1, 4, 12}) {
      for (const bool normalised : {false, true}) {
        for (const Backend& backend : backends()) {
          CAPTURE(backend.name, chosen, normalised);
          const auto got = route(backend, logits, experts, chosen, score, normalised);
          for (int64_t t = 0; t < 33; ++t) {
            const float* row = logits.data() + t * experts;
            std::vector<int32_t> order(static_cast<size_t>(experts));
            std::iota(order.begin(), order.end(), 0);
            std::stable_sort(order.begin(), order.end(),
                             [&](int32_t a, int32_t b) { return row[a] > row[b]; });
            std::sort(order.begin(), order.begin() + chosen);
            double all = 0, kept = 0;
            const auto value = [&](int32_t id) {
              return score == RouterScore::softmax ? std::exp(static_cast<double>(row[id]))
                                                   : 1 / (1 + std::exp(-double{row[id]}));
            };
            for (int32_t id = 0; id < experts; ++id) all += value(id);
            if (score == RouterScore::sigmoid) all = 1;
            for (int64_t i = 0; i < chosen; ++i) kept += value(order[static_cast<size_t>(i)]);
            for (int64_t i = 0; i < chosen; ++i) {
              const auto at = static_cast<size_t>(t * chosen + i);
              const int32_t id = order[static_cast<size_t>(i)];
              REQUIRE(got.ids[at] == id);
              REQUIRE(got.weights[at] == Approx(value(id) / (normalised ? kept : all)));
            }
          }
        }
      }
    }
  }
}

TEST_CASE("of equal logits the router takes the first experts") {
  for (const Backend& backend : backends()) {
    const auto got = route(backend, {1, 2, 1, 2, 1, 0}, 6, 4, RouterScore::softmax, true);
    CHECK(got.ids == std::vector<int32_t>{0, 1, 2, 3});
  }
}

TEST_CASE("experts give the weighted sum of their feed-forward layers") {
  for (const Case& shape : kCases) {
    for (const TypeFacts& facts : {kTypes[0], kTypes[2]}) {
      const Mixture mixture(facts, shape);
      for (const Backend& backend : backends()) {
        CAPTURE(backend.name, shape.experts, facts.name);
        Bench bench(backend.make(2));
        const auto out = mixture.compute(bench, 0, 33);
        for (int64_t i = 0; i < static_cast<int64_t>(out.size()); i += 7) {
          const double right = mixture.expected(i / shape.hidden, i % shape.hidden);
          CAPTURE(i);
          REQUIRE(std::fabs(out[static_cast<size_t>(i)] - right) <= 1e-5 * (1 + std::fabs(right)));
        }
      }
    }
  }
}

TEST_CASE("experts of quantised weights are near and do not depend on other tokens") {
  const Case shape{6, 2, 256, 200, Gate::silu, false, false, 40};
  for (const TypeFacts& facts : kTypes) {
    const Mixture mixture(facts, shape);
    std::map<size_t, double> right;  // some elements of the result
    for (int64_t i = 0; i < 33 * shape.hidden; i += 397) {
      right[static_cast<size_t>(i)] = mixture.expected(i / shape.hidden, i % shape.hidden);
    }
    std::vector<float> cpu;  // of all instruction sets
    for (const Backend& backend : backends()) {
      CAPTURE(backend.name, facts.name);
      Bench bench(backend.make(1));
      const auto all = mixture.compute(bench, 0, 33);
      for (const int64_t rows : {0, 1, 2, 8, 17}) {
        Bench other(backend.make(2));
        const int64_t first = (33 - rows) / 2;
        REQUIRE(same_bits(mixture.compute(other, first, rows),
                          {all.begin() + first * 256, all.begin() + (first + rows) * 256}));
      }
      if (!backend.exact_inputs) {
        if (cpu.empty()) cpu = all;
        REQUIRE(same_bits(cpu, all));
      }
      double error = 0, size = 0;
      for (const auto& [at, value] : right) {
        error = std::max(error, std::fabs(all[at] - value));
        size = std::max(size, std::fabs(value));
      }
      REQUIRE(error <= (backend.exact_inputs ? 1e-5 : 1e-3) * size);
    }
  }
}

TEST_CASE("a soft cap bends values towards the cap and keeps small ones") {
  for (const Backend& backend : backends()) {
    CAPTURE(backend.name);
    Bench bench(backend.make(2));
    const auto values = random_floats(3 * 1500, 6, 40);
    const View x = bench.floats(values, 4, 1500, bench.live(3));
    bench.run([&] { bench.ops().soft_cap(x, 30); });
    const auto got = bench.read(x, 3);
    for (size_t i = 0; i < got.size(); ++i) {
      REQUIRE(got[i] == Approx(30 * std::tanh(values[i] / 30.0)).margin(1e-5));
    }
  }
}
