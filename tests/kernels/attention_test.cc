// Splitting the projection and attending over paged keys and values, on every backend: near softmax
// in f64, and a position's result the same bits however its sequence was cut into steps.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <optional>

#include "tests/kernels/backends.h"
#include "tests/kernels/random_weights.h"

using namespace chorus;
using namespace chorus::tests;
using kernels::Span;

namespace {

struct Shape {
  int q_heads, kv_heads, head_dim;
  int64_t window;
  bool norms;
  int rotated;  // elements of a head
  int64_t chunk = 0;
  float soft_cap = 0;
  float growth = 0;
  int64_t cols() const { return int64_t{q_heads + 2 * kv_heads} * head_dim; }
  int64_t out_cols() const { return int64_t{q_heads} * head_dim; }
  int kv_head(int head) const { return head * kv_heads / q_heads; }
  int64_t first_seen(int64_t position) const {
    if (chunk > 0) return position / chunk * chunk;
    return window > 0 ? std::max<int64_t>(0, position - window + 1) : 0;
  }
};
constexpr Shape kShapes[] = {{4, 2, 64, 0, false, 64},          {9, 3, 32, 0, true, 32},
                             {3, 1, 96, 20, true, 96},          {2, 2, 256, 7, false, 256},
                             {4, 2, 64, 0, false, 48, 13},      {4, 1, 32, 33, true, 32, 0, 0.7F},
                             {2, 1, 64, 0, true, 0, 0, 0, 0.3F}};
constexpr float kScale = 0.2F, kEps = 1e-6F;
constexpr int64_t kTokensMax = 80, kBlocks = 16;

constexpr float kGrowthPositions = 8;

std::vector<float> frequencies(int rotated) {
  std::vector<float> values;
  for (int i = 0; i < rotated / 2; ++i) {
    values.push_back(static_cast<float>(std::pow(10000.0, -2.0 * i / rotated)));
  }
  return values;
}

// One model layer's attention with its cache, fed step by step.
class Layer {
 public:
  Layer(const Backend& backend, int threads, const Shape& shape)
      : bench_(backend.make(threads)),
        shape_(shape),
        norm_(random_floats(shape.head_dim, 21)),
        rope_(shape.rotated == 0
                  ? nullptr
                  : bench_.ops().make_rope({.frequencies = frequencies(shape.rotated)}, 256)),
        kv_(bench_.ops().make_kv({2, shape.kv_heads, shape.head_dim, kBlocks})) {
    // Two sequences whose blocks lie scattered among each other.
    table_ = bench_.integers({9, 2, 14, 5, 0, 7, 1, 12}, 2, 4);
    token_count_ = bench_.integers({0}, 1, 1);
    span_count_ = bench_.integers({0}, 1, 1);
    const auto* live = static_cast<const int32_t*>(token_count_.data);
    qkv_ = bench_.floats(kTokensMax, shape.cols(), live);
    out_ = bench_.floats(kTokensMax, shape.out_cols(), live);
    spans_ = bench_.ops().allocate(DType::i32, 4, 4, static_cast<int32_t*>(span_count_.data));
    if (shape.norms) q_norm_ = bench_.vector(norm_);
    for (int head = 0; head < shape.q_heads; ++head) kv_head_of_.push_back(shape.kv_head(head));
  }

  std::vector<float> step(const std::vector<Span>& spans, const std::vector<float>& qkv) {
    const auto tokens = static_cast<int32_t>(static_cast<int64_t>(qkv.size()) / shape_.cols());
    const auto count = static_cast<int32_t>(spans.size());
    auto& ops = bench_.ops();
    ops.upload(token_count_, &tokens, 0, 4);
    ops.upload(span_count_, &count, 0, 4);
    ops.upload(spans_, spans.data(), 0, count * static_cast<int64_t>(sizeof(Span)));
    ops.upload(qkv_, qkv.data(), 0, static_cast<int64_t>(qkv.size() * 4));
    bench_.run([&] {
      ops.split_qkv({.qkv = qkv_,
                     .q_heads = shape_.q_heads,
                     .kv_heads = shape_.kv_heads,
                     .head_dim = shape_.head_dim,
                     .q_norm = q_norm_,
                     .k_norm = q_norm_,
                     .norm_eps = kEps,
                     .rope = rope_.get(),
                     .q_scale = kScale,
                     .q_growth = shape_.growth,
                     .q_growth_positions = kGrowthPositions,
                     .spans = spans_,
                     .block_table = table_,
                     .kv = kv_.get(),
                     .layer = 1});
      ops.attention({.out = out_,
                     .qkv = qkv_,
                     .q_heads = shape_.q_heads,
                     .kv_heads = shape_.kv_heads,
                     .head_dim = shape_.head_dim,
                     .kv_head_of = kv_head_of_,
                     .window = shape_.window,
                     .chunk = shape_.chunk,
                     .soft_cap = shape_.soft_cap,
                     .spans = spans_,
                     .block_table = table_,
                     .kv = kv_.get(),
                     .layer = 1});
    });
    return bench_.read(out_, tokens);
  }
  // Moves the second sequence's first block to block `to`.
  void move_block(int32_t to) {
    const int32_t from = 0;
    bench_.ops().copy_block(*kv_, from, to);
    bench_.ops().upload(table_, &to, 4 * 4, 4);
  }

 private:
  Bench bench_;
  Shape shape_;
  std::vector<float> norm_;
  std::unique_ptr<kernels::Rope> rope_;
  std::unique_ptr<kernels::KvStore> kv_;
  View table_, token_count_, span_count_, qkv_, out_, spans_;
  Weight q_norm_;
  std::vector<int> kv_head_of_;
};

// A head of the projection after norm and rotation, in f64.
std::vector<double> prepared(const Shape& shape, const float* x, int64_t position, bool normed) {
  const int64_t dim = shape.head_dim, half = shape.rotated / 2;
  const auto norm = random_floats(dim, 21), rates = frequencies(shape.rotated);
  std::vector<double> values(x, x + dim);
  if (normed) {
    double squares = 0;
    for (const double value : values) squares += value * value;
    const double rms = std::sqrt(squares / static_cast<double>(dim) + kEps);
    for (size_t i = 0; i < values.size(); ++i) values[i] *= norm[i] / rms;
  }
  std::vector<double> out = values;
  for (size_t i = 0; i < static_cast<size_t>(half); ++i) {
    const double angle = static_cast<double>(position) * rates[i];
    const double a = values[i], b = values[i + static_cast<size_t>(half)];
    out[i] = a * std::cos(angle) - b * std::sin(angle);
    out[i + static_cast<size_t>(half)] = b * std::cos(angle) + a * std::sin(angle);
  }
  return out;
}

// out[position, q_heads * head_dim] of one sequence, in f64.
std::vector<double> expected(const Shape& shape, const std::vector<float>& qkv, int64_t tokens) {
  const int64_t dim = shape.head_dim;
  std::vector<double> out(static_cast<size_t>(tokens * shape.out_cols()));
  std::vector<std::vector<double>> keys;
  for (int64_t t = 0; t < tokens; ++t) {
    for (int head = 0; head < shape.kv_heads; ++head) {
      keys.push_back(prepared(shape, qkv.data() + t * shape.cols() + (shape.q_heads + head) * dim,
                              t, shape.norms));
    }
  }
  for (int64_t t = 0; t < tokens; ++t) {
    for (int head = 0; head < shape.q_heads; ++head) {
      const auto q = prepared(shape, qkv.data() + t * shape.cols() + head * dim, t, shape.norms);
      const int kv_head = shape.kv_head(head);
      double total = 0;
      double* to = out.data() + t * shape.out_cols() + head * dim;
      const double steps = std::floor(static_cast<double>(t + 1) / kGrowthPositions);
      const double scale = kScale * (1 + shape.growth * std::log(1 + steps));
      for (int64_t p = shape.first_seen(t); p <= t; ++p) {
        const auto& key = keys[static_cast<size_t>(p * shape.kv_heads + kv_head)];
        double score = 0;
        for (size_t i = 0; i < q.size(); ++i) score += q[i] * key[i] * scale;
        if (shape.soft_cap > 0) score = shape.soft_cap * std::tanh(score / shape.soft_cap);
        const double weight = std::exp(score);
        const float* value =
            qkv.data() + p * shape.cols() + (shape.q_heads + shape.kv_heads + kv_head) * dim;
        for (int64_t i = 0; i < dim; ++i) to[i] += weight * value[i];
        total += weight;
      }
      for (int64_t i = 0; i < dim; ++i) to[i] /= total;
    }
  }
  return out;
}

std::vector<float> rows(const std::vector<float>& qkv, const Shape& shape, int64_t begin,
                        int64_t end) {
  return {qkv.begin() + begin * shape.cols(), qkv.begin() + end * shape.cols()};
}

void append(std::vector<float>& to, const std::vector<float>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

}  // namespace

TEST_CASE(
    "every backend attends as softmax in f64 does, with windows, chunks, caps, part rotations") {
  for (const Shape& shape : kShapes) {
    const auto qkv = random_floats(50 * shape.cols(), 31);
    const auto right = expected(shape, qkv, 50);
    for (const Backend& backend : backends()) {
      CAPTURE(shape.head_dim, backend.name);
      Layer layer(backend, 2, shape);
      const auto out = layer.step({{0, 50, 0, 0}}, qkv);
      // Keys and values are f16 outside the reference.
      const double tolerance = backend.exact_inputs ? 2e-5 : 1e-2;
      for (size_t i = 0; i < right.size(); ++i) {
        CAPTURE(i);
        REQUIRE(std::isfinite(out[i]));
        REQUIRE(std::fabs(out[i] - right[i]) <= tolerance);
      }
    }
  }
}

TEST_CASE("attention has the same bits in chunks, beside others, on 1 and 2 threads") {
  for (const Shape& shape : kShapes) {
    const auto mine = random_floats(50 * shape.cols(), 32);
    const auto other = random_floats(40 * shape.cols(), 33);
    std::vector<float> cpu;  // of all instruction sets
    for (const Backend& backend : backends()) {
      CAPTURE(shape.head_dim, backend.name);
      Layer whole(backend, 1, shape);
      const auto at_once = whole.step({{0, 50, 0, 0}}, mine);

      Layer cut(backend, 2, shape);
      std::vector<float> together = rows(other, shape, 0, 30), got;
      append(together, rows(mine, shape, 0, 17));
      const auto first = cut.step({{0, 30, 1, 0}, {30, 17, 0, 0}}, together);
      append(got, {first.begin() + 30 * shape.out_cols(), first.end()});
      append(got, cut.step({{0, 1, 0, 17}}, rows(mine, shape, 17, 18)));
      together = rows(mine, shape, 18, 49);
      append(together, rows(other, shape, 30, 32));
      const auto third = cut.step({{0, 31, 0, 18}, {31, 2, 1, 30}}, together);
      append(got, {third.begin(), third.begin() + 31 * shape.out_cols()});
      append(got, cut.step({{0, 1, 0, 49}}, rows(mine, shape, 49, 50)));
      REQUIRE(same_bits(at_once, got));

      if (backend.exact_inputs) continue;
      if (cpu.empty()) cpu = at_once;
      REQUIRE(same_bits(cpu, at_once));
    }
  }
}

TEST_CASE("a copied block serves in place of its source") {
  const Shape& shape = kShapes[0];
  const auto qkv = random_floats(20 * shape.cols(), 34);
  for (const Backend& backend : backends()) {
    CAPTURE(backend.name);
    Layer layer(backend, 1, shape), straight(backend, 1, shape);
    layer.step({{0, 19, 1, 0}}, rows(qkv, shape, 0, 19));
    straight.step({{0, 19, 1, 0}}, rows(qkv, shape, 0, 19));
    layer.move_block(15);
    const auto last = rows(qkv, shape, 19, 20);
    CHECK(same_bits(layer.step({{0, 1, 1, 19}}, last), straight.step({{0, 1, 1, 19}}, last)));
  }
}

#ifdef CHORUS_HAS_EMULATION
TEST_CASE("a block of fp8 keys and values is half as large as one of f16") {
  const kernels::KvShape shape{.layers = 3, .kv_heads = 2, .head_dim = 64};
  const auto bytes_of_block = [&](std::optional<kernels::DType> kv) {
    return kernels::make_emulated_ops({.kv = kv})->kv_block_bytes(shape);
  };
  CHECK(bytes_of_block(kernels::DType::f16) == 2 * 3 * 2 * 64 * 32 * 2);
  CHECK(bytes_of_block(std::nullopt) == bytes_of_block(kernels::DType::f16));
  CHECK(bytes_of_block(kernels::DType::bf16) == bytes_of_block(kernels::DType::f16));
  CHECK(2 * bytes_of_block(kernels::DType::e4m3) == bytes_of_block(kernels::DType::f16));
}
#endif
