// The sample operation as a whole: what it draws, how often, and that neither ranks nor threads nor
// neighbours change it.
#include "kernels/host_sampler.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <fstream>
#include <map>

#include "tests/kernels/backends.h"
#include "tests/kernels/random_weights.h"
#include "tests/kernels/rank_threads.h"

using namespace chorus;
using namespace chorus::tests;
using kernels::Adjustment;
using kernels::Sampled;
using kernels::SamplingParams;

namespace {

constexpr int kSlots = 64;
using Lists = std::vector<std::vector<Adjustment>>;  // of adjustments, by slot

struct Outcome {
  std::vector<Sampled> sampled;
  std::vector<int32_t> last_tokens;
  std::vector<float> logits;  // of the rank, afterwards
  Lists lists;
};

// One backend's part: the slice of the vocabulary that belongs to the collective's rank.
Outcome sample_slice(std::unique_ptr<Ops> ops, Range slice, const std::vector<float>& logits,
                     const std::vector<SamplingParams>& params, Lists lists = {}) {
  Bench bench(kernels::make_checked_ops(std::move(ops), true));
  lists.resize(kSlots);
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
  const View last = bench.integers(std::vector<int32_t>(kSlots, -1), kSlots, 1);
  const auto entry = static_cast<int64_t>(sizeof(Adjustment));
  const View adjustments = bench.ops().allocate(DType::u8, kSlots, vocab * entry);
  const View counts = bench.ops().allocate(DType::i32, kSlots, 1);
  for (int64_t slot = 0; slot < kSlots; ++slot) {
    const auto& list = lists[static_cast<size_t>(slot)];
    const auto count = static_cast<int32_t>(list.size());
    bench.ops().upload(adjustments, list.data(), slot * vocab * entry, count * entry);
    bench.ops().upload(counts, &count, slot * 4, 4);
  }
  bench.ops().upload(to, params.data(), 0, rows * static_cast<int64_t>(sizeof(SamplingParams)));
  bench.run([&] {
    bench.ops().sample({view, slice, vocab, to, results, last, adjustments, counts});
  });
  Outcome outcome{.sampled = {}, .last_tokens = {}, .logits = bench.read(view, rows), .lists = {}};
  outcome.lists.resize(kSlots);
  for (int64_t slot = 0; slot < kSlots; ++slot) {
    auto& list = outcome.lists[static_cast<size_t>(slot)];
    int32_t count = 0;
    bench.ops().download(&count, counts, slot * 4, 4);
    list.resize(static_cast<size_t>(count));
    bench.ops().download(list.data(), adjustments, slot * vocab * entry, count * entry);
  }
  outcome.sampled.resize(params.size());
  outcome.last_tokens.resize(kSlots);
  bench.ops().download(outcome.sampled.data(), results, 0,
                       rows * static_cast<int64_t>(sizeof(Sampled)));
  bench.ops().download(outcome.last_tokens.data(), last, 0, kSlots * 4);
  return outcome;
}

Outcome sample(const std::vector<float>& logits, const std::vector<SamplingParams>& params,
               int threads = 1, const Lists& lists = {}) {
  const auto vocab = static_cast<int64_t>(logits.size() / params.size());
  return sample_slice(kernels::make_reference_ops({.threads = threads}), {0, vocab}, logits, params,
                      lists);
}

SamplingParams with(float temperature, int top_k, float top_p, uint64_t seed = 1) {
  SamplingParams params;
  params.temperature = temperature;
  params.top_k = top_k;
  params.top_p = top_p;
  params.seed = seed;
  return params;
}

SamplingParams with_min_p(SamplingParams params, float min_p) {
  params.min_p = min_p;
  return params;
}
SamplingParams with_typical_p(SamplingParams params, float typical_p) {
  params.typical_p = typical_p;
  return params;
}

// The probabilities that the filters leave, in f64, written down as they are defined.
std::map<int32_t, double> distribution(const std::vector<float>& logits,
                                       const SamplingParams& params) {
  struct Token {
    int32_t id;
    double p;
  };
  std::vector<Token> left;
  for (size_t i = 0; i < logits.size(); ++i) {
    left.push_back(
        {static_cast<int32_t>(i), std::exp(static_cast<double>(logits[i]) / params.temperature)});
  }
  const auto sort = [&](const auto& before) { std::stable_sort(left.begin(), left.end(), before); };
  const auto normalise = [&] {
    double sum = 0;
    for (const Token& token : left) sum += token.p;
    for (Token& token : left) token.p /= sum;
  };
  // Keeps tokens, in their order, until they hold `part` of it all.
  const auto keep = [&](double part) {
    normalise();
    double held = 0;
    size_t count = 0;
    while (count < left.size() && held < part) held += left[count++].p;
    left.resize(count);
  };
  sort([](const Token& a, const Token& b) { return a.p > b.p; });
  if (params.top_k > 0) left.resize(std::min(left.size(), static_cast<size_t>(params.top_k)));
  if (params.top_p < 1) keep(params.top_p);
  const double floor = params.min_p * left[0].p;
  std::erase_if(left, [&](const Token& token) { return token.p < floor; });
  if (params.typical_p < 1) {
    normalise();
    double entropy = 0;
    for (const Token& token : left) entropy -= token.p * std::log(token.p);
    sort([&](const Token& a, const Token& b) {
      return std::fabs(-std::log(a.p) - entropy) < std::fabs(-std::log(b.p) - entropy);
    });
    keep(params.typical_p);
  }
  normalise();
  std::map<int32_t, double> probabilities;
  for (const Token& token : left) probabilities[token.id] = token.p;
  return probabilities;
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

struct Case {  // of tests/reference/sampling_cases.bin; sampling_golden.py describes the file
  SamplingParams params;
  std::vector<Adjustment> list;
  std::vector<float> logits, probabilities;
};

template <class T>
std::vector<T> read_values(std::ifstream& file, int count) {
  std::vector<T> values(static_cast<size_t>(count));
  file.read(reinterpret_cast<char*>(values.data()), count * 4);
  return values;
}
std::vector<int32_t> read_list(std::ifstream& file) {
  return read_values<int32_t>(file, read_values<int32_t>(file, 1)[0]);
}

Case read_case(std::ifstream& file, int vocab) {
  Case golden;
  const auto numbers = read_values<float>(file, 7);
  const auto whole = read_values<int32_t>(file, 2);
  SamplingParams& params = golden.params;
  params.temperature = numbers[0];
  params.top_p = numbers[1];
  params.min_p = numbers[2];
  params.typical_p = numbers[3];
  params.repetition_penalty = numbers[4];
  params.frequency_penalty = numbers[5];
  params.presence_penalty = numbers[6];
  params.top_k = whole[0];
  params.min_tokens = whole[1];
  params.adjusted = 1;
  std::map<int32_t, Adjustment> by_id;
  for (const int32_t id : read_list(file)) by_id[id].in_prompt = 1;
  for (const int32_t id : read_list(file)) ++by_id[id].output_count;
  const auto biased = read_list(file);
  const auto biases = read_values<float>(file, static_cast<int>(biased.size()));
  for (size_t i = 0; i < biased.size(); ++i) by_id[biased[i]].bias = biases[i];
  for (const int32_t id : read_list(file)) by_id[id].late = 1;
  for (auto& [id, adjustment] : by_id) {
    adjustment.id = id;
    golden.list.push_back(adjustment);
  }
  golden.logits = read_values<float>(file, vocab);
  golden.probabilities = read_values<float>(file, vocab);
  return golden;
}

std::vector<Case> read_cases() {
  std::ifstream file(CHORUS_SOURCE_DIR "/tests/reference/sampling_cases.bin", std::ios::binary);
  REQUIRE(read_values<int32_t>(file, 1)[0] == 0x31435343);  // "CSC1"
  const auto sizes = read_values<int32_t>(file, 2);
  std::vector<Case> cases;
  for (int i = 0; i < sizes[0]; ++i) cases.push_back(read_case(file, sizes[1]));
  REQUIRE(file.good());
  return cases;
}

const std::vector<SamplingParams> kKinds = {
    with(1, 0, 1),
    with(0.7F, 5, 1),
    with(1, 0, 0.5F),
    with(2, 0, 0.97F),
    with(1.5F, 100, 1),
    with(1, 20, 0.7F),
    with(1, 150, 0.8F),
    with(0, 0, 1),
    with(0.02F, 0, 0.9F),
    with(1, 0, 0.999999F),
    with(3, 100000, 0.3F),
    with_min_p(with(1, 0, 1), 0.1F),
    with_min_p(with(1.3F, 40, 0.9F), 0.3F),
    with_min_p(with(2, 0, 0.99F), 0.001F),
    with_typical_p(with(1, 0, 1), 0.4F),
    with_typical_p(with(1.2F, 50, 0.95F), 0.8F),
    with_min_p(with_typical_p(with(0.9F, 0, 1), 0.7F), 0.02F),
    with_min_p(with_typical_p(with(3, 0, 1), 0.9F), 0.0001F)};

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
  // The second half is adjusted.
  for (size_t i = kKinds.size(); i < rows.size(); ++i) {
    rows[i].adjusted = 1;
    rows[i].repetition_penalty = i % 3 == 0 ? 1.3F : 1.0F;
    rows[i].frequency_penalty = i % 3 == 1 ? 0.4F : 0.0F;
    rows[i].presence_penalty = i % 5 == 1 ? -0.7F : 0.0F;
    rows[i].min_tokens = i % 2 == 0 ? 1000 : 0;
  }
  return rows;
}

// Adjustments of some 60 of 300 tokens, among them the best ones of the slot's row.
Lists mixed_lists(const std::vector<SamplingParams>& rows, const std::vector<float>& logits) {
  Lists lists(kSlots);
  const size_t vocab = logits.size() / rows.size();
  for (size_t row = 0; row < rows.size(); ++row) {
    if (rows[row].adjusted == 0) continue;
    auto& list = lists[static_cast<size_t>(rows[row].slot)];
    for (size_t id = 0; id < vocab; ++id) {
      const bool good = logits[row * vocab + id] > 3.5F;
      const size_t draw = id * 7919 + row * 104729;
      if (!good && draw % 5 != 0) continue;
      list.push_back({.id = static_cast<int32_t>(id),
                      .output_count = static_cast<int32_t>(draw % 4),
                      .bias = draw % 11 == 0  ? 4.0F
                              : draw % 7 == 0 ? -1.5F
                                              : 0.0F,
                      .in_prompt = static_cast<uint8_t>(draw % 2),
                      .late = static_cast<uint8_t>(draw % 13 == 0)});
    }
    std::reverse(list.begin(), list.end());  // the order says nothing
  }
  return lists;
}

bool same(const Adjustment& a, const Adjustment& b) {
  return a.id == b.id && a.output_count == b.output_count && a.bias == b.bias &&
         a.in_prompt == b.in_prompt && a.late == b.late;
}

void check_equal(const Outcome& a, const Outcome& b) {
  REQUIRE(a.last_tokens == b.last_tokens);
  for (size_t slot = 0; slot < a.lists.size(); ++slot) {
    REQUIRE(std::equal(a.lists[slot].begin(), a.lists[slot].end(), b.lists[slot].begin(),
                       b.lists[slot].end(), same));
  }
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
    CAPTURE(kind.temperature, kind.top_k, kind.top_p, kind.min_p, kind.typical_p);
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

TEST_CASE("tokens come as often as transformers' processors say") {
  constexpr int kRows = 50, kRuns = 20;
  const auto cases = read_cases();
  REQUIRE(cases.size() == 96);
  for (size_t i = 0; i < cases.size(); ++i) {
    CAPTURE(i);
    const Case& golden = cases[i];
    std::map<int32_t, double> expected;
    for (size_t id = 0; id < golden.probabilities.size(); ++id) {
      if (golden.probabilities[id] > 0) {
        expected[static_cast<int32_t>(id)] = static_cast<double>(golden.probabilities[id]);
      }
    }
    std::vector<float> repeated;
    std::vector<SamplingParams> rows(kRows, golden.params);
    for (int row = 0; row < kRows; ++row) {
      repeated.insert(repeated.end(), golden.logits.begin(), golden.logits.end());
      rows[static_cast<size_t>(row)].output_index = row;
      rows[static_cast<size_t>(row)].slot = row;  // each counts what it draws
    }
    std::map<int32_t, int> counts;
    for (int run = 0; run < kRuns; ++run) {
      for (auto& row : rows) row.seed = static_cast<uint64_t>(run);
      for (const Sampled& sampled : sample(repeated, rows, 1, Lists(kRows, golden.list)).sampled) {
        REQUIRE(expected.count(sampled.token) == 1);
        ++counts[sampled.token];
      }
    }
    CHECK(fits(counts, expected, kRows * kRuns));
    SamplingParams greedy = golden.params;
    greedy.temperature = 0;
    const auto best =
        std::max_element(expected.begin(), expected.end(),
                         [](const auto& a, const auto& b) { return a.second < b.second; });
    if (golden.params.typical_p == 1) {
      CHECK(sample(golden.logits, {greedy}, 1, {golden.list}).sampled[0].token == best->first);
    }
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
  const Lists lists = mixed_lists(rows, logits);
  const Outcome expected = sample(logits, rows, 1, lists);
  CHECK(expected.sampled[3].token == 299);
  CHECK(expected.logits == logits);
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
              {cut(collective.rank()), cut(collective.rank() + 1)}, logits, rows, lists);
        });
        for (const Outcome& outcome : outcomes) check_equal(outcome, expected);
      }
    }
  }
}

TEST_CASE("a row's draw does not depend on its neighbours") {
  const auto rows = mixed_rows();
  const auto logits = random_floats(static_cast<int64_t>(rows.size()) * 300, 54, 2);
  const Lists lists = mixed_lists(rows, logits);
  const Outcome together = sample(logits, rows, 2, lists);
  for (size_t i = 0; i < rows.size(); ++i) {
    CAPTURE(i);
    const auto at = logits.begin() + static_cast<int64_t>(i) * 300;
    const Outcome alone = sample({at, at + 300}, {rows[i]}, 1, lists);
    CHECK(alone.sampled[0].token == together.sampled[i].token);
    CHECK(alone.sampled[0].logprob == together.sampled[i].logprob);
  }
}

TEST_CASE("adjusted rows draw as plain rows of adjusted logits, and report the model's own") {
  const auto rows = mixed_rows();
  const auto logits = random_floats(static_cast<int64_t>(rows.size()) * 300, 55, 2);
  const Lists lists = mixed_lists(rows, logits);
  const Outcome outcome = sample(logits, rows, 2, lists);
  for (size_t i = 0; i < rows.size(); ++i) {
    CAPTURE(i);
    const std::vector<float> model(logits.begin() + static_cast<int64_t>(i) * 300,
                                   logits.begin() + static_cast<int64_t>(i + 1) * 300);
    std::vector<float> changed = model;
    const auto slot = static_cast<size_t>(rows[i].slot);
    for (const Adjustment& adjustment : lists[slot]) {
      float& logit = changed[static_cast<size_t>(adjustment.id)];
      logit = kernels::adjusted_logit(logit, adjustment, rows[i]);
    }
    SamplingParams plain = rows[i];
    plain.adjusted = 0;
    const Sampled drawn = sample(changed, {plain}).sampled[0];
    plain.forced = drawn.token;
    const Sampled expected = sample(model, {plain}).sampled[0];
    const Sampled& got = outcome.sampled[i];
    REQUIRE(got.token == drawn.token);
    REQUIRE(got.logprob == expected.logprob);
    REQUIRE(got.top_count == expected.top_count);
    REQUIRE(std::equal(got.top_ids, got.top_ids + got.top_count, expected.top_ids));
    REQUIRE(std::equal(got.top_logprobs, got.top_logprobs + got.top_count, expected.top_logprobs));
  }
}

TEST_CASE("a penalised row counts the token that it draws, others do not") {
  const std::vector<float> logits = {0, 3, 2, 0, 3, 2, 0, 3, 2};
  SamplingParams counting = with(0, 0, 1), biased = with(0, 0, 1);
  counting.adjusted = biased.adjusted = 1;
  counting.presence_penalty = 1.5F;
  biased.slot = 1;
  SamplingParams plain = with(0, 0, 1);
  plain.slot = 2;
  Lists lists = {{{.id = 0, .in_prompt = 1}}, {{.id = 2, .bias = 1.5F}}, {}};
  std::vector<int32_t> drawn;
  for (int step = 0; step < 3; ++step) {
    const Outcome outcome = sample(logits, {counting, biased, plain}, 1, lists);
    drawn.push_back(outcome.sampled[0].token);
    CHECK(outcome.sampled[1].token == 2);
    CHECK(outcome.sampled[2].token == 1);
    lists = outcome.lists;
  }
  CHECK(drawn == std::vector<int32_t>{1, 2, 1});
  CHECK(lists[0].size() == 3);
  CHECK((lists[0][1].id == 1 && lists[0][1].output_count == 2));
  CHECK((lists[0][2].id == 2 && lists[0][2].output_count == 1));
  CHECK(lists[1].size() == 1);
  CHECK(lists[2].empty());
}

TEST_CASE("a row whose tokens are all adjusted, and one with a single token left") {
  const auto logits = random_floats(300, 56, 2);
  for (SamplingParams params : kKinds) {
    params.adjusted = 1;
    params.min_tokens = 1;
    params.top_logprobs = 3;
    Lists lists(1);
    for (int id = 0; id < 300; ++id) lists[0].push_back({.id = id, .late = id != 123});
    const Sampled sampled = sample(logits, {params}, 2, lists).sampled[0];
    CHECK(sampled.token == 123);
    const auto best = std::max_element(logits.begin(), logits.end()) - logits.begin();
    CHECK(sampled.top_ids[0] == best);
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
