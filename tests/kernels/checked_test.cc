// The validation layer: right calls pass, wrong ones are named.
#include <catch2/catch.hpp>
#include <cmath>

#include "tests/kernels/backends.h"

using namespace chorus;
using namespace chorus::tests;
using Catch::Contains;

namespace {

Bench checked(bool nan_checks = true) {
  return Bench(kernels::make_checked_ops(kernels::make_reference_ops({.threads = 1}), nan_checks));
}

const std::vector<float> kOnes(8, 1);

}  // namespace

TEST_CASE("a right program passes the checks and gives its results, recorded once, run twice") {
  for (const bool nan_checks : {false, true}) {
    Bench bench = checked(nan_checks);
    const View x = bench.floats({3, 4}, 1, 2), ones = bench.floats({1, 1}, 1, 2);
    const View out = bench.floats(1, 2);
    const Weight weight = bench.vector({kOnes.begin(), kOnes.begin() + 2});
    bench.ops().record();
    bench.ops().rms_norm(x, x, weight, 0);
    bench.ops().add_rms_norm(out, x, ones, weight, 0);
    const auto program = bench.ops().end_record();
    bench.ops().run(*program);
    const double rms = std::sqrt(12.5);
    CHECK(bench.read(x, 1)[0] == Approx(3 / rms + 1));
    bench.ops().upload(x, kOnes.data(), 0, 8);
    bench.ops().run(*program);
    CHECK(bench.read(x, 1)[0] == Approx(2));
  }
}

TEST_CASE("wrong shapes, types and memory are told with operation and argument") {
  Bench bench = checked();
  auto& ops = bench.ops();
  const View x = bench.floats(4, 8), y = bench.floats(4, 8), wide = bench.floats(4, 16);
  const View numbers = bench.integers({0, 0, 0, 0}, 4, 1);
  const Weight eight = bench.vector(kOnes);
  ops.record();
  CHECK_THROWS_WITH(ops.rms_norm(wide, x, eight, 0), "rms_norm: out has 16 columns, expected 8");
  CHECK_THROWS_WITH(ops.rms_norm(y, wide, eight, 0),
                    "rms_norm: weight has 8 elements, expected 16");
  CHECK_THROWS_WITH(ops.rms_norm(y, x, nullptr, 0), "rms_norm: weight is null");
  CHECK_THROWS_WITH(ops.rms_norm(y, numbers, eight, 0), "rms_norm: x is i32, expected f32");
  CHECK_THROWS_WITH(ops.add_rms_norm(y, y, x, eight, 0), "add_rms_norm: out overlaps residual");
  CHECK_THROWS_WITH(ops.gated_activation(x, y, kernels::Gate::silu),
                    "gated_activation: gate_up has 8 columns, expected 16");
  View longer = x;
  longer.rows = 5;
  CHECK_THROWS_WITH(ops.rms_norm(longer, longer, eight, 0),
                    "rms_norm: x reaches outside memory that allocate() gave");
  View shifted = x;
  shifted.data = static_cast<float*>(x.data) + 4;
  shifted.rows = 3;
  View first = x;
  first.rows = 3;
  CHECK_THROWS_WITH(ops.rms_norm(shifted, first, eight, 0), "rms_norm: out overlaps x");
  const View live = bench.ops().allocate(DType::f32, 4, 8, static_cast<int32_t*>(numbers.data));
  CHECK_THROWS_WITH(ops.rms_norm(live, x, eight, 0), "rms_norm: out has other live rows than x");
}

TEST_CASE("calls out of order are refused") {
  Bench bench = checked();
  const View x = bench.floats(1, 8);
  CHECK_THROWS_WITH(bench.ops().all_reduce(x), "all_reduce: the call comes without record()");
  CHECK_THROWS_WITH(bench.ops().end_record(), "end_record: the call comes without record()");
  bench.ops().record();
  CHECK_THROWS_WITH(bench.ops().record(), "record: the call comes while recording");
  CHECK_THROWS_WITH(bench.read(x, 1), "download: the call comes while recording");
}

TEST_CASE("sources and transfers that do not fit are refused") {
  Bench bench = checked();
  auto& ops = bench.ops();
  const auto* bytes = reinterpret_cast<const std::byte*>(kOnes.data());
  const View x = bench.floats(1, 8);
  CHECK_THROWS_WITH(ops.upload(x, kOnes.data(), 4, 32),
                    "upload: the range [4, +32) leaves the buffer's 32 bytes");
  CHECK_THROWS_WITH(ops.prepare({}), "prepare: the description has no parts");
  CHECK_THROWS_WITH(ops.prepare({{{.data = bytes,
                                   .type = kernels::WeightType::q8_0,
                                   .source_cols = 33,
                                   .rows = {0, 1},
                                   .cols = {0, 33}}}}),
                    "prepare: source_cols is not a whole number of blocks");
  CHECK_THROWS_WITH(
      ops.prepare_table({.data = bytes, .source_cols = 4, .rows = {0, 2}, .cols = {0, 5}}),
      "prepare_table: a part's columns are no range of the source");
  CHECK_THROWS_WITH(ops.make_rope({}, 5), "make_rope: frequencies is empty");
  const auto kv = ops.make_kv({1, 1, 8, 2});
  CHECK_THROWS_WITH(ops.copy_block(*kv, 0, 2), "copy_block: to names block 2, there are 2");
}

TEST_CASE("what stands in device memory is looked at between operations") {
  Bench bench = checked();
  auto& ops = bench.ops();
  std::vector<float> values(8, 1);
  values[5] = NAN;
  const View x = bench.floats(values, 2, 4), out = bench.floats(1, 4);
  const View index = bench.integers({1}, 1, 1);
  CHECK_THROWS_WITH(bench.run([&] { ops.gather_rows(out, x, index); }),
                    Contains("gather_rows: out [0][1] is") && Contains("nan"));
  const int32_t three = 3;
  ops.upload(index, &three, 0, 4);
  CHECK_THROWS_WITH(bench.run([&] { ops.gather_rows(out, x, index); }),
                    "gather_rows: index names row 3, there are 2");
}

TEST_CASE("spans are held against rows, slots, block tables and blocks") {
  Bench bench = checked();
  auto& ops = bench.ops();
  const auto rope = ops.make_rope({.frequencies = {1, 0.5F}}, 64);
  const auto kv = ops.make_kv({1, 1, 4, 2});
  const View qkv = bench.floats(2, 12);
  const View table = bench.integers({0, 7}, 1, 2);
  const auto attempt = [&](const std::vector<int32_t>& span) {
    const View spans = bench.integers(span, 1, 4);
    bench.run([&] {
      ops.split_qkv({.qkv = qkv,
                     .q_heads = 1,
                     .kv_heads = 1,
                     .head_dim = 4,
                     .q_norm = nullptr,
                     .k_norm = nullptr,
                     .rope = rope.get(),
                     .spans = spans,
                     .block_table = table,
                     .kv = kv.get()});
    });
  };
  CHECK_NOTHROW(attempt({0, 2, 0, 14}));
  CHECK_THROWS_WITH(attempt({1, 2, 0, 0}), "split_qkv: a span names last row 2, there are 2");
  CHECK_THROWS_WITH(attempt({0, 1, 1, 0}), "split_qkv: a span names slot 1, there are 1");
  CHECK_THROWS_WITH(attempt({0, 1, 0, 16}),
                    "split_qkv: the block table names block 7, there are 2");
  CHECK_THROWS_WITH(attempt({0, 1, 0, 32}),
                    "split_qkv: a span names block table entry 2, there are 2");
}

TEST_CASE("experts that do not rise, do not exist or have other shapes are refused") {
  Bench bench = checked();
  auto& ops = bench.ops();
  const View x = bench.floats({1, 1, 1, 1}, 2, 2), out = bench.floats(2, 2);
  const View weights = bench.floats({1, 1, 1, 1}, 2, 2);
  const auto matrix = [&](int64_t rows) {
    return ops.prepare({{{.data = reinterpret_cast<const std::byte*>(kOnes.data()),
                          .source_cols = 2,
                          .rows = {0, rows},
                          .cols = {0, 2}}}});
  };
  const Weight gate_up = matrix(4), down = matrix(2);
  const auto run_with = [&](const std::vector<int32_t>& ids, const std::vector<Weight>& first) {
    const View experts = bench.integers(ids, 2, 2);
    bench.run([&] { ops.experts({out, x, experts, weights, first, {down, down}}); });
  };
  CHECK_NOTHROW(run_with({0, 1, 0, 1}, {gate_up, gate_up}));
  CHECK_THROWS_WITH(run_with({0, 1, 1, 0}, {gate_up, gate_up}), "experts: experts do not rise");
  CHECK_THROWS_WITH(run_with({0, 2, 0, 1}, {gate_up, gate_up}),
                    "experts: experts names expert 2, there are 2");
  ops.record();
  CHECK_THROWS_WITH(
      ops.experts({out, x, bench.integers({}, 2, 2), weights, {gate_up, down}, {down, down}}),
      "experts: gate_up has 2 rows, expected 4");
  CHECK_THROWS_WITH(ops.soft_cap(x, 0), "soft_cap: cap is not positive");
}
