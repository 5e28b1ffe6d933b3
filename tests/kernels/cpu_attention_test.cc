// The CPU backend's attention and splitting of the projection: against softmax in f64, and bit for
// bit among instruction sets, worker counts and the ways in which a prompt is cut into chunks.
#include "kernels/cpu/attention.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "kernels/ops.h"
#include "tests/kernels/random_floats.h"

namespace chorus::kernels {
namespace {

struct Shape {
  int q_heads, kv_heads, head_dim;
  int64_t window;
  int cols() const { return (q_heads + 2 * kv_heads) * head_dim; }
};

constexpr int kPositions = 70;
constexpr int kSlots = 3;
constexpr int kBlocksMax = 5;

// One sequence's projections, [kPositions][cols].
std::vector<float> projections(const Shape& shape, uint32_t seed) {
  return tests::random_floats(kPositions * shape.cols(), seed);
}

// A backend with one layer of attention over at most `rows` rows a step.
class Layer {
 public:
  Layer(const Shape& shape, Isa isa, int threads, int rows)
      : shape_(shape), ops_(make_cpu_ops({.threads = threads, .isa = isa})) {
    // Blocks in an order that no sequence's table follows, all of them full of NaN at first.
    kv_ = ops_->make_kv({2, shape.kv_heads, shape.head_dim, kSlots * kBlocksMax});
    auto& blocks = static_cast<KvBlocks&>(*kv_);
    std::memset(blocks.memory.data(), 0xff, static_cast<size_t>(blocks.memory.bytes()));
    rope_ = ops_->make_rope(frequencies(), kPositions);
    live_rows_ = ops_->allocate(DType::i32, 1, 1);
    live_spans_ = ops_->allocate(DType::i32, 1, 1);
    qkv_ = ops_->allocate(DType::f32, rows, shape.cols(), static_cast<int32_t*>(live_rows_.data));
    out_ = ops_->allocate(DType::f32, rows, shape.q_heads * shape.head_dim, qkv_.live_rows);
    spans_ = ops_->allocate(DType::i32, kSlots, 4, static_cast<int32_t*>(live_spans_.data));
    table_ = ops_->allocate(DType::i32, kSlots, kBlocksMax);
    std::vector<int32_t> table;
    for (int i = 0; i < kSlots * kBlocksMax; ++i) table.push_back(i * 7 % (kSlots * kBlocksMax));
    ops_->upload(table_, table.data(), 0, static_cast<int64_t>(table.size()) * 4);
    norm_ = ops_->prepare_vector(norm_description());
    record();
  }

  // Rows of several sequences together; `projected[i]` is the whole sequence of spans[i].
  std::vector<float> step(std::vector<Span> spans,
                          const std::vector<const std::vector<float>*>& projected) {
    std::vector<float> rows;
    for (size_t i = 0; i < spans.size(); ++i) {
      spans[i].row = static_cast<int32_t>(rows.size()) / shape_.cols();
      const auto begin = projected[i]->begin() + spans[i].position * shape_.cols();
      rows.insert(rows.end(), begin, begin + spans[i].count * shape_.cols());
    }
    const auto row_count = static_cast<int32_t>(rows.size()) / shape_.cols();
    const auto span_count = static_cast<int32_t>(spans.size());
    ops_->upload(live_rows_, &row_count, 0, 4);
    ops_->upload(live_spans_, &span_count, 0, 4);
    ops_->upload(spans_, spans.data(), 0, span_count * 16);
    ops_->upload(qkv_, rows.data(), 0, static_cast<int64_t>(rows.size()) * 4);
    ops_->run(*program_);
    std::vector<float> out(static_cast<size_t>(row_count * shape_.q_heads * shape_.head_dim));
    ops_->download(out.data(), out_, 0, static_cast<int64_t>(out.size()) * 4);
    return out;
  }

  RopeDescription frequencies() const {
    RopeDescription description;
    for (int i = 0; i < shape_.head_dim / 2; ++i) {
      description.frequencies.push_back(static_cast<float>(std::pow(100.0, -i / 7.0)));
    }
    return description;
  }
  static float norm_weight(int i) { return 0.5f + static_cast<float>(i % 5) / 8; }

 private:
  VectorDescription norm_description() {
    for (int i = 0; i < shape_.head_dim; ++i) norm_values_.push_back(norm_weight(i));
    VectorDescription::Part part;
    part.data = reinterpret_cast<const std::byte*>(norm_values_.data());
    part.range = {0, shape_.head_dim};
    return {{part}, 0};
  }
  void record() {
    QkvArgs split;
    split.qkv = qkv_;
    split.q_heads = shape_.q_heads;
    split.kv_heads = shape_.kv_heads;
    split.head_dim = shape_.head_dim;
    split.k_norm = norm_;
    split.norm_eps = 1e-5f;
    split.rope = rope_.get();
    split.q_scale = 0.25f;
    split.spans = spans_;
    split.block_table = table_;
    split.kv = kv_.get();
    split.layer = 1;
    AttentionArgs args;
    args.out = out_;
    args.qkv = qkv_;
    args.q_heads = shape_.q_heads;
    args.kv_heads = shape_.kv_heads;
    args.head_dim = shape_.head_dim;
    for (int h = 0; h < shape_.q_heads; ++h) {
      args.kv_head_of.push_back(h * shape_.kv_heads / shape_.q_heads);
    }
    args.window = shape_.window;
    args.spans = spans_;
    args.block_table = table_;
    args.kv = kv_.get();
    args.layer = 1;
    ops_->record();
    ops_->split_qkv(split);
    ops_->attention(args);
    program_ = ops_->end_record();
  }

  Shape shape_;
  std::unique_ptr<Ops> ops_;
  std::unique_ptr<KvStore> kv_;
  std::unique_ptr<Rope> rope_;
  std::vector<float> norm_values_;
  Weight norm_;
  View live_rows_, live_spans_, qkv_, out_, spans_, table_;
  std::unique_ptr<Program> program_;
};

// Rotated (and for keys normed) head `head` of a position, in f64.
std::vector<double> rotated(const Shape& shape, const RopeDescription& rope,
                            const std::vector<float>& projected, int position, int head) {
  const float* x = projected.data() + position * shape.cols() + head * shape.head_dim;
  std::vector<double> y(x, x + shape.head_dim);
  if (head >= shape.q_heads) {
    double squares = 0;
    for (const double value : y) squares += value * value;
    const double rms = std::sqrt(squares / shape.head_dim + 1e-5);
    for (int i = 0; i < shape.head_dim; ++i) y[i] *= Layer::norm_weight(i) / rms;
  }
  for (int i = 0; i < shape.head_dim / 2; ++i) {
    const double angle = static_cast<double>(position) * rope.frequencies[i];
    const double a = y[i], b = y[i + shape.head_dim / 2];
    y[i] = a * std::cos(angle) - b * std::sin(angle);
    y[i + shape.head_dim / 2] = b * std::cos(angle) + a * std::sin(angle);
  }
  return y;
}

// Attention of one query head at one position, in f64 loops.
std::vector<double> expected_head(const Shape& shape, const RopeDescription& rope,
                                  const std::vector<float>& projected, int position, int head) {
  const int kv_head = head * shape.kv_heads / shape.q_heads;
  const auto q = rotated(shape, rope, projected, position, head);
  const int64_t first = shape.window > 0 ? std::max<int64_t>(0, position - shape.window + 1) : 0;
  std::vector<double> out(static_cast<size_t>(shape.head_dim));
  double total = 0;
  for (int p = static_cast<int>(first); p <= position; ++p) {
    const auto k = rotated(shape, rope, projected, p, shape.q_heads + kv_head);
    double score = 0;
    for (int d = 0; d < shape.head_dim; ++d) score += 0.25 * q[d] * k[d];
    const double weight = std::exp(score);
    total += weight;
    const float* v = projected.data() + p * shape.cols() +
                     (shape.q_heads + shape.kv_heads + kv_head) * shape.head_dim;
    for (int d = 0; d < shape.head_dim; ++d) out[d] += weight * v[d];
  }
  for (double& value : out) value /= total;
  return out;
}

constexpr Shape kShapes[] = {
    {2, 2, 16, 0}, {6, 2, 64, 0}, {7, 1, 80, 0}, {4, 2, 24, 20}, {10, 1, 128, 16}, {3, 3, 32, 1},
};

std::vector<Isa> isas() {
  std::vector<Isa> present;
  for (const Isa isa : {Isa::scalar, Isa::avx2, Isa::avx512}) {
    if (supported(isa)) present.push_back(isa);
  }
  return present;
}

}  // namespace

TEST_CASE("attention over paged blocks is near softmax in f64") {
  for (const Shape& shape : kShapes) {
    CAPTURE(shape.q_heads, shape.kv_heads, shape.head_dim, shape.window);
    const auto projected = projections(shape, 1);
    Layer layer(shape, best_isa(), 2, kPositions);
    const auto out = layer.step({{0, kPositions, 1, 0}}, {&projected});
    double worst = 0;
    for (int position = 0; position < kPositions; ++position) {
      for (int head = 0; head < shape.q_heads; ++head) {
        const auto expected = expected_head(shape, layer.frequencies(), projected, position, head);
        for (int d = 0; d < shape.head_dim; ++d) {
          const float got = out[(position * shape.q_heads + head) * shape.head_dim + d];
          const double difference = std::fabs(got - expected[d]);
          worst = std::isfinite(difference) ? std::max(worst, difference) : INFINITY;
        }
      }
    }
    CHECK(worst < 4e-3);
  }
}

TEST_CASE("a position's attention depends neither on chunks nor on neighbours") {
  for (const Shape& shape : kShapes) {
    const auto one = projections(shape, 2);
    const auto two = projections(shape, 3);
    Layer plain(shape, Isa::scalar, 1, kPositions);
    const auto expected = plain.step({{0, kPositions, 0, 0}}, {&one});
    const auto width = static_cast<size_t>(shape.q_heads * shape.head_dim);
    for (const Isa isa : isas()) {
      for (const int threads : {1, 2, 3}) {
        CAPTURE(shape.q_heads, shape.head_dim, shape.window, name_of(isa), threads);
        Layer layer(shape, isa, threads, kPositions);
        std::vector<float> got;
        int32_t other = 0;
        for (const int32_t count : {1, 15, 17, 2, 1, 30, 1, 1, 1, 1}) {
          const auto position = static_cast<int32_t>(got.size() / width);
          const auto rows = layer.step({{0, 3, 2, other}, {0, count, 0, position}}, {&two, &one});
          got.insert(got.end(), rows.begin() + 3 * static_cast<int64_t>(width), rows.end());
          other += 3;
        }
        REQUIRE(got.size() == expected.size());
        CHECK(std::memcmp(got.data(), expected.data(), got.size() * 4) == 0);
      }
    }
  }
}

}  // namespace chorus::kernels
