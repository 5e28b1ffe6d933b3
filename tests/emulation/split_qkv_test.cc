// The split of the projection against f64 loops: norms, rotations, scales, and where keys and
// values land.
#include "kernels/cuda/split_qkv.h"

#include <cuda_fp8.h>

#include <algorithm>
#include <cmath>

#include "kernels/cuda/device_weight.h"
#include "kernels/cuda/kv_blocks.h"
#include "kernels/half.h"
#include "tests/emulation/schedules.h"
#include "tests/kernels/random_floats.h"

using namespace chorus;
using kernels::DType;
using kernels::Span;
using kernels::View;
using kernels::cuda::kBlockTokens;
using tests::random_floats;
using tests::under_all_schedules;

namespace {

struct Shape {
  int q_heads, kv_heads, head_dim, rotated;
  bool norms;
  DType kv;
  float q_growth = 0;
};

constexpr int64_t kPositions = 200, kBlocksOfSlot = 7, kLayers = 2;
constexpr int kLayer = 1;

// Three spans of 35 rows in a bucket of 48: a decoding row, a chunk over two blocks, another row.
const std::vector<Span> kSpans = {{0, 1, 2, 131}, {1, 33, 0, 20}, {34, 1, 1, 0}};
constexpr int64_t kRows = 48;
constexpr int32_t kLiveRows = 35, kLiveSpans = 3;

std::shared_ptr<kernels::cuda::DeviceVector> vector_of(const std::vector<float>& values) {
  auto vector = std::make_shared<kernels::cuda::DeviceVector>();
  vector->data = values.data();
  return vector;
}

// How far from the expected a number may be: `absolute`, and `relative` to it.
struct Rounding {
  double absolute, relative;
  double largest = INFINITY;  // what is beyond becomes this
};
constexpr Rounding kExact{2e-6, 2e-6};

class Split {
 public:
  explicit Split(const Shape& shape)
      : shape_(shape),
        cols_((shape.q_heads + 2 * shape.kv_heads) * shape.head_dim),
        qkv_(random_floats(kRows * cols_, 1)),
        q_norm_(random_floats(shape.head_dim, 2)),
        k_norm_(random_floats(shape.head_dim, 3)) {
    if (shape.kv == DType::e4m3) {  // some keys and values are beyond its largest number
      for (int64_t i = 0; i < kRows * cols_; i += 5) {
        if (i % cols_ >= shape.q_heads * shape.head_dim) qkv_[static_cast<size_t>(i)] *= 300;
      }
    }
    for (int64_t position = 0; position < kPositions; ++position) {
      for (int i = 0; i < shape.rotated / 2; ++i) {
        const double angle = static_cast<double>(position) * std::pow(100.0, -i / 4.0);
        cosines_.push_back(static_cast<float>(std::cos(angle)));
        sines_.push_back(static_cast<float>(std::sin(angle)));
      }
    }
    std::vector<int32_t> order;
    for (int32_t i = 0; i < 3 * kBlocksOfSlot; ++i) order.push_back(3 * kBlocksOfSlot - 1 - i);
    block_table_ = order;
    kv_.shape = {.layers = kLayers,
                 .kv_heads = shape.kv_heads,
                 .head_dim = shape.head_dim,
                 .blocks = 3 * kBlocksOfSlot};
    kv_.type = shape.kv;
    kv_elements_ = kLayers * kv_.layer_elements();
  }

  // q, then all keys, then all values, as floats.
  void run_and_check() {
    std::vector<float> out(qkv_.size() + 2 * static_cast<size_t>(kv_elements_));
    under_all_schedules(out, [&] { run(out); });
    for (int64_t row = 0; row < kRows; ++row) check_row(out, row);
    // Nothing but the rows' own places was written.
    int64_t written = 0;
    for (size_t i = qkv_.size(); i < out.size(); ++i) written += std::isnan(out[i]) ? 0 : 1;
    CHECK(written == int64_t{2} * kLiveRows * shape_.kv_heads * shape_.head_dim);
  }

 private:
  void run(std::vector<float>& out) {
    std::copy(qkv_.begin(), qkv_.end(), out.begin());
    const auto bytes = static_cast<size_t>(kv_elements_ * kernels::bytes_of(shape_.kv));
    std::vector<std::byte> keys(bytes, std::byte{0xff}), values(bytes, std::byte{0xff});
    kv_.keys = keys.data();
    kv_.values = values.data();
    kernels::cuda::RopeTable rope;
    rope.cosines = cosines_.data();
    rope.sines = sines_.data();
    rope.positions = kPositions;
    rope.rotated = shape_.rotated;
    std::vector<Span> spans = kSpans;
    spans.resize(8, Span{0, 100, 0, 0});  // not live
    const int32_t live_rows = kLiveRows, live_spans = kLiveSpans;
    kernels::cuda::split_qkv({.qkv = {out.data(), DType::f32, kRows, cols_, &live_rows},
                              .q_heads = shape_.q_heads,
                              .kv_heads = shape_.kv_heads,
                              .head_dim = shape_.head_dim,
                              .q_norm = shape_.norms ? vector_of(q_norm_) : nullptr,
                              .k_norm = shape_.norms ? vector_of(k_norm_) : nullptr,
                              .norm_eps = 1e-5F,
                              .rope = shape_.rotated > 0 ? &rope : nullptr,
                              .q_scale = 0.25F,
                              .q_growth = shape_.q_growth,
                              .q_growth_positions = 10,
                              .spans = {spans.data(), DType::i32, 8, 4, &live_spans},
                              .block_table = {block_table_.data(), DType::i32, 3, kBlocksOfSlot},
                              .kv = &kv_,
                              .layer = kLayer},
                             nullptr);
    tests::wait_for_device();
    for (int64_t i = 0; i < kv_elements_; ++i) {
      out[qkv_.size() + static_cast<size_t>(i)] = stored(keys.data(), i);
      out[qkv_.size() + static_cast<size_t>(kv_elements_ + i)] = stored(values.data(), i);
    }
  }

  float stored(const std::byte* data, int64_t i) const {
    if (shape_.kv == DType::e4m3) {
      __nv_fp8_e4m3 x;
      x.__x = static_cast<__nv_fp8_storage_t>(data[i]);
      return static_cast<float>(x);
    }
    if (shape_.kv == DType::f32) return reinterpret_cast<const float*>(data)[i];
    const uint16_t bits = reinterpret_cast<const uint16_t*>(data)[i];
    return shape_.kv == DType::f16 ? kernels::f16_to_f32(bits) : kernels::bf16_to_f32(bits);
  }

  std::vector<double> head(int64_t row, int head) const {
    const float* x = qkv_.data() + row * cols_ + head * shape_.head_dim;
    return {x, x + shape_.head_dim};
  }

  void check_row(const std::vector<float>& out, int64_t row) const {
    const float* q = out.data() + row * cols_;
    const Span* own = nullptr;
    for (const Span& span : kSpans) {
      if (row >= span.row && row < span.row + span.count) own = &span;
    }
    if (own == nullptr) {
      REQUIRE(std::memcmp(q, qkv_.data() + row * cols_, static_cast<size_t>(cols_) * 4) == 0);
      return;
    }
    const int64_t position = own->position + row - own->row;
    const int64_t block =
        block_table_[static_cast<size_t>(own->slot * kBlocksOfSlot + position / kBlockTokens)];
    const double scale =
        0.25 *
        (1 + shape_.q_growth * std::log1p(std::floor(static_cast<double>(position + 1) / 10)));
    for (int h = 0; h < shape_.q_heads; ++h) {
      compare(q + h * shape_.head_dim, rotated(head(row, h), q_norm_, position), scale, kExact);
    }
    const Rounding rounding = shape_.kv == DType::f32    ? kExact
                              : shape_.kv == DType::f16  ? Rounding{1e-3, 1e-3}
                              : shape_.kv == DType::bf16 ? Rounding{5e-3, 5e-3}
                                                         : Rounding{0.001, 0.0626, 448};
    for (int h = 0; h < shape_.kv_heads; ++h) {
      const float* keys = out.data() + qkv_.size() + kLayer * kv_.layer_elements() +
                          ((block * shape_.kv_heads + h) * kBlockTokens + position % kBlockTokens) *
                              shape_.head_dim;
      compare(keys, rotated(head(row, shape_.q_heads + h), k_norm_, position), 1, rounding);
      compare(keys + kv_elements_, head(row, shape_.q_heads + shape_.kv_heads + h), 1, rounding);
    }
  }

  std::vector<double> rotated(std::vector<double> x, const std::vector<float>& norm,
                              int64_t position) const {
    if (shape_.norms) {
      double squares = 0;
      for (const double value : x) squares += value * value;
      const double factor = 1 / std::sqrt(squares / shape_.head_dim + 1e-5);
      for (size_t i = 0; i < x.size(); ++i) x[i] *= factor * norm[i];
    }
    const int half = shape_.rotated / 2;
    for (int i = 0; i < half; ++i) {
      const double a = x[static_cast<size_t>(i)], b = x[static_cast<size_t>(i + half)];
      const double c = cosines_[static_cast<size_t>(position * half + i)];
      const double s = sines_[static_cast<size_t>(position * half + i)];
      x[static_cast<size_t>(i)] = a * c - b * s;
      x[static_cast<size_t>(i + half)] = b * c + a * s;
    }
    return x;
  }

  static void compare(const float* got, const std::vector<double>& wanted, double scale,
                      const Rounding& rounding) {
    for (size_t i = 0; i < wanted.size(); ++i) {
      const double expected = std::clamp(wanted[i] * scale, -rounding.largest, rounding.largest);
      const double tolerance = rounding.absolute + rounding.relative * std::fabs(expected);
      if (std::fabs(got[i] - expected) <= tolerance) continue;
      REQUIRE(got[i] == Approx(expected));
    }
  }

  Shape shape_;
  int64_t cols_;
  std::vector<float> qkv_, q_norm_, k_norm_, cosines_, sines_;
  std::vector<int32_t> block_table_;
  kernels::cuda::KvBlocks kv_;
  int64_t kv_elements_ = 0;
};

}  // namespace

TEST_CASE("split_qkv rotates q in place and stores keys and values in their blocks") {
  for (const DType kv : {DType::f16, DType::bf16, DType::e4m3, DType::f32}) {
    Split({.q_heads = 4, .kv_heads = 2, .head_dim = 128, .rotated = 128, .norms = false, .kv = kv})
        .run_and_check();
  }
}

TEST_CASE("split_qkv norms heads and takes any even head size") {
  for (const int head_dim : {64, 96, 256, 512, 10, 34}) {
    Split({.q_heads = 3,
           .kv_heads = 1,
           .head_dim = head_dim,
           .rotated = head_dim,
           .norms = true,
           .kv = DType::f16})
        .run_and_check();
  }
}

TEST_CASE("split_qkv stores fp8 keys and values of any even head size, the largest for larger") {
  for (const int head_dim : {64, 96, 256, 512, 34}) {
    Split({.q_heads = 3,
           .kv_heads = 1,
           .head_dim = head_dim,
           .rotated = head_dim == 96 ? 48 : head_dim,
           .norms = head_dim == 64,
           .kv = DType::e4m3})
        .run_and_check();
  }
}

TEST_CASE("split_qkv rotates the first part of a head, or none of it") {
  for (const int rotated : {0, 24, 48, 30}) {
    Split({.q_heads = 9,
           .kv_heads = 3,
           .head_dim = 64,
           .rotated = rotated,
           .norms = rotated == 48,
           .kv = DType::f32,
           .q_growth = rotated == 0 ? 0.1F : 0})
        .run_and_check();
  }
}

TEST_CASE("split_qkv refuses heads that it is not made for") {
  kernels::cuda::KvBlocks kv;
  kernels::QkvArgs args;
  args.qkv = {nullptr, DType::f32, 1, 3 * 514};
  args.head_dim = 514;
  args.kv = &kv;
  CHECK_THROWS_WITH(kernels::cuda::split_qkv(args, nullptr), Catch::Contains("514"));
}
