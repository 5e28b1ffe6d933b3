// Ranks of the CUDA backend, each over the emulation of its kernels, as a group on host memory: two
// give the tokens and log-probabilities of one, and of the CPU's reference.
#ifdef CHORUS_HAS_EMULATION

#include <catch2/catch.hpp>
#include <cmath>

#include "tests/modelfile/scratch_folder.h"
#include "tests/shard/local_group.h"
#include "tests/shard/models/families.h"

using namespace chorus;
using namespace chorus::tests;

namespace {

using MakeOps = std::function<std::unique_ptr<kernels::Ops>(const kernels::CpuOptions&)>;

MakeOps emulated(bool deterministic) {
  return [=](const kernels::CpuOptions& options) {
    return kernels::make_emulated_ops({.operand = kernels::DType::f32,
                                       .deterministic = deterministic,
                                       .collective = options.collective});
  };
}

// A greedy row beside two that draw, `steps` tokens of each.
std::vector<kernels::Sampled> generate(const modelfile::Model& model, const TinyModel& tiny,
                                       int ranks, const MakeOps& make, int steps) {
  LocalGroup group(model,
                   {.ranks = ranks,
                    .make_ops = make,
                    .limits = {.slots = 4, .step_tokens_max = 64, .context_max = tiny.context()},
                    .kv_tokens = 0});  // what the device has room for, after a trial
  const auto prompt = tiny.prompt();
  std::vector<kernels::Sampled> sampled;
  std::vector<int64_t> held(3), done(3);
  for (int i = 0; i < steps; ++i) {
    step::Step step;
    for (int slot = 0; slot < 3; ++slot) {
      const auto at = static_cast<size_t>(slot);
      step::Row row{.slot = slot, .start = std::nullopt, .tokens = {}, .position = done[at]};
      if (i == 0) {
        row.tokens.assign(prompt.begin(), prompt.begin() + 5 + 3 * slot);
        row.start = step::NewSequence{.sequence = at, .history = row.tokens, .output_begin = 5};
        row.start->sampling = {.temperature = slot == 0 ? 0.0F : 0.9F,
                               .top_p = slot == 1 ? 0.9F : 1.0F,
                               .seed = 100 + at,
                               .top_logprobs = 5};
      }
      done[at] += std::max<int64_t>(1, std::ssize(row.tokens));
      row.sample = true;
      row.output_index = i;
      group.add_blocks(row, held[at], done[at]);
      step.rows.push_back(std::move(row));
    }
    for (const auto& row : group.execute(std::move(step)).rows) sampled.push_back(row.sampled);
  }
  return sampled;
}

void check_near(const std::vector<kernels::Sampled>& a, const std::vector<kernels::Sampled>& b) {
  REQUIRE(a.size() == b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    CAPTURE(i);
    CHECK(a[i].token == b[i].token);
    CHECK(std::abs(a[i].logprob - b[i].logprob) < 1e-3F);
    REQUIRE(a[i].top_count == b[i].top_count);
    for (int t = 0; t < a[i].top_count; ++t) CHECK(a[i].top_ids[t] == b[i].top_ids[t]);
  }
}

void ranks_agree(const char* name, const std::vector<int>& counts) {
  CAPTURE(name);
  const TinyModel tiny(TinyModel::list().at(name));
  test::ScratchFolder folder;
  tiny.save_folder(folder.path(), false);
  const auto model = modelfile::open_model(folder.path());
  const auto expected = generate(*model, tiny, 1, kernels::make_reference_ops, 4);
  for (const int ranks : counts) {
    CAPTURE(ranks);
    for (const bool deterministic : {false, true}) {
      check_near(generate(*model, tiny, ranks, emulated(deterministic), 4), expected);
    }
  }
}

}  // namespace

TEST_CASE("1, 2 and 4 emulated ranks of a tiny model draw the reference's tokens") {
  ranks_agree("qwen2", {1, 2, 4});
}
TEST_CASE("2 emulated ranks of tiny Gemma and Mistral draw the reference's tokens") {
  ranks_agree("gemma3", {2});
  ranks_agree("mistral", {2});
}

#endif
