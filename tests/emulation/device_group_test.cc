// Groups of ranks, over NCCL on a GPU, where one rank is all that one device allows, and over the
// host's collectives in the emulation.
#include "kernels/cuda/device_group.h"

#include <catch2/catch.hpp>
#include <iostream>
#include <memory>
#include <vector>

#include "kernels/cuda/group_rows.h"
#include "kernels/cuda/runtime.h"
#include "tests/kernels/rank_threads.h"

using namespace chorus;
using namespace chorus::tests;
using kernels::DType;
using kernels::Range;
using kernels::View;

namespace {

class Floats {
 public:
  Floats(const std::vector<float>& values, cudaStream_t stream)
      : stream_(stream), count_(std::ssize(values)), memory_(kernels::cuda::allocate(count_ * 4)) {
    kernels::cuda::copy_to_device(memory_.get(), values.data(), count_ * 4, stream);
  }
  float* data() const { return static_cast<float*>(memory_.get()); }
  std::vector<float> values() const { return values(data(), count_); }
  std::vector<float> values(const void* from, int64_t count) const {
    std::vector<float> all(static_cast<size_t>(count));
    kernels::cuda::copy_to_host(all.data(), from, count * 4, stream_);
    kernels::cuda::wait_for(stream_);
    return all;
  }

 private:
  cudaStream_t stream_;
  int64_t count_;
  kernels::cuda::Memory memory_;
};

}  // namespace

TEST_CASE("a group of one rank sums and gathers in a graph") {
  std::string why_not;
  if (!kernels::cuda::can_form_groups(why_not)) {
    std::cout << "chorus-skip: " << why_not << "\n";
    return;
  }
  kernels::cuda::select_device(0);
  kernels::cuda::Stream stream;
  RankGroup ranks(1);
  RankGroup::Rank alone(ranks, 0);
  const auto group = kernels::cuda::make_device_group(alone, {});
  const Floats sums({1, 2, 3}, stream.get()), parts({4, 5}, stream.get());
  const kernels::cuda::Graph graph(stream.get(), [&] {
    group->all_reduce(sums.data(), 3, stream.get());
    group->all_gather(parts.data(), 2, stream.get());
  });
  for (int replay = 0; replay < 3; ++replay) {
    graph.replay(stream.get());
    group->step_queued(stream.get());
    CHECK(sums.values() == std::vector<float>{1, 2, 3});
    CHECK(parts.values() == std::vector<float>{4, 5});
  }
}

#ifndef CHORUS_ON_DEVICE

namespace {

// Calls `work` in as many threads as there are ranks.
void each_rank(int count, const std::function<void(kernels::cuda::DeviceGroup&)>& work) {
  on_ranks(count,
           [&](kernels::Collective& rank) { work(*kernels::cuda::make_device_group(rank, {})); });
}

}  // namespace

TEST_CASE("ordered sums add rank after rank, whatever the rows") {
  constexpr int kRanks = 3;
  constexpr int64_t kCols = 301;
  for (const int64_t rows : {1, 3}) {
    const auto value = [](int rank, int64_t i) {
      return (rank == 1 ? -1.0F : 1.0F) * 1e6F + static_cast<float>(i * (rank + 1)) * 0.37F;
    };
    std::vector<std::vector<float>> sums(kRanks);
    each_rank(kRanks, [&](kernels::cuda::DeviceGroup& group) {
      std::vector<float> own;
      for (int64_t i = 0; i < rows * kCols; ++i) own.push_back(value(group.rank(), i));
      const Floats x(own, nullptr);
      kernels::cuda::OrderedSum(group, 5 * kCols)
          .add({.data = x.data(), .type = DType::f32, .rows = rows, .cols = kCols}, nullptr);
      sums[static_cast<size_t>(group.rank())] = x.values();
    });
    for (int64_t i = 0; i < rows * kCols; ++i) {
      const float expected = value(0, i) + value(1, i) + value(2, i);
      for (const auto& sum : sums) CHECK(sum[static_cast<size_t>(i)] == expected);
    }
  }
}

TEST_CASE("slices of different widths become whole rows on every rank") {
  const std::vector<Range> columns = {{0, 33}, {33, 65}, {65, 97}};
  constexpr int64_t kCols = 97, kRows = 3;
  std::vector<std::vector<float>> found(columns.size());
  std::vector<int64_t> widths(columns.size());
  each_rank(3, [&](kernels::cuda::DeviceGroup& group) {
    const auto rank = static_cast<size_t>(group.rank());
    const Range own = columns[rank];
    std::vector<float> slice;
    for (int64_t r = 0; r < kRows; ++r) {
      for (int64_t c = own.begin; c < own.end; ++c) {
        slice.push_back(static_cast<float>(r * kCols + c));
      }
    }
    const Floats x(slice, nullptr);
    kernels::cuda::WholeRows rows(group, 4, columns);
    const View whole = rows.join(
        {.data = x.data(), .type = DType::f32, .rows = kRows, .cols = own.size()}, nullptr);
    widths[rank] = whole.cols;
    found[rank] = x.values(whole.data, kRows * kCols);
  });
  for (const int64_t width : widths) CHECK(width == kCols);
  for (const auto& rows : found) {
    for (int64_t i = 0; i < kRows * kCols; ++i) {
      CHECK(rows[static_cast<size_t>(i)] == static_cast<float>(i));
    }
  }
}

#endif
