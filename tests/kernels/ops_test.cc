// Every operation on every backend: near sums in f64, the same bits from all instruction sets, from
// one and two threads, and for a row alone as for a row among others.
#include "kernels/ops.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <map>

#include "tests/kernels/backends.h"
#include "tests/kernels/random_weights.h"

using namespace chorus;
using namespace chorus::tests;
using kernels::Gate;

namespace {

constexpr int64_t kRowCounts[] = {0, 1, 2, 3, 5, 16, 17, 33};

// `compute(bench, x, rows)` gives out[rows, out_cols] for x[rows, x_cols], row by row: a function
// of each row alone.
using RowWise = std::function<std::vector<float>(Bench&, const std::vector<float>&, int64_t)>;

// Runs `compute` on all backends and all row counts; returns the reference backend's 33 rows and
// checks bits: alone = in a batch, 1 thread = 2 threads, one instruction set = another.
std::map<std::string, std::vector<float>> agreed(const RowWise& compute, int64_t x_cols,
                                                 float spread = 1) {
  const auto x = random_floats(33 * x_cols, 99, spread);
  std::map<std::string, std::vector<float>> results;
  for (const Backend& backend : backends()) {
    for (const int threads : {1, 2}) {
      CAPTURE(backend.name, threads);
      Bench bench(backend.make(threads));
      const auto all = compute(bench, x, 33);
      const auto cols = static_cast<int64_t>(all.size()) / 33;
      for (const int64_t rows : kRowCounts) {
        CAPTURE(rows);
        const int64_t first = (33 - rows) / 2;  // rows from the middle: other places in tiles
        const std::vector<float> some(x.begin() + first * x_cols,
                                      x.begin() + (first + rows) * x_cols);
        const auto out = compute(bench, some, rows);
        REQUIRE(same_bits(out, {all.begin() + first * cols, all.begin() + (first + rows) * cols}));
      }
      const std::string key = backend.exact_inputs ? backend.name : "cpu";
      if (results.count(key) == 0) results[key] = all;
      REQUIRE(same_bits(results[key], all));
    }
  }
  return results;
}

void check_near(const std::map<std::string, std::vector<float>>& results,
                const std::function<double(int64_t)>& expected, double tolerance) {
  for (const auto& [name, out] : results) {
    CAPTURE(name);
    for (size_t i = 0; i < out.size(); ++i) {
      CAPTURE(i);
      const double value = expected(static_cast<int64_t>(i));
      REQUIRE(std::isfinite(out[i]));
      REQUIRE(std::fabs(out[i] - value) <= tolerance * (1 + std::fabs(value)));
    }
  }
}

double silu(double x) {
  return x / (1 + std::exp(-x));
}
double gelu_tanh(double x) {
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

}  // namespace

TEST_CASE("rms_norm divides by the root of the mean square, in place or not") {
  for (const int64_t cols : {1, 31, 32, 33, 576}) {
    CAPTURE(cols);
    const auto weight = random_floats(cols, 1);
    for (const bool in_place : {false, true}) {
      const auto results = agreed(
          [&](Bench& bench, const std::vector<float>& values, int64_t rows) {
            const View x = bench.floats(values, rows + 2, cols, bench.live(static_cast<int>(rows)));
            const View out = in_place ? x : bench.floats(rows + 2, cols, x.live_rows);
            const Weight w = bench.vector(weight);
            bench.run([&] { bench.ops().rms_norm(out, x, w, 1e-5F); });
            return bench.read(out, rows);
          },
          cols);
      const auto x = random_floats(33 * cols, 99);
      check_near(
          results,
          [&](int64_t i) {
            double squares = 0;
            for (int64_t c = 0; c < cols; ++c) {
              const double value = x[static_cast<size_t>(i / cols * cols + c)];
              squares += value * value;
            }
            const double rms = std::sqrt(squares / static_cast<double>(cols) + 1e-5);
            return x[static_cast<size_t>(i)] / rms * weight[static_cast<size_t>(i % cols)];
          },
          1e-6);
    }
  }
}

TEST_CASE("add_rms_norm keeps the sum and norms it") {
  constexpr int64_t kCols = 576;
  const auto weight = random_floats(kCols, 1);
  const auto results = agreed(
      [&](Bench& bench, const std::vector<float>& values, int64_t rows) {
        // The residual of a row is a function of its input, so that rows may stand anywhere.
        std::vector<float> residual_values = values;
        for (float& value : residual_values) value = value * 3 + 1;
        const auto* live = bench.live(static_cast<int>(rows));
        const View x = bench.floats(values, rows + 1, kCols, live);
        const View residual = bench.floats(residual_values, rows + 1, kCols, live);
        const View out = bench.floats(rows + 1, kCols, live);
        const Weight w = bench.vector(weight);
        bench.run([&] { bench.ops().add_rms_norm(out, residual, x, w, 0.01F); });
        const auto sum = bench.read(residual, rows);
        for (size_t i = 0; i < sum.size(); ++i) {
          REQUIRE(sum[i] == residual_values[i] + values[i]);
        }
        return bench.read(out, rows);
      },
      kCols);
  const auto x = random_floats(33 * kCols, 99);
  check_near(
      results,
      [&](int64_t i) {
        double squares = 0;
        for (int64_t c = 0; c < kCols; ++c) {
          const double value = x[static_cast<size_t>(i / kCols * kCols + c)] * 4.0 + 1;
          squares += value * value;
        }
        return (x[static_cast<size_t>(i)] * 4.0 + 1) / std::sqrt(squares / kCols + 0.01) *
               weight[static_cast<size_t>(i % kCols)];
      },
      2e-6);
}

TEST_CASE("gates multiply the activated first half by the second") {
  for (const Gate gate : {Gate::silu, Gate::gelu_tanh}) {
    for (const int64_t cols : {1, 31, 33, 1536}) {
      CAPTURE(cols);
      const auto results = agreed(
          [&](Bench& bench, const std::vector<float>& values, int64_t rows) {
            const View x =
                bench.floats(values, rows + 1, 2 * cols, bench.live(static_cast<int>(rows)));
            const View out = bench.floats(rows + 1, cols, x.live_rows);
            bench.run([&] { bench.ops().gated_activation(out, x, gate); });
            return bench.read(out, rows);
          },
          2 * cols, 4);
      const auto x = random_floats(33 * 2 * cols, 99, 4);
      check_near(
          results,
          [&](int64_t i) {
            const auto at = static_cast<size_t>(i / cols * 2 * cols + i % cols);
            const double activated = gate == Gate::silu ? silu(x[at]) : gelu_tanh(x[at]);
            return activated * x[at + static_cast<size_t>(cols)];
          },
          2e-6);
    }
  }
}

TEST_CASE("matmul gives the product with every type of weight, and adds the bias") {
  constexpr int64_t kOutputs = 37, kCols = 512;
  for (const TypeFacts& facts : kTypes) {
    for (const Range cols : {Range{0, kCols}, Range{40, 300}, Range{511, 512}}) {
      CAPTURE(facts.name, cols.begin, cols.end);
      const SourceMatrix source = random_matrix(facts, kOutputs, kCols, 5);
      const auto bias = random_floats(kOutputs, 6);
      const auto results = agreed(
          [&](Bench& bench, const std::vector<float>& values, int64_t rows) {
            auto part = source.part();
            part.cols = cols;
            const Weight weight = bench.ops().prepare({{part}});
            const Weight b = bench.vector(bias);
            const View x =
                bench.floats(values, rows + 1, cols.size(), bench.live(static_cast<int>(rows)));
            const View out = bench.floats(rows + 1, kOutputs, x.live_rows);
            bench.run([&] { bench.ops().matmul(out, x, weight, b); });
            return bench.read(out, rows);
          },
          cols.size());
      const auto x = random_floats(33 * cols.size(), 99);
      for (const auto& [name, out] : results) {
        // The int8 path rounds each input to amax / 127 of its block of 32.
        const bool rounds = name != "reference" && facts.elements > 1;
        for (int64_t i = 0; i < 33 * kOutputs; ++i) {
          double sum = bias[static_cast<size_t>(i % kOutputs)], size = std::fabs(sum);
          for (int64_t c = cols.begin; c < cols.end; ++c) {
            const double term = source.at(i % kOutputs, c) *
                                x[static_cast<size_t>(i / kOutputs * cols.size() + c - cols.begin)];
            sum += term;
            size += std::fabs(term);
          }
          CAPTURE(name, i);
          REQUIRE(std::fabs(out[static_cast<size_t>(i)] - sum) <= (rounds ? 1e-2 : 2e-6) * size);
        }
      }
    }
  }
}

TEST_CASE("parts stand below each other and permuted rows are put back") {
  const SourceMatrix first = random_matrix(kTypes[3], 24, 64, 7);
  const SourceMatrix second = random_matrix(kTypes[0], 5, 64, 8);
  for (const Backend& backend : backends()) {
    CAPTURE(backend.name);
    Bench bench(backend.make(2));
    auto pairs = first.part();
    pairs.order = kernels::RowOrder::rope_pairs_to_halves;
    pairs.head_dim = 8;
    pairs.rows = {8, 24};
    const Weight ordered = bench.ops().prepare({{pairs, second.part()}});
    const Weight plain = bench.ops().prepare({{first.part()}});
    const Weight below = bench.ops().prepare({{second.part()}});
    const View x = bench.floats(random_floats(64, 9), 1, 64);
    const View out = bench.floats(1, 21), as_stored = bench.floats(1, 24),
               alone = bench.floats(1, 5);
    bench.run([&] {
      bench.ops().matmul(out, x, ordered, nullptr);
      bench.ops().matmul(as_stored, x, plain, nullptr);
      bench.ops().matmul(alone, x, below, nullptr);
    });
    const auto got = bench.read(out, 1), stored = bench.read(as_stored, 1);
    for (size_t head = 0; head < 2; ++head) {
      for (size_t i = 0; i < 4; ++i) {
        // A backend may hold rows of one type otherwise than rows of several.
        const double exact = backend.exact_inputs ? 1e-5 : 0;
        CHECK(got[head * 8 + i] == Approx(stored[8 + head * 8 + 2 * i]).epsilon(exact));
        CHECK(got[head * 8 + 4 + i] == Approx(stored[8 + head * 8 + 2 * i + 1]).epsilon(exact));
      }
    }
    CHECK(same_bits({got.begin() + 16, got.end()}, bench.read(alone, 1)));
  }
}

TEST_CASE("embed takes the table's row, or the row of the slot's last token") {
  for (const TypeFacts& facts : kTypes) {
    const SourceMatrix table = random_matrix(facts, 20, 256, 10);
    for (const Backend& backend : backends()) {
      CAPTURE(facts.name, backend.name);
      Bench bench(backend.make(2));
      const Weight weight = bench.ops().prepare_table(table.part());
      const auto* live = bench.live(3);
      const View tokens = bench.integers({7, -1, 19}, 4, 1, live);
      const View slots = bench.integers({0, 2, 1}, 4, 1, live);
      const View last = bench.integers({3, 4, 5}, 3, 1);
      const View out = bench.floats(std::vector<float>(4 * 256, -7), 4, 256, live);
      bench.run([&] { bench.ops().embed(out, weight, tokens, slots, last, 1.5F); });
      const auto got = bench.read(out, 4);
      const int64_t expected[] = {7, 5, 19};
      for (int64_t i = 0; i < 3 * 256; ++i) {
        REQUIRE(got[static_cast<size_t>(i)] ==
                Approx(1.5 * table.at(expected[i / 256], i % 256)).epsilon(3e-7).margin(3e-6));
      }
      REQUIRE(got[3 * 256] == -7);  // not live
    }
  }
}

TEST_CASE("gather_rows copies the live rows of the index") {
  for (const Backend& backend : backends()) {
    CAPTURE(backend.name);
    Bench bench(backend.make(2));
    const auto values = random_floats(6 * 33, 11);
    const View x = bench.floats(values, 6, 33);
    const View index = bench.integers({5, 0, 5}, 4, 1, bench.live(3));
    const View out = bench.floats(std::vector<float>(4 * 33, -7), 4, 33, index.live_rows);
    bench.run([&] { bench.ops().gather_rows(out, x, index); });
    const auto got = bench.read(out, 4);
    CHECK(same_bits(row_of(got, 0, 33), row_of(values, 5, 33)));
    CHECK(same_bits(row_of(got, 1, 33), row_of(values, 0, 33)));
    CHECK(same_bits(row_of(got, 2, 33), row_of(values, 5, 33)));
    CHECK(got[3 * 33] == -7);
  }
}

TEST_CASE("vectors are read from all float types, cut, permuted and added to") {
  for (const TypeFacts& facts : {kTypes[0], kTypes[1], kTypes[2]}) {
    const SourceMatrix source = random_matrix(facts, 1, 16, 12);
    for (const Backend& backend : backends()) {
      CAPTURE(facts.name, backend.name);
      Bench bench(backend.make(1));
      const Weight weight = bench.ops().prepare_vector(
          {.parts = {{.data = source.data(), .type = facts.type, .range = {3, 5}},
                     {.data = source.data(),
                      .type = facts.type,
                      .range = {0, 8},
                      .order = kernels::RowOrder::rope_pairs_to_halves,
                      .head_dim = 8}},
           .add = 1});
      REQUIRE(weight->rows == 10);
      // A norm over ones shows the vector.
      const View x = bench.floats(std::vector<float>(10, 1), 1, 10);
      bench.run([&] { bench.ops().rms_norm(x, x, weight, 0); });
      const auto got = bench.read(x, 1);
      const int64_t from[] = {3, 4, 0, 2, 4, 6, 1, 3, 5, 7};
      for (size_t i = 0; i < 10; ++i) {
        CHECK(got[i] == Approx(source.at(0, from[i]) + 1).epsilon(1e-6));
      }
    }
  }
}
