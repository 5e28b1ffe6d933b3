// The device's choices are the host sampler's: the same tokens, logprobs, lists and last tokens for
// the same logits, over mixes of parameters, ties, NaN and infinities.
#include "kernels/cuda/sample.h"

#include <cmath>
#include <random>

#include "kernels/host_sampler.h"
#include "tests/emulation/schedules.h"
#include "tests/kernels/random_floats.h"

using namespace chorus;
using kernels::Adjustment;
using kernels::DType;
using kernels::Sampled;
using kernels::SamplingParams;
using kernels::View;
using tests::random_floats;
using Lists = std::vector<std::vector<Adjustment>>;  // by slot

namespace {

// Each emulated thread costs ThreadSanitizer a tenth of a millisecond: fewer rows and rounds there.
#ifdef __SANITIZE_THREAD__
constexpr bool kFew = true;
#else
constexpr bool kFew = false;
#endif
constexpr int kSlots = 40;
constexpr int64_t kRoom = 300;  // entries of a slot's list

struct Outcome {
  std::vector<Sampled> sampled;
  std::vector<int32_t> last_tokens;
  std::vector<Adjustment> adjustments;
  std::vector<int32_t> counts;
};

// One step's buffers, of which the first `live` rows count.
class Step {
 public:
  Step(std::vector<float> logits, std::vector<SamplingParams> params, const Lists& lists,
       int64_t capacity)
      : logits_(std::move(logits)),
        params_(std::move(params)),
        live_(static_cast<int32_t>(params_.size())),
        capacity_(capacity),
        vocab_(static_cast<int64_t>(logits_.size()) / std::max<int64_t>(1, live_)),
        adjustments_(static_cast<size_t>(kSlots * kRoom)),
        counts_(kSlots) {
    logits_.resize(static_cast<size_t>(capacity * vocab_), 0.5F);
    params_.resize(static_cast<size_t>(capacity));
    for (size_t slot = 0; slot < lists.size(); ++slot) {
      std::copy(lists[slot].begin(), lists[slot].end(),
                adjustments_.begin() + static_cast<int64_t>(slot) * kRoom);
      counts_[slot] = static_cast<int32_t>(lists[slot].size());
    }
  }

  Outcome on_host() {
    return run([](const kernels::SampleArgs& args) {
      kernels::OneWorker alone;
      kernels::HostSampler(args, nullptr).run(0, alone);
    });
  }
  Outcome on_device() {
    return run([&](const kernels::SampleArgs& args) {
      const auto bytes = kernels::cuda::sample_workspace_bytes(args);
      workspace_.resize(static_cast<size_t>(bytes) / sizeof(uint64_t));
      kernels::cuda::sample(args, workspace_.data(), nullptr);
      tests::wait_for_device();
    });
  }
  const std::vector<float>& logits() const { return logits_; }
  int64_t vocab() const { return vocab_; }

 private:
  template <class Run>
  Outcome run(const Run& sample) {
    Outcome outcome{.sampled = std::vector<Sampled>(static_cast<size_t>(capacity_)),
                    .last_tokens = std::vector<int32_t>(kSlots, -7),
                    .adjustments = adjustments_,
                    .counts = counts_};
    const auto bytes_of = [](auto& values) { return static_cast<void*>(values.data()); };
    sample({.logits = {logits_.data(), DType::f32, capacity_, vocab_, &live_},
            .vocab = {0, vocab_},
            .vocab_size = vocab_,
            .params = {bytes_of(params_), DType::u8, capacity_, sizeof(SamplingParams), &live_},
            .results = {bytes_of(outcome.sampled), DType::u8, capacity_, sizeof(Sampled), &live_},
            .last_tokens = {outcome.last_tokens.data(), DType::i32, kSlots, 1},
            .adjustments = {bytes_of(outcome.adjustments), DType::u8, kSlots,
                            kRoom * static_cast<int64_t>(sizeof(Adjustment))},
            .adjustment_counts = {outcome.counts.data(), DType::i32, kSlots, 1}});
    return outcome;
  }

  std::vector<float> logits_;
  std::vector<SamplingParams> params_;
  int32_t live_;
  int64_t capacity_, vocab_;
  std::vector<Adjustment> adjustments_;
  std::vector<int32_t> counts_;
  std::vector<uint64_t> workspace_;  // kept, so that a second run finds the first one's leavings
};

bool near(float a, float b) {
  return a == b || std::fabs(a - b) <= 1e-6F * (1 + std::fabs(b));
}

void expect_same(const Outcome& device, const Outcome& host, int64_t live) {
  for (size_t row = 0; row < host.sampled.size(); ++row) {
    const Sampled &got = device.sampled[row], &wanted = host.sampled[row];
    INFO("row " << row);
    REQUIRE(got.token == wanted.token);
    if (static_cast<int64_t>(row) >= live) continue;
    REQUIRE(near(got.logprob, wanted.logprob));
    REQUIRE(got.top_count == wanted.top_count);
    for (int i = 0; i < wanted.top_count; ++i) {
      REQUIRE(got.top_ids[i] == wanted.top_ids[i]);
      REQUIRE(near(got.top_logprobs[i], wanted.top_logprobs[i]));
    }
  }
  CHECK(device.last_tokens == host.last_tokens);
  CHECK(device.counts == host.counts);
  CHECK(std::memcmp(device.adjustments.data(), host.adjustments.data(),
                    host.adjustments.size() * sizeof(Adjustment)) == 0);
}

// The device twice, under schedule after schedule, against the host once.
void compare(Step step, int64_t live, size_t schedules_max = 100) {
  const Outcome host = step.on_host();
  const std::vector<float> before = step.logits();
  auto schedules = tests::schedules();
  schedules.resize(std::min(schedules.size(), schedules_max));
  for (const auto& schedule : schedules) {
    tests::use(schedule);
    expect_same(step.on_device(), host, live);
    expect_same(step.on_device(), host, live);
  }
  tests::use({});
  CHECK(std::memcmp(before.data(), step.logits().data(), before.size() * 4) == 0);
}

// What happens to logits now and then: ties, a coarse grid, NaN, -inf.
void spoil(std::vector<float>& logits, std::mt19937& random) {
  switch (random() % 6) {
    case 0:
      for (float& logit : logits) logit = std::round(logit);
      break;
    case 1:
      for (int i = 0; i < 20; ++i) logits[random() % logits.size()] = NAN;
      break;
    case 2:
      for (size_t i = 0; i < logits.size(); ++i) {
        if (i % 97 != 3) logits[i] = -INFINITY;
      }
      break;
    case 3:
      std::fill(logits.begin(), logits.end(), -0.0F);
      break;
    default:
      break;
  }
}

template <class T>
T one_of(std::mt19937& random, std::initializer_list<T> values) {
  return *(values.begin() + random() % values.size());
}

SamplingParams random_params(std::mt19937& random, int64_t vocab, int32_t slot) {
  SamplingParams params;
  params.temperature = one_of(random, {0.0F, 0.3F, 1.0F, 1.0F, 1.7F, 2e-5F, 100.0F});
  params.top_p = one_of(random, {1.0F, 0.95F, 0.5F, 0.999F, 1e-6F});
  params.top_k = one_of(random, {0, 0, 1, 5, 40, 64, 65, 300, 1 << 20});
  params.min_p = one_of(random, {0.0F, 0.0F, 0.05F, 1.0F, 1e-6F});
  params.typical_p = one_of(random, {1.0F, 1.0F, 0.9F, 0.2F});
  params.repetition_penalty = one_of(random, {1.0F, 1.0F, 1.3F, 0.8F});
  params.frequency_penalty = one_of(random, {0.0F, 0.5F});
  params.presence_penalty = one_of(random, {0.0F, -0.4F});
  params.min_tokens = one_of(random, {0, 5});
  params.adjusted = one_of(random, {0, 1});
  params.seed = random() * uint64_t{0x100000001};
  params.choice = static_cast<int32_t>(random() % 3);
  params.output_index = static_cast<int32_t>(random() % 10);
  params.slot = random() % 8 == 0 && params.adjusted == 0 ? -1 : slot;
  params.forced = random() % 10 == 0 ? static_cast<int32_t>(random() % vocab) : -1;
  params.top_logprobs = one_of(random, {0, 1, 5, 20, 64});
  return params;
}

std::vector<Adjustment> random_list(std::mt19937& random, int64_t vocab) {
  std::vector<Adjustment> list;
  const auto step = static_cast<int32_t>(vocab / 100 + 1);
  for (int32_t id = static_cast<int32_t>(random() % step); id < vocab; id += step) {
    if (random() % 3 == 0) continue;
    list.push_back({.id = id,
                    .output_count = one_of(random, {0, 1, 7}),
                    .bias = one_of(random, {0.0F, 0.0F, 5.0F, -100.0F, 1e38F}),
                    .in_prompt = static_cast<uint8_t>(random() % 2),
                    .late = static_cast<uint8_t>(random() % 8 == 0)});
  }
  std::shuffle(list.begin(), list.end(), random);
  return list;
}

}  // namespace

TEST_CASE("greedy rows take the best token, alone and among others that are not live") {
  for (const int64_t rows : {0, 1, 3, kFew ? 2 : 33}) {
    std::vector<SamplingParams> params(static_cast<size_t>(rows));
    for (size_t i = 0; i < params.size(); ++i) params[i].slot = static_cast<int32_t>(i);
    compare(Step(random_floats(std::max<int64_t>(rows, 1) * 5003, 1, 3), params, {}, rows + 1),
            rows, rows > 3 ? 2 : 8);
  }
}

TEST_CASE("a row of a model's vocabulary is sampled as on the host") {
  std::vector<SamplingParams> params(2);
  params[0].top_logprobs = 64;
  params[1] = {.temperature = 1, .top_p = 0.9F, .seed = 5, .slot = 1};
  compare(Step(random_floats(2 * (kFew ? 9001 : 270001), 2, 2), params, {}, 2), 2, 2);
}

TEST_CASE("every mix of parameters gives the host's tokens and logprobs") {
  std::mt19937 random(3);
  for (int round = 0; round < (kFew ? 6 : 60); ++round) {
    const int64_t vocab = one_of<int64_t>(random, {1, 63, 64, 200, 4096, 4097, 9001});
    const int64_t rows = 1 + random() % 4;
    std::vector<float> logits;
    std::vector<SamplingParams> params;
    Lists lists(kSlots);
    for (int32_t row = 0; row < rows; ++row) {
      auto one = random_floats(vocab, static_cast<uint32_t>(random()),
                               one_of(random, {0.01F, 1.0F, 4.0F, 30.0F}));
      spoil(one, random);
      one[random() % one.size()] = 1.5F;  // at least one can be drawn
      logits.insert(logits.end(), one.begin(), one.end());
      params.push_back(random_params(random, vocab, 3 + row));
      lists[static_cast<size_t>(3 + row)] = random_list(random, vocab);
    }
    INFO("round " << round << ", vocabulary " << vocab);
    // A list may forbid all of a small vocabulary; the host then throws.
    for (auto& list : lists) {
      if (vocab < 100) std::erase_if(list, [](const Adjustment& a) { return a.late != 0; });
    }
    compare(Step(logits, params, lists, rows + round % 2), rows, round < 12 ? 8 : 1);
  }
}

TEST_CASE("filters that reach beyond the candidates draw from the whole row") {
  std::mt19937 random(4);
  Lists lists(kSlots);
  lists[1] = random_list(random, 9001);
  std::vector<SamplingParams> params;
  for (const int32_t top_k : {0, 100, 5000}) {
    for (const float top_p : {1.0F, 0.9F, 0.9999F}) {
      for (const float min_p : {0.0F, 1e-4F}) {
        for (const float typical_p : {1.0F, 0.7F}) {
          params.push_back({.temperature = 1,
                            .top_p = top_p,
                            .top_k = top_k,
                            .min_p = min_p,
                            .typical_p = typical_p,
                            .presence_penalty = 0.5F,
                            .adjusted = static_cast<int32_t>(params.size() % 2),
                            .seed = params.size(),
                            .slot = 1});
        }
      }
    }
  }
  // Rows share a slot here, so one after the other.
  for (const float spread : {1.0F, 0.0F}) {
    for (size_t i = 0; i < params.size(); i += kFew ? 5 : 1) {
      INFO("parameters " << i << ", spread " << spread);
      compare(Step(random_floats(9001, static_cast<uint32_t>(i), spread), {params[i]}, lists, 1), 1,
              i % 6 == 0 ? 8 : 1);
    }
  }
}

TEST_CASE("draws follow the distribution") {
  if (kFew) return;
  // Four tokens of 40, 30, 20 and 10 percent among 5000 that are impossible.
  std::vector<float> row(5000, -INFINITY);
  for (int i = 0; i < 4; ++i) row[static_cast<size_t>(1000 * i + 7)] = std::log(0.4F - 0.1F * i);
  std::vector<int> drawn(4);
  for (int batch = 0; batch < 10; ++batch) {
    std::vector<SamplingParams> params(100);
    std::vector<float> logits;
    for (int i = 0; i < 100; ++i) {
      params[static_cast<size_t>(i)] = {
          .temperature = 1, .seed = 9, .output_index = batch * 100 + i, .slot = -1};
      logits.insert(logits.end(), row.begin(), row.end());
    }
    for (const Sampled& sampled : Step(logits, params, {}, 100).on_device().sampled) {
      REQUIRE(sampled.token % 1000 == 7);
      ++drawn[static_cast<size_t>(sampled.token / 1000)];
    }
  }
  for (int i = 0; i < 4; ++i) CHECK(std::abs(drawn[static_cast<size_t>(i)] - (400 - 100 * i)) < 60);
}

TEST_CASE("a row without a number to draw says so and harms no other") {
  std::vector<float> logits = random_floats(4 * 300, 5, 1);
  std::fill_n(logits.begin(), 300, NAN);
  std::fill_n(logits.begin() + 300, 300, -INFINITY);
  logits[2 * 300 + 5] = INFINITY;
  std::vector<SamplingParams> params(4);
  for (int32_t i = 0; i < 4; ++i) params[static_cast<size_t>(i)].slot = i;
  Step step(logits, params, {}, 4);
  for (int run = 0; run < 2; ++run) {
    const Outcome outcome = step.on_device();
    for (size_t row = 0; row < 3; ++row) {
      CHECK(outcome.sampled[row].token == -1);
      CHECK(std::isnan(outcome.sampled[row].logprob));
      CHECK(outcome.last_tokens[row] == -7);
    }
    CHECK(outcome.sampled[3].token >= 0);
  }
}

TEST_CASE("sample refuses a part of the vocabulary and one that is too large") {
  float logit = 0;
  kernels::SampleArgs args{.logits = {&logit, DType::f32, 1, 1},
                           .vocab = {0, 1},
                           .vocab_size = 2,
                           .params = {},
                           .results = {},
                           .last_tokens = {}};
  CHECK_THROWS_WITH(kernels::cuda::sample(args, nullptr, nullptr),
                    Catch::Contains("part of the vocabulary"));
  args.vocab_size = args.vocab.end = int64_t{1} << 22;
  CHECK_THROWS_WITH(kernels::cuda::sample(args, nullptr, nullptr), Catch::Contains("4194304"));
}
