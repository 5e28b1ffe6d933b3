#include "kernels/quant.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <set>

#include "tests/kernels/random_weights.h"

using namespace chorus;
using namespace chorus::tests;

TEST_CASE("every type of block gives the elements that its format says") {
  for (const TypeFacts& facts : kTypes) {
    CAPTURE(facts.name);
    REQUIRE(kernels::block_elements(facts.type) == facts.elements);
    REQUIRE(kernels::block_bytes(facts.type) == facts.bytes);
    const SourceMatrix source = random_matrix(facts, 1, 2048, 1);
    std::vector<float> out(2048);
    kernels::dequantize_row(facts.type, source.data(), 0, 2048, out.data());
    for (int64_t i = 0; i < 2048; ++i) {
      CAPTURE(i);
      // At most three roundings of f32, relative to the largest term (q4_k subtracts).
      REQUIRE(out[static_cast<size_t>(i)] == Approx(source.at(0, i)).epsilon(2e-7).margin(2e-6));
    }
  }
}

TEST_CASE("a slice of a row has the row's bits, wherever it is cut") {
  for (const TypeFacts& facts : kTypes) {
    const SourceMatrix source = random_matrix(facts, 1, 1024, 2);
    std::vector<float> whole(1024), part(1024);
    kernels::dequantize_row(facts.type, source.data(), 0, 1024, whole.data());
    for (const Range cut : {Range{0, 1}, Range{0, 0}, Range{31, 33}, Range{255, 257}, Range{5, 5},
                            Range{256, 512}, Range{40, 1000}, Range{1023, 1024}}) {
      CAPTURE(facts.name, cut.begin, cut.end);
      part.assign(1024, -7);
      kernels::dequantize_row(facts.type, source.data(), cut.begin, cut.end, part.data());
      REQUIRE(std::equal(part.begin(), part.begin() + cut.size(), whole.begin() + cut.begin));
      REQUIRE((cut.size() == 1024 || part[static_cast<size_t>(cut.size())] == -7));
    }
  }
}

// The converter views a head's rows as [2, half] and swaps the two axes.
TEST_CASE("a permuted row is found where the converter put it") {
  constexpr int64_t kHeads = 3, kHalf = 4;
  std::vector<int64_t> stored;  // the model's row number, in the converter's order
  for (int64_t head = 0; head < kHeads; ++head) {
    for (int64_t i = 0; i < kHalf; ++i) {
      for (int64_t part = 0; part < 2; ++part) stored.push_back((head * 2 + part) * kHalf + i);
    }
  }
  for (int64_t row = 0; row < kHeads * 2 * kHalf; ++row) {
    const int64_t at = kernels::stored_row(row, kernels::RowOrder::rope_pairs_to_halves, 2 * kHalf);
    CHECK(stored[static_cast<size_t>(at)] == row);
    CHECK(kernels::stored_row(row, kernels::RowOrder::as_stored, 2 * kHalf) == row);
  }
}
