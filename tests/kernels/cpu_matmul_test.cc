// The CPU backend's matrix product on random blocks of every weight type: against sums in f64 over
// weights decoded for tests, and bit for bit among instruction sets, row counts and worker counts.
#include "kernels/cpu/matmul.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/ops.h"
#include "tests/kernels/random_floats.h"
#include "tests/kernels/random_weights.h"

namespace chorus::kernels {
namespace {

using tests::kTypes;
using tests::random_floats;
using tests::random_matrix;
using tests::SourceMatrix;
using tests::TypeFacts;

struct Setup {
  Setup(Isa isa, int threads)
      : workers(threads),
        scratch(threads),
        backend{isa == Isa::scalar ? kScalarKernels
                                   : (isa == Isa::avx2 ? kAvx2Kernels : kAvx512Kernels),
                workers, scratch} {}
  Workers workers;
  Scratch scratch;
  Backend backend;

  std::vector<float> product(const WeightDescription& description, std::vector<float> x,
                             int64_t rows, std::shared_ptr<const VectorWeight> bias = nullptr) {
    MatmulCall call;
    call.weight = pack_matrix(description, workers);
    call.bias = std::move(bias);
    std::vector<float> out(static_cast<size_t>(rows * call.weight->rows), NAN);
    call.x = {x.data(), DType::f32, rows, call.weight->cols};
    call.out = {out.data(), DType::f32, rows, call.weight->rows};
    workers.run(matmul_phases(call, backend));
    return out;
  }
};

std::vector<Isa> isas() {
  std::vector<Isa> present;
  for (const Isa isa : {Isa::scalar, Isa::avx2, Isa::avx512}) {
    if (supported(isa)) present.push_back(isa);
  }
  return present;
}

bool same_bits(const float* a, const float* b, int64_t count) {
  return std::memcmp(a, b, static_cast<size_t>(count) * 4) == 0;
}

// Largest difference relative to the sum of the products' magnitudes, for quantised activations:
// each is off by at most amax / 254 of its block.
double worst_difference(const SourceMatrix& source, Range cols, const std::vector<float>& x,
                        int64_t rows, const std::vector<float>& out) {
  double worst = 0;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t n = 0; n < source.rows; ++n) {
      double sum = 0, size = 0;
      for (int64_t c = cols.begin; c < cols.end; ++c) {
        const double term = source.at(n, c) * x[r * cols.size() + c - cols.begin];
        sum += term;
        size += std::fabs(term);
      }
      const double difference = std::fabs(out[r * source.rows + n] - sum) / (size + 1e-9);
      worst = std::isfinite(difference) ? std::max(worst, difference) : INFINITY;
    }
  }
  return worst;
}

}  // namespace

TEST_CASE("a product with packed weights is near the sum in f64 for every type") {
  for (const TypeFacts& format : kTypes) {
    for (const int64_t weight_rows : {1, 16, 37}) {
      for (const int64_t rows : {1, 2, 7, 8, 9, 17}) {
        CAPTURE(format.name, weight_rows, rows);
        const SourceMatrix source = random_matrix(format, weight_rows, 512, 7);
        const std::vector<float> x = random_floats(rows * 512, 8);
        Setup setup(best_isa(), 2);
        const std::vector<float> out = setup.product({{source.part()}}, x, rows);
        CHECK(worst_difference(source, {0, 512}, x, rows, out) <
              (format.elements == 1 ? 1e-6 : 4e-3));
      }
    }
  }
}

TEST_CASE("instruction sets and worker counts agree bit for bit") {
  for (const TypeFacts& format : kTypes) {
    for (const int64_t rows : {1, 5, 19}) {
      CAPTURE(format.name, rows);
      const SourceMatrix source = random_matrix(format, 53, 768, 3);
      const std::vector<float> x = random_floats(rows * 768, 4);
      Setup first(Isa::scalar, 1);
      const std::vector<float> expected = first.product({{source.part()}}, x, rows);
      for (const Isa isa : isas()) {
        for (const int threads : {1, 3}) {
          CAPTURE(name_of(isa), threads);
          Setup setup(isa, threads);
          const std::vector<float> out = setup.product({{source.part()}}, x, rows);
          CHECK(same_bits(out.data(), expected.data(), rows * 53));
        }
      }
    }
  }
}

TEST_CASE("a row alone gives the bits that it gives in a batch") {
  for (const TypeFacts& format : kTypes) {
    for (const Isa isa : isas()) {
      CAPTURE(format.name, name_of(isa));
      const SourceMatrix source = random_matrix(format, 40, 512, 5);
      const std::vector<float> x = random_floats(21 * 512, 6);
      Setup setup(isa, 2);
      const std::vector<float> batch = setup.product({{source.part()}}, x, 21);
      for (const int64_t rows : {1, 2, 3, 5, 8, 12}) {
        CAPTURE(rows);
        const std::vector<float> some(x.begin() + 4 * 512, x.begin() + (4 + rows) * 512);
        const std::vector<float> out = setup.product({{source.part()}}, some, rows);
        CHECK(same_bits(out.data(), batch.data() + 4 * 40, rows * 40));
      }
    }
  }
}

TEST_CASE("columns may be cut inside a block and rows anywhere") {
  for (const TypeFacts& format : kTypes) {
    for (const Range cols : {Range{0, 512}, Range{40, 300}, Range{256, 257}, Range{511, 512}}) {
      CAPTURE(format.name, cols.begin, cols.end);
      const SourceMatrix source = random_matrix(format, 20, 512, 9);
      WeightPart part = source.part();
      part.cols = cols;
      const std::vector<float> x = random_floats(3 * cols.size(), 10);
      Setup setup(best_isa(), 2);
      const std::vector<float> out = setup.product({{part}}, x, 3);
      CHECK(worst_difference(source, cols, x, 3, out) < (format.elements == 1 ? 1e-6 : 1e-2));

      part.rows = {3, 19};
      const std::vector<float> rows_cut = setup.product({{part}}, x, 3);
      for (int64_t r = 0; r < 3; ++r) {
        CHECK(same_bits(rows_cut.data() + r * 16, out.data() + r * 20 + 3, 16));
      }
    }
  }
}

TEST_CASE("parts of different types stand below each other, with one bias") {
  std::vector<SourceMatrix> sources;
  WeightDescription description;
  int64_t weight_rows = 0;
  for (const TypeFacts& format : kTypes) {
    sources.push_back(random_matrix(format, 19, 256, 11));
    weight_rows += 19;
  }
  for (const SourceMatrix& source : sources) description.parts.push_back(source.part());
  auto bias = std::make_shared<VectorWeight>();
  for (int64_t i = 0; i < weight_rows; ++i) bias->values.push_back(static_cast<float>(i) * 8);
  for (const int64_t rows : {1, 4, 11}) {
    const std::vector<float> x = random_floats(rows * 256, 12);
    Setup setup(best_isa(), 2);
    const std::vector<float> out = setup.product(description, x, rows, bias);
    for (size_t part = 0; part < sources.size(); ++part) {
      const std::vector<float> alone = setup.product({{sources[part].part()}}, x, rows);
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t n = 0; n < 19; ++n) {
          const int64_t at = static_cast<int64_t>(part) * 19 + n;
          CHECK(out[r * weight_rows + at] == alone[r * 19 + n] + bias->values[at]);
        }
      }
    }
  }
}

TEST_CASE("rows of rope pairs are put back into halves") {
  const SourceMatrix source = random_matrix(kTypes[0], 16, 32, 13);
  WeightPart part = source.part();
  part.order = RowOrder::rope_pairs_to_halves;
  part.head_dim = 8;
  Setup setup(best_isa(), 1);
  const std::vector<float> x = random_floats(32, 14);
  const std::vector<float> plain = setup.product({{source.part()}}, x, 1);
  const std::vector<float> ordered = setup.product({{part}}, x, 1);
  for (int64_t head = 0; head < 2; ++head) {
    for (int64_t i = 0; i < 4; ++i) {
      CHECK(ordered[head * 8 + i] == plain[head * 8 + 2 * i]);
      CHECK(ordered[head * 8 + 4 + i] == plain[head * 8 + 2 * i + 1]);
    }
  }
}

}  // namespace chorus::kernels
