// The self-check: rounds of several shapes, a few queued at a time so that the ranks run apart, of
// whole numbers, whose sums are exact in any order and known to every rank. All ranks come to one
// verdict through host memory: a rank that went another way than the others would hang the group.
//
// That flags and rows arrive at all, PeerWindows has seen before without waiting for them; a check
// that hangs all the same is ended by the group's watch.
#include "kernels/cuda/group_one_shot.h"

#include <vector>

#include "kernels/cuda/host_gather.h"

namespace chorus::kernels::cuda {
namespace {

struct Shape {
  int64_t rows, cols;
  int64_t count() const { return rows * cols; }
};

// The emulation has tests of its own, and starts groups often.
#ifdef __CUDACC__
constexpr Shape kShapes[] = {{1, 8}, {1, 4096}, {4, 16384}, {32, 2048}, {128, 512}, {9, 4096}};
constexpr int kTurns = 5, kRoundsAtOnce = 4;
#else
constexpr Shape kShapes[] = {{1, 8}, {3, 64}};
constexpr int kTurns = 1, kRoundsAtOnce = 4;
#endif

float value_of(int64_t i, int rank, int round) {
  return static_cast<float>((i * 7 + rank * 13 + round * 29) % 1021 - 500);
}

// Of one shape: x of each round, which becomes the sum or, in every other round, adds to the
// residual; and what the norm writes.
class Check {
 public:
  Check(const OneShot& one_shot, int rank, int ranks, Shape shape)
      : one_shot_(one_shot), rank_(rank), ranks_(ranks), shape_(shape) {
    const std::vector<float> ones(static_cast<size_t>(shape.cols), 1.0F);
    copy_to_device(weight_.get(), ones.data(), shape.cols * kFloatBytes, stream_.get());
    wait_for(stream_.get());
  }

  bool is_right(int turn) {
    const auto floats = static_cast<size_t>(kRoundsAtOnce * shape_.count());
    std::vector<float> values(floats), residuals(floats);
    each([&](int64_t at, int64_t i, int round) {
      values[static_cast<size_t>(at)] = value_of(i, rank_, turn * kRoundsAtOnce + round);
    });
    copy_to_device(x_.get(), values.data(), bytes(), stream_.get());
    copy_to_device(residual_.get(), residuals.data(), bytes(), stream_.get());
    for (int round = 0; round < kRoundsAtOnce; ++round) {
      if (is_fused(round)) {
        one_shot_.all_reduce_add_rms_norm(part(out_, round), part(residual_, round),
                                          part(x_, round), static_cast<float*>(weight_.get()),
                                          1e-5F, stream_.get());
      } else {
        one_shot_.all_reduce(part(x_, round), stream_.get());
      }
    }
    copy_to_host(values.data(), x_.get(), bytes(), stream_.get());
    copy_to_host(residuals.data(), residual_.get(), bytes(), stream_.get());
    wait_for(stream_.get());
    bool right = true;
    each([&](int64_t at, int64_t i, int round) {
      float sum = 0;
      for (int rank = 0; rank < ranks_; ++rank) {
        sum += value_of(i, rank, turn * kRoundsAtOnce + round);
      }
      const auto& found = is_fused(round) ? residuals : values;
      right = right && found[static_cast<size_t>(at)] == sum;
    });
    return right;
  }

 private:
  static constexpr auto kFloatBytes = static_cast<int64_t>(sizeof(float));
  static bool is_fused(int round) { return round % 2 == 1; }

  int64_t bytes() const { return kRoundsAtOnce * shape_.count() * kFloatBytes; }
  View part(const Memory& memory, int round) const {
    return {static_cast<float*>(memory.get()) + round * shape_.count(), DType::f32, shape_.rows,
            shape_.cols};
  }
  template <class Action>
  void each(const Action& action) const {
    for (int round = 0; round < kRoundsAtOnce; ++round) {
      for (int64_t i = 0; i < shape_.count(); ++i) action(round * shape_.count() + i, i, round);
    }
  }

  const OneShot& one_shot_;
  int rank_, ranks_;
  Shape shape_;
  Stream stream_;
  Memory x_ = allocate(bytes()), residual_ = allocate(bytes()), out_ = allocate(bytes());
  Memory weight_ = allocate(shape_.cols * kFloatBytes);
};

// What is wrong with it; empty where nothing is. Every rank goes all the way: a wrong sum is often
// one rank's alone, and the others wait for it in the next.
std::string try_out(const OneShot& one_shot, int rank, int ranks) {
  std::string why;
  for (const Shape& shape : kShapes) {
    Check check(one_shot, rank, ranks, shape);
    for (int turn = 0; turn < kTurns; ++turn) {
      if (check.is_right(turn) || !why.empty()) continue;
      why = "a sum of " + std::to_string(shape.rows) + " rows of " + std::to_string(shape.cols) +
            " came out wrong";
    }
  }
  return why;
}

}  // namespace

GroupOneShot::GroupOneShot(Collective& collective) {
  if (collective.ranks() > kOneShotRanksMax) {
    why_not_ = "more than " + std::to_string(kOneShotRanksMax) + " ranks";
    return;
  }
  windows_ = std::make_unique<PeerWindows>(collective, OneShot::window_bytes());
  why_not_ = windows_->why_not();
  if (!why_not_.empty()) return;
  auto one_shot = std::make_unique<OneShot>(collective.rank(), windows_->all());
  why_not_ = first_objection(collective, try_out(*one_shot, collective.rank(), collective.ranks()));
  if (why_not_.empty()) one_shot_ = std::move(one_shot);
}

}  // namespace chorus::kernels::cuda
