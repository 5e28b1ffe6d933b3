#include "kernels/sampling.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <set>

#include "tests/kernels/random_weights.h"

using namespace chorus::kernels;
using chorus::tests::random_floats;

namespace {

std::vector<Candidate> sorted(const std::vector<float>& logits) {
  std::vector<Candidate> all;
  for (size_t i = 0; i < logits.size(); ++i) {
    all.push_back({std::isnan(logits[i]) ? -INFINITY : logits[i], static_cast<int32_t>(i)});
  }
  std::sort(all.begin(), all.end(), better);
  return all;
}

Candidates find(const std::vector<float>& logits, int wanted) {
  Candidates found;
  find_candidates(found, logits.data(), static_cast<int64_t>(logits.size()), 0, wanted);
  return found;
}

void check_same(const Candidates& found, const std::vector<Candidate>& all, int wanted) {
  REQUIRE(found.count == std::min<int>(wanted, static_cast<int>(all.size())));
  for (int i = 0; i < found.count; ++i) {
    REQUIRE(found.best[i].id == all[static_cast<size_t>(i)].id);
    REQUIRE(found.best[i].logit == all[static_cast<size_t>(i)].logit);
  }
}

}  // namespace

TEST_CASE("the fast exponential is within 2e-7 of the true one") {
  for (float x = 0; x > -87; x -= 0.00137F) {
    REQUIRE(std::fabs(exp_of_negative(x) / std::exp(static_cast<double>(x)) - 1) < 2e-7);
  }
  CHECK(exp_of_negative(0) == 1);
  CHECK(exp_of_negative(-88) == 0);
  CHECK(exp_of_negative(-INFINITY) == 0);
  CHECK(exp_of_negative(NAN) == 0);
}

TEST_CASE("uniform numbers come from Philox and differ by seed, choice and index") {
  // Random123's known answer for a zero key and counter begins with 6627e8d5.
  CHECK(uniform(0, 0, 0) == static_cast<float>(0x6627e8) * 0x1p-24F);
  std::set<float> seen;
  double sum = 0;
  for (int seed = 0; seed < 10; ++seed) {
    for (int choice = 0; choice < 10; ++choice) {
      for (int index = 0; index < 100; ++index) {
        const float u = uniform(uint64_t{1} << (seed * 7), choice, index);
        REQUIRE((u >= 0 && u < 1));
        seen.insert(u);
        sum += u;
      }
    }
  }
  CHECK(seen.size() > 9980);  // 10000 draws of 2^24: about three pairs meet
  CHECK(sum / 10000 == Approx(0.5).margin(0.01));
}

TEST_CASE("candidates are the best tokens, ties to the smaller id, NaN last") {
  for (const int64_t size : {1, 5, 63, 64, 65, 1000, 4097}) {
    auto logits = random_floats(size, 41);
    for (float& logit : logits) logit = std::round(logit * 8) / 8;  // many ties
    logits[static_cast<size_t>(size / 2)] = NAN;
    if (size > 100) logits[70] = -INFINITY;
    for (const int wanted : {1, 2, 20, 64}) {
      CAPTURE(size, wanted);
      check_same(find(logits, wanted), sorted(logits), wanted);
    }
  }
}

TEST_CASE("candidates of parts merge into the candidates of the whole") {
  auto logits = random_floats(1000, 42);
  for (float& logit : logits) logit = std::round(logit * 8) / 8;
  for (const int wanted : {1, 7, 64}) {
    Candidates merged, part;
    for (const auto& [begin, end] : {std::pair{0, 1}, {1, 500}, {500, 500}, {500, 1000}}) {
      find_candidates(part, logits.data() + begin, end - begin, begin, wanted);
      merge_candidates(merged, part, wanted);
    }
    check_same(merged, sorted(logits), wanted);
  }
}

TEST_CASE("a mass is the same however it is cut, and near the sum in f64") {
  auto logits = random_floats(5000, 43, 3);
  logits[17] = NAN;
  logits[18] = -INFINITY;
  const float max = find(logits, 1).best[0].logit;
  for (const float temperature : {0.3F, 1.0F, 5.0F}) {
    const Mass whole = mass_of(logits.data(), 5000, max, temperature);
    Mass parts = 0;
    for (int64_t begin = 0, size = 1; begin < 5000; begin += size, size = size * 3 + 1) {
      parts += mass_of(logits.data() + begin, std::min(size, 5000 - begin), max, temperature);
    }
    CHECK(parts == whole);
    double sum = 0;
    for (const float logit : logits) {
      if (!std::isnan(logit)) sum += std::exp((static_cast<double>(logit) - max) / temperature);
    }
    CHECK(std::ldexp(static_cast<double>(whole), -40) == Approx(sum).epsilon(1e-6));
    CHECK(logprob_of(max, max, whole) == Approx(-std::log(sum)).epsilon(1e-6));
  }
}

TEST_CASE("the kind of draw follows from the parameters") {
  const auto kind = [](float temperature, int top_k, float top_p, int forced = -1) {
    SamplingParams params;
    params.temperature = temperature;
    params.top_k = top_k;
    params.top_p = top_p;
    params.forced = forced;
    return kind_of_draw(params, 1000);
  };
  CHECK(kind(0, 5, 0.5F) == Draw::best);
  CHECK(kind(1e-6F, 0, 1) == Draw::best);
  CHECK(kind(NAN, 0, 1) == Draw::best);
  CHECK(kind(1, 0, 1) == Draw::mass);
  CHECK(kind(1, 1000, 1) == Draw::mass);
  CHECK(kind(1, 64, 1) == Draw::candidates);
  CHECK(kind(1, 0, 0.9F) == Draw::candidates);
  CHECK(kind(1, 65, 0.9F) == Draw::whole_row);
  CHECK(kind(1, 65, 0.9F, 3) == Draw::forced);
  const auto kind_with = [](float min_p, float typical_p) {
    SamplingParams params;
    params.temperature = 1;
    params.min_p = min_p;
    params.typical_p = typical_p;
    return kind_of_draw(params, 1000);
  };
  CHECK(kind_with(0.1F, 1) == Draw::mass);
  CHECK(kind_with(0.1F, 0.9F) == Draw::candidates);
  CHECK(kind_with(0, 0.9F) == Draw::whole_row);
}

TEST_CASE("a draw asks for no more candidates than it looks at") {
  const auto needed = [](float temperature, int top_k, float top_p, int top_logprobs) {
    SamplingParams params;
    params.temperature = temperature;
    params.top_k = top_k;
    params.top_p = top_p;
    params.top_logprobs = top_logprobs;
    return candidates_needed(params);
  };
  CHECK(needed(0, 50, 0.5F, 0) == 1);
  CHECK(needed(0, 0, 1, 5) == 5);
  CHECK(needed(1, 0, 1, 0) == 1);
  CHECK(needed(1, 40, 1, 5) == 40);
  CHECK(needed(1, 0, 0.9F, 5) == kTopLogprobsMax);
  CHECK(needed(1, 5000, 0.9F, 5) == kTopLogprobsMax);
}

TEST_CASE("a place in the mass is found in the order of ids") {
  const std::vector<float> logits = {0, -INFINITY, std::log(0.5F), 0, NAN};
  const Mass one = Mass{1} << 40;
  SamplingParams params;
  params.temperature = 1;
  const auto id_at = [&](Mass place) {
    return find_at(logits.data(), 5, 100, 0, params, place).id;
  };
  CHECK(id_at(0) == 100);
  CHECK(id_at(one - 1) == 100);
  CHECK(id_at(one) == 102);
  CHECK(id_at(one + one / 4) == 102);
  CHECK(id_at(one + one / 4 * 3) == 103);
  params.min_p = 0.6F;
  CHECK(id_at(one) == 103);
}

TEST_CASE("min_p leaves out of a mass what is less than its part of the best") {
  const auto logits = random_floats(3000, 44, 3);
  const float max = find(logits, 1).best[0].logit;
  SamplingParams params;
  for (const float min_p : {0.0F, 1e-6F, 0.05F, 0.5F, 1.0F}) {
    CAPTURE(min_p);
    params.min_p = min_p;
    Mass expected = 0;
    for (const float logit : logits) {
      const Mass mass = mass_of(&logit, 1, max, 0.8F);
      if (std::ldexp(static_cast<double>(mass), -40) >= static_cast<double>(min_p)) {
        expected += mass;
      }
    }
    CHECK(mass_of(logits.data(), 3000, max, 0.8F, mass_floor(params)) == expected);
  }
}

TEST_CASE("an adjusted logit is biased, then penalised, and late tokens are not drawn") {
  SamplingParams params;
  Adjustment token{.id = 1};
  CHECK(adjusted_logit(2, token, params) == 2);
  token.bias = -0.5F;
  CHECK(adjusted_logit(2, token, params) == 1.5F);
  params.repetition_penalty = 2;
  params.frequency_penalty = 0.25F;
  params.presence_penalty = 1;
  CHECK(adjusted_logit(2, token, params) == 1.5F);  // not seen yet
  token.in_prompt = 1;
  CHECK(adjusted_logit(2, token, params) == 0.75F);
  CHECK(adjusted_logit(-2, token, params) == -5);
  CHECK(adjusted_logit(0.5F, token, params) == 0);
  token.output_count = 3;
  CHECK(adjusted_logit(2, token, params) == 0.75F - 0.75F - 1);
  token.in_prompt = 0;
  CHECK(adjusted_logit(2, token, params) == 0.75F - 0.75F - 1);
  token.late = 1;
  params.min_tokens = 5;
  params.output_index = 4;
  CHECK(adjusted_logit(2, token, params) == -INFINITY);
  params.output_index = 5;
  CHECK(adjusted_logit(2, token, params) == 0.75F - 0.75F - 1);
  CHECK(adjusted_logit(NAN, token, params) == -INFINITY);
  token.bias = 3e38F;
  params.repetition_penalty = 1e-30F;
  CHECK(adjusted_logit(3e38F, token, params) == 1e30F);  // a number in any case
}
