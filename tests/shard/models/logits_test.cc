// Real models against a float32 reference of their dequantised weights (tests/reference/), and
// against how near a peer comes to it.
#include <catch2/catch.hpp>
#include <iostream>

#include "tests/shard/models/golden.h"

using namespace chorus;
using namespace chorus::tests;

namespace {

struct RealModel {
  const char* file;
  const char* golden;
};
constexpr RealModel kModels[] = {{kSmolLm2, "smollm2"}, {kQwen, "qwen2.5"}, {kGemma, "gemma3"}};

// The default model must be there; the larger ones are fetched for `make test-all` alone.
bool present(const RealModel& model) {
  const bool found = std::filesystem::exists(cached_model(model.file));
  if (!found) std::cout << "chorus-skip: " << model.file << " is not in the cache\n";
  REQUIRE((found || model.file != kSmolLm2));
  return found;
}

void print(const RealModel& model, const char* path, const Comparison& c) {
  std::cout << model.golden << ", " << path << ": " << c.positions
            << " positions, largest difference of log-probabilities " << c.largest_difference
            << ", mean KL " << c.mean_divergence << " (peer " << c.peer_mean_divergence
            << "), wrong first tokens " << c.wrong_first << "\n";
}

Comparison compare_with(const RealModel& real, const GroupOptions& options) {
  const auto model = modelfile::open_model(cached_model(real.file));
  LocalGroup group(*model, options);
  return compare(group, read_golden(real.golden));
}

void reference_agrees(const RealModel& real) {
  if (!present(real)) return;
  const auto result =
      compare_with(real, {.threads = 2,
                          .reference = true,
                          .limits = {.slots = 32, .step_tokens_max = 2048, .context_max = 512}});
  print(real, "reference", result);
  CHECK(result.largest_difference < 1e-3);
  CHECK(result.wrong_first == 0);
}

void int8_is_near(const RealModel& real) {
  if (!present(real)) return;
  const auto result = compare_with(
      real, {.threads = 2, .limits = {.slots = 32, .step_tokens_max = 2048, .context_max = 512}});
  print(real, "int8", result);
  CHECK(result.mean_divergence <= 1.2 * result.peer_mean_divergence);
  CHECK(result.wrong_first == 0);
}

void ranks_agree(const RealModel& real, const std::vector<int>& counts) {
  if (!present(real)) return;
  const auto model = modelfile::open_model(cached_model(real.file));
  const auto golden = read_golden(real.golden);
  for (int ranks : counts) {
    LocalGroup group(
        *model,
        {.ranks = ranks, .limits = {.slots = 32, .step_tokens_max = 2048, .context_max = 512}});
    const auto result = compare(group, golden);
    print(real, (std::to_string(ranks) + " ranks").c_str(), result);
    CHECK(result.mean_divergence <= 1.2 * result.peer_mean_divergence);
    CHECK(result.wrong_first == 0);
  }
}

}  // namespace

TEST_CASE("the f32 reference agrees with numpy on SmolLM2") {
  reference_agrees(kModels[0]);
}
TEST_CASE("the f32 reference agrees with numpy on Qwen2.5, larger models") {
  reference_agrees(kModels[1]);
}
TEST_CASE("the f32 reference agrees with numpy on Gemma 3, larger models") {
  reference_agrees(kModels[2]);
}
TEST_CASE("int8 is as near to float32 as the peer on SmolLM2") {
  int8_is_near(kModels[0]);
}
TEST_CASE("int8 is as near to float32 as the peer on Qwen2.5, larger models") {
  int8_is_near(kModels[1]);
}
TEST_CASE("int8 is as near to float32 as the peer on Gemma 3, larger models") {
  int8_is_near(kModels[2]);
}
TEST_CASE("1, 2 and 3 ranks of SmolLM2 are as near") {
  ranks_agree(kModels[0], {1, 2, 3});
}
TEST_CASE("1, 2 and 4 ranks of Qwen2.5 are as near, larger models") {
  ranks_agree(kModels[1], {1, 2, 4});
}
TEST_CASE("1 and 2 ranks of Gemma 3 are as near, larger models") {
  ranks_agree(kModels[2], {1, 2});
}
