// A sequence's tokens and logprobs are its own: bit for bit the same alone and among others, in one
// chunk and in many, on one thread and on two. Ranks may change the last bits, no more.
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <iostream>
#include <set>

#include "tests/shard/models/golden.h"

using namespace chorus;
using namespace chorus::tests;

namespace {

struct Wanted {                 // one sequence to generate
  std::vector<int32_t> prompt;  // and what is known of the output: a sequence that is rebuilt
  int64_t known = 0;
  bool prompt_logprobs = false;
  step::Sampling sampling;
  int tokens = 0;
  int64_t chunk = 1 << 20;
  int joins = 0;  // the step in which it starts
};

using Output = std::vector<kernels::Sampled>;

// Asks for the logprobs of the prompt's tokens that follow the row's.
void ask_for_prompt(step::Row& row, const std::vector<int32_t>& prompt) {
  const auto end = row.position + static_cast<int64_t>(row.tokens.size());
  for (int64_t p = row.position; p < end && p + 1 < static_cast<int64_t>(prompt.size()); ++p) {
    row.logprob_positions.push_back(static_cast<int32_t>(p - row.position));
  }
  if (end < static_cast<int64_t>(prompt.size())) {
    row.next_chunk_token = prompt[static_cast<size_t>(end)];
  }
}

// Runs all sequences to their end, joining and leaving between steps, the prompts in chunks.
// `prompts`: the logprobs of their prompts, where asked for.
std::vector<Output> generate(LocalGroup& group, const std::vector<Wanted>& wanted,
                             std::vector<Output>* prompts = nullptr) {
  if (prompts != nullptr) prompts->assign(wanted.size(), {});
  std::vector<Output> outputs(wanted.size());
  std::vector<int64_t> held(wanted.size()), done(wanted.size());
  std::vector<int> leaving;
  for (int round = 0;; ++round) {
    step::Step step{.number = 0, .rows = {}, .block_copies = {}, .released_slots = leaving};
    leaving.clear();
    bool waiting = false;
    for (size_t i = 0; i < wanted.size(); ++i) {
      const Wanted& w = wanted[i];
      if (static_cast<int>(outputs[i].size()) == w.tokens) continue;
      waiting = true;
      if (round < w.joins) continue;
      step::Row row{
          .slot = static_cast<int>(i), .start = std::nullopt, .tokens = {}, .position = done[i]};
      const auto prompt = static_cast<int64_t>(w.prompt.size());
      if (done[i] < prompt) {
        const int64_t end = std::min(prompt, done[i] + w.chunk);
        row.tokens.assign(w.prompt.begin() + done[i], w.prompt.begin() + end);
      }
      if (done[i] == 0) {
        row.start = step::NewSequence{.sequence = i,
                                      .sampling = w.sampling,
                                      .history = w.prompt,
                                      .output_begin = prompt - w.known};
      }
      done[i] += std::max<int64_t>(1, static_cast<int64_t>(row.tokens.size()));
      row.sample = done[i] >= prompt;
      row.output_index = static_cast<int>(w.known) + static_cast<int>(outputs[i].size());
      group.add_blocks(row, held[i], done[i]);
      if (w.prompt_logprobs) ask_for_prompt(row, w.prompt);
      step.rows.push_back(std::move(row));
    }
    if (!waiting) {
      group.execute(std::move(step));  // the last ones give their seats back
      return outputs;
    }
    for (const auto& result : group.execute(std::move(step)).rows) {
      if (prompts != nullptr) {
        Output& prompt = (*prompts)[static_cast<size_t>(result.slot)];
        prompt.insert(prompt.end(), result.prompt.begin(), result.prompt.end());
      }
      if (result.sampled.token < 0) continue;
      auto& output = outputs[static_cast<size_t>(result.slot)];
      output.push_back(result.sampled);
      if (static_cast<int>(output.size()) == wanted[static_cast<size_t>(result.slot)].tokens) {
        leaving.push_back(result.slot);
      }
    }
  }
}

bool same(const Output& a, const Output& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i].token != b[i].token || a[i].logprob != b[i].logprob) return false;
    if (a[i].top_count != b[i].top_count) return false;
    for (int t = 0; t < a[i].top_count; ++t) {
      if (a[i].top_ids[t] != b[i].top_ids[t] || a[i].top_logprobs[t] != b[i].top_logprobs[t]) {
        return false;
      }
    }
  }
  return true;
}

// A third of them penalised; some with late tokens, biases, min_p or typical_p.
step::Sampling sampling_of(size_t i) {
  const bool sampled = i % 2 == 1;
  step::Sampling sampling{.temperature = sampled ? 0.9F : 0.0F,
                          .top_p = i % 4 == 1 ? 0.9F : 1.0F,
                          .top_k = i % 8 == 3 ? 40 : 0,
                          .seed = 1000 + i,
                          .top_logprobs = 5};
  if (i % 3 == 1) sampling.repetition_penalty = 1.3F;
  if (i % 3 == 1) sampling.presence_penalty = 0.6F;
  if (i % 6 == 1) sampling.frequency_penalty = 0.3F;
  if (i % 8 == 5) sampling.min_p = 0.05F;
  if (i % 8 == 7) sampling.typical_p = 0.8F;
  if (i % 5 == 2) {
    sampling.min_tokens = 6;
    for (int32_t id = 0; id < 12000; id += 3) sampling.late_ids.push_back(id);
  }
  if (i % 4 == 2) sampling.logit_bias = {{.id = 28, .bias = -100}, {.id = 260, .bias = 2}};
  return sampling;
}

std::vector<Wanted> sixteen(const std::vector<GoldenPrompt>& golden) {
  std::vector<Wanted> wanted;
  for (size_t i = 0; i < 16; ++i) {
    wanted.push_back({.prompt = golden[i + 3].ids,  // the last ones are long
                      .sampling = sampling_of(i),
                      .tokens = 10,
                      .chunk = 1 << 20,
                      .joins = static_cast<int>(i % 5)});
  }
  return wanted;
}

}  // namespace

TEST_CASE("a sequence alone, among 15 others, in chunks, on 1 and 2 threads: the same bits") {
  const auto model = modelfile::open_model(cached_model(kSmolLm2));
  const auto wanted = sixteen(read_golden("smollm2"));
  const step::ExecutorLimits limits{.slots = 32, .step_tokens_max = 8192, .context_max = 512};
  const GroupOptions one{.threads = 1, .limits = limits}, two{.threads = 2, .limits = limits};

  std::vector<Output> alone;
  {
    LocalGroup group(*model, one);
    for (Wanted each : wanted) {
      each.joins = 0;
      alone.push_back(generate(group, {each}).front());
    }
  }
  for (const auto& options : {one, two}) {
    for (int64_t chunk : {int64_t{1} << 20, int64_t{32}}) {
      LocalGroup group(*model, options);
      auto together = wanted;
      for (auto& each : together) each.chunk = chunk;
      const auto outputs = generate(group, together);
      for (size_t i = 0; i < outputs.size(); ++i) {
        INFO("sequence " << i << ", chunk " << chunk << ", threads " << options.threads);
        CHECK(same(outputs[i], alone[i]));
      }
    }
  }
}

TEST_CASE("a decoded token's logprobs are those of a prefill of the same tokens") {
  const auto model = modelfile::open_model(cached_model(kSmolLm2));
  LocalGroup group(*model, {});
  auto prompt = read_golden("smollm2")[5].ids;
  const auto decoded =
      generate(group, {{.prompt = prompt, .sampling = {.top_logprobs = 5}, .tokens = 40}}).front();
  for (const auto& token : decoded) {
    const auto whole =
        generate(group, {{.prompt = prompt, .sampling = {.top_logprobs = 5}, .tokens = 1}}).front();
    CHECK(same(whole, {token}));
    prompt.push_back(token.token);
  }
}

TEST_CASE("a sequence that is rebuilt from its history goes on as it would have") {
  const auto model = modelfile::open_model(cached_model(kSmolLm2));
  LocalGroup group(*model, {});
  const auto golden = read_golden("smollm2");
  for (const size_t i : {1, 2, 7, 10, 13}) {
    Wanted whole{.prompt = golden[i + 3].ids, .sampling = sampling_of(i), .tokens = 12};
    whole.chunk = 16;
    const Output expected = generate(group, {whole}).front();
    for (const int known : {1, 5, 6, 11}) {
      Wanted rest = whole;
      for (int t = 0; t < known; ++t) {
        rest.prompt.push_back(expected[static_cast<size_t>(t)].token);
      }
      rest.known = known;
      rest.tokens = 12 - known;
      INFO("sequence " << i << " from output " << known);
      CHECK(same(generate(group, {rest}).front(), {expected.begin() + known, expected.end()}));
    }
  }
}

TEST_CASE("a prompt's logprobs are those its tokens had when they were sampled") {
  const auto model = modelfile::open_model(cached_model(kSmolLm2));
  const auto golden = read_golden("smollm2");
  // One slot, so that the prompt takes several tiles; then others beside it.
  for (const int slots : {1, 3}) {
    LocalGroup group(
        *model,
        {.threads = 2, .limits = {.slots = slots, .step_tokens_max = 1024, .context_max = 512}});
    Wanted text{.prompt = golden[5].ids, .sampling = sampling_of(1), .tokens = 40};
    const Output written = generate(group, {text}).front();
    Wanted rated = text;
    for (const auto& token : written) rated.prompt.push_back(token.token);
    rated.sampling = {.top_logprobs = 5};
    rated.prompt_logprobs = true;
    rated.tokens = 3;
    Wanted unrated = rated;
    unrated.prompt_logprobs = false;
    const Output expected = generate(group, {unrated}).front();
    for (const int64_t chunk : {1 << 20, 7, 1}) {
      INFO("chunks of " << chunk << ", slots " << slots);
      rated.chunk = chunk;
      std::vector<Wanted> together(static_cast<size_t>(slots), rated);
      for (size_t i = 1; i < together.size(); ++i) together[i].prompt_logprobs = i % 2 == 1;
      std::vector<Output> prompts;
      const auto outputs = generate(group, together, &prompts);
      for (size_t i = 0; i < together.size(); ++i) {
        CHECK(same(outputs[i], expected));
        if (!together[i].prompt_logprobs) continue;
        REQUIRE(prompts[i].size() == rated.prompt.size() - 1);
        const auto output_begin = prompts[i].end() - static_cast<int64_t>(written.size());
        CHECK(same({output_begin, prompts[i].end()}, written));
        CHECK(same(prompts[i], prompts[0]));
      }
    }
  }
}

TEST_CASE("a prompt's logprobs with several ranks are those of one, but for the last bits") {
  const auto model = modelfile::open_model(cached_model(kSmolLm2));
  Wanted rated{
      .prompt = read_golden("smollm2")[9].ids, .sampling = {.top_logprobs = 5}, .tokens = 1};
  rated.prompt_logprobs = true;
  std::vector<Output> expected, prompts;
  for (const int ranks : {1, 2, 3}) {
    LocalGroup group(*model, {.ranks = ranks});
    generate(group, {rated}, &prompts);
    if (ranks == 1) expected = prompts;
    REQUIRE(prompts[0].size() == rated.prompt.size() - 1);
    for (size_t i = 0; i < prompts[0].size(); ++i) {
      CHECK(prompts[0][i].token == rated.prompt[i + 1]);
      CHECK(prompts[0][i].logprob == Approx(expected[0][i].logprob).margin(0.05));
      CHECK(prompts[0][i].top_count == 5);
    }
  }
}

TEST_CASE("penalties, biases and min_tokens do to text what they say") {
  const auto model = modelfile::open_model(cached_model(kSmolLm2));
  LocalGroup group(*model, {});
  const auto prompt = read_golden("smollm2")[5].ids;
  const auto ids = [&](const step::Sampling& sampling) {
    const auto outputs = generate(group, {{.prompt = prompt, .sampling = sampling, .tokens = 30}});
    std::vector<int32_t> tokens;
    for (const auto& each : outputs.front()) tokens.push_back(each.token);
    return tokens;
  };
  const auto plain = ids({});
  const std::set<int32_t> distinct(plain.begin(), plain.end());
  CHECK(distinct.size() < plain.size());
  const auto once = ids({.presence_penalty = 1000});
  CHECK(std::set<int32_t>(once.begin(), once.end()).size() == once.size());
  const auto neither = ids({.repetition_penalty = 1e20F});
  for (const int32_t token : prompt) {
    CHECK(std::count(neither.begin(), neither.end(), token) == 0);
  }
  CHECK(ids({.logit_bias = {{.id = 42, .bias = 1000}}}) == std::vector<int32_t>(30, 42));
  step::Sampling late{.min_tokens = 20, .late_ids = {distinct.begin(), distinct.end()}};
  const auto tokens = ids(late);
  for (int t = 0; t < 20; ++t) CHECK_FALSE(distinct.contains(tokens[static_cast<size_t>(t)]));
}

TEST_CASE("scalar, AVX2 and AVX-512 give the same bits on SmolLM2") {
  const auto model = modelfile::open_model(cached_model(kSmolLm2));
  auto wanted = sixteen(read_golden("smollm2"));
  wanted.resize(4);
  std::vector<Output> expected;
  for (auto isa : {kernels::Isa::scalar, kernels::Isa::avx2, kernels::Isa::avx512}) {
    if (!kernels::supported(isa)) {
      std::cout << "not on this machine: " << kernels::name_of(isa) << "\n";
      continue;
    }
    LocalGroup group(*model, {.threads = 2, .isa = isa});
    const auto outputs = generate(group, wanted);
    if (expected.empty()) expected = outputs;
    for (size_t i = 0; i < outputs.size(); ++i) {
      INFO("sequence " << i << " on " << kernels::name_of(isa));
      CHECK(same(outputs[i], expected[i]));
    }
  }
}

TEST_CASE("ranks agree on greedy text until the first two candidates are close") {
  struct Case {
    const char* file;
    const char* golden;
    std::vector<int> ranks;
  };
  const Case models[] = {
      {kSmolLm2, "smollm2", {2, 3}}, {kQwen, "qwen2.5", {2, 4}}, {kGemma, "gemma3", {2}}};
  const step::ExecutorLimits limits{.slots = 32, .step_tokens_max = 8192, .context_max = 512};
  for (const Case& real : models) {
    if (!std::filesystem::exists(cached_model(real.file))) {
      REQUIRE(real.file != kSmolLm2);
      std::cout << real.file << " is not in the cache: left out\n";
      continue;
    }
    const auto model = modelfile::open_model(cached_model(real.file));
    const auto golden = read_golden(real.golden);
    std::vector<Wanted> wanted;
    for (const auto& prompt : golden) {
      wanted.push_back(
          {.prompt = prompt.ids, .sampling = {.top_logprobs = 5}, .tokens = 16, .chunk = 256});
    }
    std::vector<Output> expected;
    {
      LocalGroup group(*model, {.threads = 2, .limits = limits});
      expected = generate(group, wanted);
    }
    for (int ranks : real.ranks) {
      LocalGroup group(*model, {.ranks = ranks, .limits = limits});
      const auto outputs = generate(group, wanted);
      double largest = 0;
      for (size_t i = 0; i < outputs.size(); ++i) {
        for (size_t t = 0; t < outputs[i].size(); ++t) {
          const auto &ours = outputs[i][t], &first = expected[i][t];
          INFO(real.golden << ", " << ranks << " ranks, prompt " << i << ", token " << t);
          if (ours.token != first.token) {
            CHECK(first.top_logprobs[0] - first.top_logprobs[1] < 0.05F);
            break;  // from here on the texts differ
          }
          largest = std::max<double>(largest, std::abs(ours.logprob - first.logprob));
        }
      }
      std::cout << real.golden << ", " << ranks
                << " ranks: largest difference of the chosen tokens' "
                << "log-probabilities " << largest << "\n";
      CHECK(largest < 0.05);
    }
  }
}
