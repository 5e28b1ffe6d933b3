#include <catch2/catch.hpp>

#include "kernels/cuda/repack_plan.h"
#include "kernels/cuda/weights.h"
#include "tests/emulation/host_repack.h"
#include "tests/emulation/quantised_sources.h"
#include "tests/emulation/schedules.h"

using namespace chorus;
using namespace chorus::tests;
using kernels::DType;
using kernels::Range;
using kernels::RowOrder;
using kernels::cuda::DeviceWeight;
using kernels::cuda::WeightLoader;

namespace {

constexpr int64_t kBuffer = 1 << 20;

std::vector<uint8_t> on_device(const std::vector<WeightPart>& parts, int64_t buffer_bytes) {
  WeightLoader loader(DType::bf16, nullptr, buffer_bytes);
  const kernels::Weight weight = loader.product_matrix(parts);
  std::vector<uint8_t> bytes(static_cast<size_t>(weight->bytes));
  kernels::cuda::copy_to_host(bytes.data(), kernels::cuda::matrix(weight).data, weight->bytes,
                              nullptr);
  loader.finish();
  return bytes;
}

int64_t differences(const std::vector<uint8_t>& a, const std::vector<uint8_t>& b) {
  if (a.size() != b.size()) return -1;
  int64_t count = 0;
  for (size_t i = 0; i < a.size(); ++i) count += a[i] != b[i];
  return count;
}

}  // namespace

TEST_CASE("the device repacks quantised weights to the bits that the host gives") {
  const auto [rows, cols] = GENERATE(table<int64_t, int64_t>({{16, 256}, {40, 768}, {72, 1280}}));
  for (const Source& source : all_sources(rows, cols)) {
    INFO(source.name << ", " << rows << " rows, " << cols << " columns");
    const auto expected = host_repack::repack({source.part});
    for (const auto& schedule : schedules()) {
      use(schedule);
      CHECK(differences(on_device({source.part}, kBuffer), expected) == 0);
    }
    use({});
  }
}

TEST_CASE("a slice of rows and columns is repacked as the host does it") {
  const auto cols = GENERATE(Range{0, 512}, Range{64, 320}, Range{160, 264}, Range{5, 141},
                             Range{256, 259}, Range{511, 512});
  const auto rows = GENERATE(Range{0, 48}, Range{3, 38}, Range{16, 17}, Range{8, 41});
  for (Source& source : all_sources(48, 512)) {
    INFO(source.name << ", columns " << cols.begin << " to " << cols.end << ", rows " << rows.begin
                     << " to " << rows.end);
    source.part.cols = cols;
    source.part.rows = rows;
    CHECK(differences(on_device({source.part}, kBuffer), host_repack::repack({source.part})) == 0);
  }
}

TEST_CASE("a weight that is larger than a buffer comes in slices") {
  const bool halves = GENERATE(false, true);
  for (Source& source : all_sources(800, 512)) {
    if (halves) {
      source.part.order = RowOrder::rope_pairs_to_halves;
      source.part.head_dim = 80;
      source.part.rows = {80, 720};
      source.part.cols = {128, 448};
    }
    const auto expected = host_repack::repack({source.part});
    const kernels::WeightDescription description{.parts = {source.part}};
    const auto plan = kernels::cuda::plan_repack(description);
    int64_t slices = 0;
    const int64_t buffer = 64 << 10;
    for (int64_t tile = 0; tile < plan.parts[0].segment.row_tiles; ++slices) {
      tile += kernels::cuda::slice_from(plan.parts[0], tile, buffer).tiles;
    }
    INFO(source.name << ", " << slices << " slices");
    CHECK(slices > 1);
    CHECK(differences(on_device({source.part}, buffer), expected) == 0);
  }
}

TEST_CASE("parts of all types stand behind one another in a weight") {
  std::vector<WeightPart> parts;
  const auto sources = all_sources(40, 768);
  for (const Source& source : sources) parts.push_back(source.part);
  const auto expected = host_repack::repack(parts);
  for (const auto& schedule : schedules()) {
    use(schedule);
    CHECK(differences(on_device(parts, kBuffer), expected) == 0);
  }
  use({});
}

TEST_CASE("plain weights and vectors come through buffers of any size") {
  const Source source = blocks(WeightType::bf16, 37, 72);
  const int64_t row_size = 144, buffer = GENERATE(160, 1000, 1 << 20);
  WeightLoader loader(DType::bf16, nullptr, buffer);
  WeightPart part = source.part;
  part.rows = {1, 36};
  const kernels::Weight weight = loader.matrix({part});
  const kernels::Weight vector = loader.vector(
      {.parts = {{.data = part.data, .type = WeightType::bf16, .range = {2, 42}}}, .add = 1});
  loader.finish();
  std::vector<uint8_t> bytes(static_cast<size_t>(35 * row_size));
  REQUIRE(weight->bytes == std::ssize(bytes));
  kernels::cuda::copy_to_host(bytes.data(), kernels::cuda::matrix(weight).data, weight->bytes,
                              nullptr);
  CHECK(std::memcmp(bytes.data(), part.data + row_size, bytes.size()) == 0);
  std::vector<float> values(40);
  kernels::cuda::copy_to_host(values.data(), kernels::cuda::vector(vector), 160, nullptr);
  for (int64_t i = 0; i < 40; ++i) {
    CHECK(values[static_cast<size_t>(i)] == static_cast<float>(source.at(0, 2 + i)) + 1);
  }
}

TEST_CASE("what has no coding on the device is known") {
  const Source narrow = scaled("gptq", {.type = WeightType::i4_gptq,
                                        .rows = 16,
                                        .cols = 64,
                                        .group_cols = 16,
                                        .scale_type = WeightType::f16});
  CHECK_FALSE(kernels::cuda::has_codings({.parts = {narrow.part}}));
  const Source q8 = blocks(WeightType::q8_0, 16, 64), plain = blocks(WeightType::f16, 16, 64);
  CHECK(kernels::cuda::has_codings({.parts = {q8.part}}));
  CHECK_FALSE(kernels::cuda::has_codings({.parts = {q8.part, plain.part}}));
}
