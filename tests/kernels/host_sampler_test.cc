// The sample operation as a whole: what it draws, how often, and that neither ranks nor threads nor
// neighbours change it.
#include "kernels/host_sampler.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <map>

#include "tests/kernels/backends.h"
#include "tests/kernels/random_weights.h"
#include "tests/kernels/rank_threads.h"

using namespace chorus;
using namespace chorus::tests;
using kernels::Sampled;
using kernels::SamplingParams;

namespace {

struct Outcome {
  std::vector<Sampled> sampled;
  std::vector<int32_t> last_tokens;
};

// One backend's part: the slice of the vocabulary that belongs to the collective's rank.
Outcome sample_slice(std::unique_ptr<Ops> ops, Range slice, const std::vector<float>& logits,
                     const std::vector<SamplingParams>& params) {
  Bench bench(kernels::make_checked_ops(std::move(ops), true));
  const auto rows = static_cast<int64_t>(params.size());
  const auto vocab = static_cast<int64_t>(logits.size()) / rows;
  std::vector<float> own;
  for (int64_t row = 0; row < rows; ++row) {
    own.insert(own.end(), logits.begin() + row * vocab + slice.begin,
               logits.begin() + row * vocab + slice.end);
  }
  const auto* live = bench.live(static_cast<int32_t>(rows));
  const View view = bench.floats(own, rows + 1, slice.size(), live);
  const View to = bench.ops().allocate(DType::u8, rows + 1, sizeof(SamplingParams), live);
  const View results = bench.ops().allocate(DType::u8, rows + 1, sizeof(Sampled), live);
  const View last = bench.integers(std::vector<int32_t>(64, -1), 64, 1);
  bench.ops().upload(to, params.data(), 0, rows * static_cast<int64_t>(sizeof(SamplingParams)));
  bench.run([&] { bench.ops().sample({view, slice, vocab, to, results, last}); });
  Outcome outcome;
  outcome.sampled.resize(params.size());
  outcome.last_tokens.resize(64);
  bench.ops().download(outcome.sampled.data(), results, 0,
                       rows * static_cast<int64_t>(sizeof(Sampled)));
  bench.ops().download(outcome.last_tokens.data(), last, 0, 64 * 4);
  return outcome;
}

Outcome sample(const std::vector<float>& logits, const std::vector<SamplingParams>& params,
               int threads = 1) {
  const auto vocab = static_cast<int64_t>(logits.size() / params.size());
  return sample_slice(kernels::make_reference_ops({.threads = threads}), {0, vocab}, logits,
                      params);
}

SamplingParams with(float temperature, int top_k, float top_p, uint64_t seed = 1) {
  SamplingParams params;
  params.temperature = temperature;
  params.top_k = top_k;
  params.top_p = top_p;
  params.seed = seed;
  return params;
}

// The probabilities that the filters leave, in f64.
std::map<int32_t, double> distribution(const std::vector<float>& logits,
                                       const SamplingParams& params) {
  std::vector<kernels::Candidate> all;
  for (size_t i = 0; i < logits.size(); ++i) all.push_back({logits[i], static_cast<int32_t>(i)});
  std::sort(all.begin(), all.end(), kernels::better);
  if (params.top_k > 0 && params.top_k < static_cast<int>(all.size())) {
    all.resize(static_cast<size_t>(params.top_k));
  }
  const auto weight = [&](const kernels::Candidate& c) {
    return std::exp((static_cast<double>(c.logit) - all[0].logit) / params.temperature);
  };
  double total = 0, kept = 0;
  for (const auto& candidate : all) total += weight(candidate);
  std::map<int32_t, double> left;
  for (const auto& candidate : all) {
    if (params.top_p < 1 && kept >= params.top_p * total) break;
    kept += left[candidate.id] = weight(candidate);
  }
  for (auto& [id, probability] : left) probability /= kept;
  return left;
}

// Pearson's statistic over tokens expected at least five times, the rest as one; far above its mean
// where the draws come from another distribution.
bool fits(const std::map<int32_t, int>& counts, const std::map<int32_t, double>& expected,
          int draws) {
  double statistic = 0, rest_expected = 0, rest_counted = 0;
  int bins = 0;
  for (const auto& [id, probability] : expected) {
    const auto found = counts.find(id);
    const double counted = found == counts.end() ? 0 : found->second;
    if (probability * draws < 5) {
      rest_expected += probability * draws;
      rest_counted += counted;
      continue;
    }
    ++bins;
    statistic += std::pow(counted - probability * draws, 2) / (probability * draws);
  }
  if (rest_expected > 0) {
    ++bins;
    statistic += std::pow(rest_counted - rest_expected, 2) / rest_expected;
  }
  CAPTURE(statistic, bins);
  CHECK(statistic < bins + 4 * std::sqrt(2.0 * bins) + 8);
  return true;
}

const std::vector<SamplingParams> kKinds = {
    with(1, 0, 1),        with(0.7F, 5, 1),      with(1, 0, 0.5F),     with(2, 0, 0.97F),
    with(1.5F, 100, 1),   with(1, 20, 0.7F),     with(1, 150, 0.8F),   with(0, 0, 1),
    with(0.02F, 0, 0.9F), with(1, 0, 0.999999F), with(3, 100000, 0.3F)};

// Rows of all kinds of draws, with different seeds, some with alternatives, one forced.
std::vector<SamplingParams> mixed_rows() {
  std::vector<SamplingParams> rows = kKinds;
  rows.insert(rows.end(), kKinds.begin(), kKinds.end());
  for (size_t i = 0; i < rows.size(); ++i) {
    rows[i].seed = i * 1000003;
    rows[i].output_index = static_cast<int32_t>(i);
    rows[i].slot = static_cast<int32_t>(63 - i);
    rows[i].top_logprobs = static_cast<int32_t>(i * 5 % 65);
  }
  rows[3].forced = 299;
  return rows;
}

void check_equal(const Outcome& a, const Outcome& b) {
  REQUIRE(a.last_tokens == b.last_tokens);
  for (size_t row = 0; row < a.sampled.size(); ++row) {
    CAPTURE(row);
    const Sampled &x = a.sampled[row], &y = b.sampled[row];
    REQUIRE(x.token == y.token);
    REQUIRE(x.logprob == y.logprob);
    REQUIRE(x.top_count == y.top_count);
    REQUIRE(std::equal(x.top_ids, x.top_ids + x.top_count, y.top_ids));
    REQUIRE(std::equal(x.top_logprobs, x.top_logprobs + x.top_count, y.top_logprobs));
  }
}

}  // namespace

TEST_CASE("tokens come as often as temperature, top_k and top_p say") {
  constexpr int kVocab = 300, kRows = 50, kRuns = 100;
  const auto logits = random_floats(kVocab, 51, 1.5F);
  std::vector<float> repeated;
  for (int row = 0; row < kRows; ++row) {
    repeated.insert(repeated.end(), logits.begin(), logits.end());
  }
  for (SamplingParams kind : kKinds) {
    if (kind.temperature == 0) continue;
    CAPTURE(kind.temperature, kind.top_k, kind.top_p);
    const auto expected = distribution(logits, kind);
    std::map<int32_t, int> counts;
    for (int run = 0; run < kRuns; ++run) {
      std::vector<SamplingParams> rows(kRows, kind);
      for (int row = 0; row < kRows; ++row) {
        rows[static_cast<size_t>(row)].seed = static_cast<uint64_t>(run);
        rows[static_cast<size_t>(row)].output_index = row;
      }
      for (const Sampled& sampled : sample(repeated, rows).sampled) {
        REQUIRE(expected.count(sampled.token) == 1);
        ++counts[sampled.token];
      }
    }
    CHECK(fits(counts, expected, kRows * kRuns));
  }
}

TEST_CASE("logprobs are the model's own, and alternatives stand best first") {
  constexpr int kVocab = 300;
  const auto logits = random_floats(kVocab, 52, 3);
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
  const auto logprob = [&](int32_t id) { return logits[static_cast<size_t>(id)] - std::log(sum); };
  for (SamplingParams params : kKinds) {
    params.top_logprobs = 20;
    const Sampled sampled = sample(logits, {params}).sampled[0];
    CHECK(sampled.logprob == Approx(logprob(sampled.token)).margin(1e-5));
    REQUIRE(sampled.top_count == 20);
    for (int i = 0; i < 20; ++i) {
      CHECK(sampled.top_logprobs[i] == Approx(logprob(sampled.top_ids[i])).margin(1e-5));
      if (i > 0) CHECK(sampled.top_logprobs[i] <= sampled.top_logprobs[i - 1]);
    }
    if (params.temperature == 0) CHECK(sampled.token == sampled.top_ids[0]);
  }
}

TEST_CASE("greedy ties go to the smaller id and a forced token is taken") {
  std::vector<float> logits(200, 1);
  CHECK(sample(logits, {with(0, 0, 1)}).sampled[0].token == 0);
  logits[130] = logits[70] = 2;
  CHECK(sample(logits, {with(0, 0, 1)}, 2).sampled[0].token == 70);
  SamplingParams forced = with(1, 3, 0.1F);
  forced.forced = 199;
  const auto outcome = sample(logits, {forced});
  CHECK(outcome.sampled[0].token == 199);
  CHECK(outcome.last_tokens[0] == 199);
  CHECK(outcome.sampled[0].logprob ==
        Approx(1 - std::log(198 * std::exp(1.0) + 2 * std::exp(2.0))).margin(1e-5));
}

TEST_CASE("ranks, threads and backends do not change what is sampled") {
  const auto rows = mixed_rows();
  const auto logits = random_floats(static_cast<int64_t>(rows.size()) * 300, 53, 2);
  const Outcome expected = sample(logits, rows);
  CHECK(expected.sampled[3].token == 299);
  for (const int ranks : {1, 2, 3}) {
    for (const int threads : {1, 2, 3}) {
      for (const bool reference : {true, false}) {
        CAPTURE(ranks, threads, reference);
        std::vector<Outcome> outcomes(static_cast<size_t>(ranks));
        on_ranks(ranks, [&](kernels::Collective& collective) {
          // Uneven slices: the first rank has a tenth, the last the rest.
          const auto cut = [&](int r) { return r == 0 ? 0 : r == ranks ? 300 : 30 + 97 * (r - 1); };
          const kernels::CpuOptions options{.threads = threads, .collective = &collective};
          outcomes[static_cast<size_t>(collective.rank())] = sample_slice(
              reference ? kernels::make_reference_ops(options) : kernels::make_cpu_ops(options),
              {cut(collective.rank()), cut(collective.rank() + 1)}, logits, rows);
        });
        for (const Outcome& outcome : outcomes) check_equal(outcome, expected);
      }
    }
  }
}

TEST_CASE("a row's draw does not depend on its neighbours") {
  const auto rows = mixed_rows();
  const auto logits = random_floats(static_cast<int64_t>(rows.size()) * 300, 54, 2);
  const Outcome together = sample(logits, rows, 2);
  for (size_t i = 0; i < rows.size(); ++i) {
    CAPTURE(i);
    const auto at = logits.begin() + static_cast<int64_t>(i) * 300;
    const Outcome alone = sample({at, at + 300}, {rows[i]});
    CHECK(alone.sampled[0].token == together.sampled[i].token);
    CHECK(alone.sampled[0].logprob == together.sampled[i].logprob);
  }
}

TEST_CASE("logits that are not numbers end the step, single ones are passed over") {
  std::vector<float> logits(100, NAN);
  CHECK_THROWS_WITH(sample(logits, {with(0, 0, 1)}, 2),
                    Catch::Contains("logits of row 0 are not finite"));
  logits[40] = -3;
  for (const SamplingParams& params : kKinds) {
    CHECK(sample(logits, {params}).sampled[0].token == 40);
    CHECK(sample(logits, {params}).sampled[0].logprob == 0);
  }
}
