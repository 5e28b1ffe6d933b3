// The default model from end to end on the CUDA backend, over the emulation of its kernels: a
// prompt of 64 tokens and 12 greedy ones, against the CPU backend, with the options that a server
// starts both with.
//
// The two do not round alike (the CPU backend quantises activations to 16 bits, the CUDA backend
// keeps them in bf16), so the prompt is one after which no two tokens are nearly as likely: where
// they were, the tokens of a correct backend might differ.
#ifdef CHORUS_HAS_EMULATION

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <iostream>

#include "kernels/emulate/emulate.h"
#include "tests/shard/models/golden.h"

using namespace chorus;
using namespace chorus::tests;

namespace {

constexpr int kPromptBegin = 120, kPrompt = 64, kTokens = 12;  // of a longer text
constexpr float kLead = 0.4F;  // of every token's log-probability over the next one's
constexpr float kNear = 0.1F;  // how far one and the same token's may be apart

using MakeOps = std::function<std::unique_ptr<kernels::Ops>(const kernels::CpuOptions&)>;

std::vector<int32_t> prompt() {
  const auto text = read_golden("smollm2").back().ids;
  REQUIRE(text.size() >= kPromptBegin + kPrompt);
  return {text.begin() + kPromptBegin, text.begin() + kPromptBegin + kPrompt};
}

std::vector<kernels::Sampled> generate(const modelfile::Model& model, int ranks,
                                       const MakeOps& make) {
  LocalGroup group(model, {.ranks = ranks,
                           .make_ops = make,
                           .limits = {.slots = 1, .step_tokens_max = kPrompt, .context_max = 128},
                           .kv_tokens = 128});
  std::vector<kernels::Sampled> sampled;
  int64_t held = 0, done = 0;
  for (int i = 0; i < kTokens; ++i) {
    step::Row row{.slot = 0, .start = std::nullopt, .tokens = {}, .position = done};
    if (i == 0) {
      row.tokens = prompt();
      row.start = step::NewSequence{.sequence = 1,
                                    .sampling = {.temperature = 0, .top_logprobs = 2},
                                    .history = row.tokens,
                                    .output_begin = kPrompt};
    }
    done += std::max<int64_t>(1, std::ssize(row.tokens));
    row.sample = true;
    row.output_index = i;
    group.add_blocks(row, held, done);
    sampled.push_back(group.execute({.number = 0, .rows = {row}}).rows.at(0).sampled);
  }
  return sampled;
}

void emulated_ranks_agree(int ranks) {
  REQUIRE(std::filesystem::exists(cached_model(kSmolLm2)));
  const auto model = modelfile::open_model(cached_model(kSmolLm2));
  const auto expected = generate(*model, 1, kernels::make_cpu_ops);
  emulate::settings = {.order = emulate::Order::greedy};  // 32 stacks at a time stay in the cache
  const auto found = generate(*model, ranks, [](const kernels::CpuOptions& options) {
    return kernels::make_emulated_ops({.collective = options.collective});
  });
  emulate::settings = {};
  float largest = 0;
  for (size_t i = 0; i < kTokens; ++i) {
    CAPTURE(i);
    CHECK(expected[i].logprob - expected[i].top_logprobs[1] > kLead);
    CHECK(found[i].token == expected[i].token);
    largest = std::max(largest, std::abs(found[i].logprob - expected[i].logprob));
  }
  std::cout << ranks << " ranks: largest difference of log-probabilities " << largest << "\n";
  CHECK(largest < kNear);
}

}  // namespace

TEST_CASE("the default model on one emulated rank gives the CPU backend's tokens") {
  emulated_ranks_agree(1);
}
TEST_CASE("the default model on two emulated ranks gives the CPU backend's tokens") {
  emulated_ranks_agree(2);
}

#endif
