// Mixtures of experts against f64 loops: the choice with equal logits, and the layers over types,
// odd sizes, one token to many, rows that are not live. A token has the same bits alone.
#include "kernels/cuda/experts.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "kernels/cuda/device_weight.h"
#include "kernels/half.h"
#include "kernels/rounding.h"
#include "tests/emulation/schedules.h"
#include "tests/kernels/random_floats.h"

using namespace chorus;
using kernels::DType;
using kernels::Gate;
using kernels::RouterScore;
using kernels::View;
using kernels::Weight;
using kernels::cuda::DeviceWeight;
using kernels::cuda::WeightFormat;
using tests::random_floats;
using tests::under_all_schedules;

namespace {

// Rows of a floating-point type, `stride` elements apart; what lies between is zero.
class Matrix {
 public:
  Matrix(DType type, int64_t rows, int64_t cols, int64_t stride, const std::vector<float>& values)
      : type_(type), stride_(stride) {
    bytes_.resize(static_cast<size_t>(rows * stride * kernels::bytes_of(type)) + 16);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < cols; ++c) put(r, c, values[static_cast<size_t>(r * cols + c)]);
    }
  }
  void* data() { return bytes_.data(); }
  double at(int64_t row, int64_t col) const {
    const int64_t i = row * stride_ + col;
    if (type_ == DType::f32) return reinterpret_cast<const float*>(bytes_.data())[i];
    const uint16_t bits = reinterpret_cast<const uint16_t*>(bytes_.data())[i];
    return type_ == DType::f16 ? kernels::f16_to_f32(bits) : kernels::bf16_to_f32(bits);
  }

 private:
  void put(int64_t row, int64_t col, float value) {
    const int64_t i = row * stride_ + col;
    if (type_ == DType::f32) {
      reinterpret_cast<float*>(bytes_.data())[i] = value;
    } else {
      reinterpret_cast<uint16_t*>(bytes_.data())[i] =
          type_ == DType::f16 ? kernels::f32_to_f16(value) : kernels::f32_to_bf16(value);
    }
  }
  DType type_;
  int64_t stride_;
  std::vector<std::byte> bytes_;
};

struct Shape {
  DType operand;
  int64_t experts, chosen, hidden, ffn;
  DType x = DType::f32;
  Gate gate = Gate::silu;
  bool weigh_input = false, add = false;
};

WeightFormat format_of(DType type) {
  return type == DType::f32   ? WeightFormat::f32
         : type == DType::f16 ? WeightFormat::f16
                              : WeightFormat::bf16;
}

// A few more tokens than any test needs; each has its own input, experts and weights.
constexpr int64_t kTokens = 104;

class Mixture {
 public:
  explicit Mixture(const Shape& shape)
      : shape_(shape),
        x_(shape.x, kTokens, shape.hidden, shape.hidden,
           random_floats(kTokens * shape.hidden, 1, 1)),
        before_(random_floats(kTokens * shape.hidden, 2, 1)) {
    for (int64_t e = 0; e < shape.experts; ++e) {
      const auto seed = static_cast<uint32_t>(10 + 2 * e);
      add(gate_up_, args_.gate_up, 2 * shape.ffn, shape.hidden, seed);
      add(down_, args_.down, shape.hidden, shape.ffn, seed + 1);
    }
    std::mt19937 random(3);
    std::vector<int32_t> all(static_cast<size_t>(shape.experts));
    std::iota(all.begin(), all.end(), 0);
    for (int64_t t = 0; t < kTokens; ++t) {
      if (t % 3 != 0) std::shuffle(all.begin(), all.end(), random);  // some tokens agree
      std::vector<int32_t> own(all.begin(), all.begin() + shape.chosen);
      std::sort(own.begin(), own.end());
      experts_.insert(experts_.end(), own.begin(), own.end());
      for (int64_t i = 0; i < shape.chosen; ++i) {
        weights_.push_back(0.1F + 0.05F * static_cast<float>((t + 2 * i) % 7));
      }
    }
    pointers_ = kernels::cuda::expert_pointers(args_);
  }

  // The live rows of `rows` tokens from `first` on.
  std::vector<float> compute(int64_t first, int64_t rows, int32_t live) {
    const int64_t hidden = shape_.hidden;
    std::vector<float> out(static_cast<size_t>(rows * hidden));
    kernels::ExpertsArgs args = args_;
    std::vector<int32_t> experts = experts_;  // what stands behind the live rows names expert 0
    std::fill(experts.begin() + (first + live) * shape_.chosen, experts.end(), 0);
    const auto view = [&](void* data, DType type, int64_t cols) {
      auto* row = static_cast<std::byte*>(data) + first * cols * kernels::bytes_of(type);
      return View{row, type, rows, cols, &live};
    };
    args.x = view(x_.data(), shape_.x, hidden);
    args.experts = view(experts.data(), DType::i32, shape_.chosen);
    args.weights = view(weights_.data(), DType::f32, shape_.chosen);
    args.gate = shape_.gate;
    args.weigh_input = shape_.weigh_input;
    args.add = shape_.add;
    args.out = {out.data(), DType::f32, rows, hidden, &live};
    std::vector<std::byte> workspace(
        static_cast<size_t>(kernels::cuda::experts_workspace_bytes(args)));
    under_all_schedules(out, [&] {
      std::fill(workspace.begin(), workspace.end(), std::byte{0xff});
      std::copy_n(before_.begin() + first * hidden, live * hidden, out.begin());
      kernels::cuda::experts(args, rows, {.multiprocessors = 2}, pointers_.data(), workspace.data(),
                             nullptr);
    });
    for (int64_t i = live * hidden; i < rows * hidden; ++i) {
      REQUIRE(std::isnan(out[static_cast<size_t>(i)]));
    }
    out.resize(static_cast<size_t>(live * hidden));
    return out;
  }

  double expected(int64_t token, int64_t col) const {
    double sum = shape_.add ? before_[static_cast<size_t>(token * shape_.hidden + col)] : 0;
    for (int64_t i = 0; i < shape_.chosen; ++i) {
      const auto pair = static_cast<size_t>(token * shape_.chosen + i);
      const auto e = static_cast<size_t>(experts_[pair]);
      const double in = shape_.weigh_input ? weights_[pair] : 1;
      double part = 0;
      for (int64_t f = 0; f < shape_.ffn; ++f) {
        double gate = 0, up = 0;
        for (int64_t h = 0; h < shape_.hidden; ++h) {
          gate += in * gate_up_[e].at(f, h) * x_.at(token, h);
          up += in * gate_up_[e].at(shape_.ffn + f, h) * x_.at(token, h);
        }
        const double u = std::sqrt(2 / M_PI) * (gate + 0.044715 * gate * gate * gate);
        const double active = shape_.gate == Gate::silu ? gate / (1 + std::exp(-gate))
                                                        : gate / 2 * (1 + std::tanh(u));
        part += down_[e].at(col, f) * active * up;
      }
      sum += (shape_.weigh_input ? 1 : weights_[pair]) * part;
    }
    return sum;
  }

  // Every `step`-th element, the last token's last among them.
  void check(const std::vector<float>& out, int64_t first, int64_t step) const {
    const double slack = shape_.operand == DType::f32   ? 1e-5
                         : shape_.operand == DType::f16 ? 2e-3
                                                        : 1.5e-2;
    for (int64_t i = std::ssize(out) - 1; i >= 0; i -= step) {
      const double right = expected(first + i / shape_.hidden, i % shape_.hidden);
      CAPTURE(i);
      REQUIRE(std::fabs(out[static_cast<size_t>(i)] - right) <= slack * (1 + std::fabs(right)));
    }
  }

 private:
  void add(std::vector<Matrix>& matrices, std::vector<Weight>& weights, int64_t rows, int64_t cols,
           uint32_t seed) const {
    const int64_t granule = 16 / kernels::bytes_of(shape_.operand);
    const int64_t stride = kernels::round_up(cols, granule);
    const float scale = 1 / std::sqrt(static_cast<float>(cols));
    matrices.emplace_back(shape_.operand, rows, cols, stride,
                          random_floats(rows * cols, seed, scale));
    auto weight = std::make_shared<DeviceWeight>();
    weight->rows = rows;
    weight->cols = cols;
    weight->format = format_of(shape_.operand);
    weight->stride = stride;
    weight->data = matrices.back().data();
    weights.push_back(weight);
  }

  Shape shape_;
  Matrix x_;
  std::vector<float> before_, weights_;
  std::vector<int32_t> experts_;
  std::vector<Matrix> gate_up_, down_;
  kernels::ExpertsArgs args_;
  std::vector<const void*> pointers_;
};

constexpr Shape kShapes[] = {
    {DType::bf16, 6, 2, 320, 48, DType::bf16},
    {DType::f16, 40, 3, 72, 40, DType::f16, Gate::gelu_tanh, true, true},
    {DType::bf16, 5, 5, 33, 31, DType::f32, Gate::silu, false, true},
    {DType::f32, 7, 2, 70, 33, DType::f32, Gate::gelu_tanh},
    {DType::f32, 33, 1, 64, 40, DType::f32, Gate::silu, true},
};

void check_route(int64_t experts, int64_t chosen, RouterScore score, bool normalised) {
  CAPTURE(experts, chosen, normalised);
  constexpr int64_t kRows = 11;
  const int32_t live = 9;
  auto logits = random_floats(kRows * experts, 4, 2);
  for (float& logit : logits) logit = std::round(logit * 4) / 4;  // many are equal
  for (int64_t i = 0; i < experts; ++i)
    logits[static_cast<size_t>(i)] = i % 2 == 0 ? -0.0F : 0.0F;  // equal too
  std::vector<int32_t> ids(static_cast<size_t>(kRows * chosen));
  std::vector<float> out(static_cast<size_t>(2 * kRows * chosen));
  under_all_schedules(out, [&] {
    std::fill(ids.begin(), ids.end(), -1);
    kernels::cuda::route_experts({.logits = {logits.data(), DType::f32, kRows, experts, &live},
                                  .experts = {ids.data(), DType::i32, kRows, chosen, &live},
                                  .weights = {out.data(), DType::f32, kRows, chosen, &live},
                                  .score = score,
                                  .normalised = normalised},
                                 nullptr);
    tests::wait_for_device();
    std::copy(ids.begin(), ids.end(), out.begin() + kRows * chosen);
  });
  for (int64_t t = 0; t < kRows; ++t) {
    const float* row = logits.data() + t * experts;
    std::vector<int32_t> order(static_cast<size_t>(experts));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](int32_t a, int32_t b) { return row[a] > row[b]; });
    std::sort(order.begin(), order.begin() + chosen);
    const auto value = [&](int32_t id) {
      const double e = std::exp(double{row[id]});
      return score == RouterScore::softmax ? e : e / (1 + e);
    };
    double all = 0, kept = 0;
    for (int32_t id = 0; id < experts; ++id) all += value(id);
    if (score == RouterScore::sigmoid) all = 1;
    for (int64_t i = 0; i < chosen; ++i) kept += value(order[static_cast<size_t>(i)]);
    for (int64_t i = 0; i < chosen; ++i) {
      const auto at = static_cast<size_t>(t * chosen + i);
      const int32_t id = order[static_cast<size_t>(i)];
      if (t >= live) {
        REQUIRE(std::isnan(out[at]));
        REQUIRE(out[at + static_cast<size_t>(kRows * chosen)] == -1);
        continue;
      }
      REQUIRE(out[at + static_cast<size_t>(kRows * chosen)] == static_cast<float>(id));
      REQUIRE(out[at] == Approx(value(id) / (normalised ? kept : all)));
    }
  }
}

}  // namespace

TEST_CASE("the router chooses the first of the largest logits and weighs them") {
  check_route(8, 2, RouterScore::softmax, true);
  check_route(16, 1, RouterScore::sigmoid, false);
  check_route(33, 33, RouterScore::softmax, false);
  check_route(128, 8, RouterScore::softmax, true);
  check_route(512, 40, RouterScore::sigmoid, true);
}

TEST_CASE("the router refuses more experts than its registers hold") {
  std::vector<float> logits(513), weights(1);
  std::vector<int32_t> ids(1);
  CHECK_THROWS_AS(kernels::cuda::route_experts({.logits = {logits.data(), DType::f32, 1, 513},
                                                .experts = {ids.data(), DType::i32, 1, 1},
                                                .weights = {weights.data(), DType::f32, 1, 1}},
                                               nullptr),
                  std::invalid_argument);
}

TEST_CASE("experts give a few tokens the weighted sum of their layers") {
  for (const Shape& shape : kShapes) {
    CAPTURE(static_cast<int>(shape.operand), shape.experts, shape.hidden);
    Mixture mixture(shape);
    mixture.check(mixture.compute(3, 1, 1), 3, 5);
    mixture.check(mixture.compute(2, 4, 3), 2, 7);
    mixture.check(mixture.compute(0, 8, 8), 0, 11);
    CHECK(mixture.compute(0, 1, 0).empty());
    CHECK(mixture.compute(0, 4, 0).empty());
  }
}

TEST_CASE("experts give many tokens the same bits as each alone") {
  for (const Shape& shape : kShapes) {
    CAPTURE(static_cast<int>(shape.operand), shape.experts, shape.hidden);
    Mixture mixture(shape);
    // Blocks of 8, 32 and 64 pairs, each with whole and short pieces of lists.
    for (const auto& [rows, live] : {std::pair{32, 31}, {48, 41}, {104, 101}}) {
      const auto all = mixture.compute(0, rows, live);
      mixture.check(all, 0, 211);
      for (const int64_t token : {0, 17, live - 1}) {
        const auto alone = mixture.compute(token, 1, 1);
        CHECK(std::memcmp(alone.data(), all.data() + token * shape.hidden,
                          alone.size() * sizeof(float)) == 0);
      }
    }
  }
}

TEST_CASE("experts of which only some are quantised are refused when they are recorded") {
  auto plain = std::make_shared<DeviceWeight>(), quantised = std::make_shared<DeviceWeight>();
  quantised->format = WeightFormat::quantised;
  kernels::ExpertsArgs args;
  args.gate_up = {quantised};
  args.down = {plain};
  CHECK_THROWS_AS(kernels::cuda::expert_pointers(args), std::invalid_argument);
}
