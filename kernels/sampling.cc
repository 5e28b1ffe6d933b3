// The pure part of sampling. Two loops see every logit, the search for the best ones and the sum of
// exponentials; both are compiled for AVX2 and AVX-512 beside the baseline, and chosen at run time.
// They give the same bits: comparisons, exponentials element by element (no fused operations), and
// sums of integers.
#include "kernels/sampling.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>
#include <vector>

namespace chorus::kernels {
namespace {

constexpr float kLowest = -std::numeric_limits<float>::infinity();
constexpr int kMassBits = 40;
constexpr int64_t kBlock = 64;

struct Loops {
  float (*max_of_block)(const float* logits);  // of kBlock logits; NaN is passed over
  Mass (*mass)(const float* logits, int64_t count, float max, float inverse_temperature);
  Mass (*mass_above)(const float* logits, int64_t count, float max, float inverse_temperature,
                     Mass floor);
};

[[gnu::always_inline]] inline float exp_body(float x) {
  // e^x = 2^n * e^r with |r| <= ln(2) / 2; ln(2) in two parts so that r is exact enough.
  const float clamped = x >= -87.0F ? x : -87.0F;
  const float shifted = clamped * 1.44269504F + 12582912.0F;
  const float n = shifted - 12582912.0F;  // to nearest
  const float r = (clamped - n * 0.693359375F) + n * 2.12194440e-4F;
  float p = 1.9875691500e-4F;
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  const float e = (p * r * r + r) + 1.0F;
  const uint32_t exponent = __builtin_bit_cast(uint32_t, shifted) << 23;  // n in its low bits
  const float scale = __builtin_bit_cast(float, exponent + 0x3f800000U);
  // A mask, since a conditional result would keep the loop from being vectorised. NaN gives 0.
  const uint32_t mask = 0U - static_cast<uint32_t>(x >= -87.0F);
  return __builtin_bit_cast(float, __builtin_bit_cast(uint32_t, e * scale) & mask);
}

// Adding this number rounds a double below 2^51 to an integer, which then stands in the low bits.
constexpr double kRounder = 0x1.8p52;

[[gnu::always_inline]] inline Mass mass_of_one(float logit, float max, float inverse_temperature) {
  const float e = exp_body((logit - max) * inverse_temperature);
  const double units = static_cast<double>(e) * static_cast<double>(uint64_t{1} << kMassBits);
  return __builtin_bit_cast(uint64_t, units + kRounder) - __builtin_bit_cast(uint64_t, kRounder);
}

[[gnu::always_inline]] inline Mass mass_body(const float* logits, int64_t count, float max,
                                             float inverse_temperature) {
  Mass sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += mass_of_one(logits[i], max, inverse_temperature);
  return sum;
}

[[gnu::always_inline]] inline Mass mass_above_body(const float* logits, int64_t count, float max,
                                                   float inverse_temperature, Mass floor) {
  const auto least = static_cast<int64_t>(floor);
  int64_t sum = 0;  // signed, which AVX2 can compare
  for (int64_t i = 0; i < count; ++i) {
    const auto mass = static_cast<int64_t>(mass_of_one(logits[i], max, inverse_temperature));
    sum += mass >= least ? mass : 0;
  }
  return static_cast<Mass>(sum);
}

[[gnu::always_inline]] inline float max_of_block_body(const float* logits) {
  float lanes[16];
  for (int i = 0; i < 16; ++i) lanes[i] = kLowest;
  for (int64_t at = 0; at < kBlock; at += 16) {
    for (int i = 0; i < 16; ++i) lanes[i] = logits[at + i] > lanes[i] ? logits[at + i] : lanes[i];
  }
  for (int width = 8; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) {
      lanes[i] = lanes[i + width] > lanes[i] ? lanes[i + width] : lanes[i];
    }
  }
  return lanes[0];
}

float max_of_block_baseline(const float* logits) {
  return max_of_block_body(logits);
}
Mass mass_baseline(const float* logits, int64_t count, float max, float inverse_temperature) {
  return mass_body(logits, count, max, inverse_temperature);
}
Mass mass_above_baseline(const float* logits, int64_t count, float max, float inverse_temperature,
                         Mass floor) {
  return mass_above_body(logits, count, max, inverse_temperature, floor);
}

[[gnu::target("avx2")]] float max_of_block_avx2(const float* logits) {
  return max_of_block_body(logits);
}
[[gnu::target("avx2")]] Mass mass_avx2(const float* logits, int64_t count, float max,
                                       float inverse_temperature) {
  return mass_body(logits, count, max, inverse_temperature);
}

[[gnu::target("avx2")]] Mass mass_above_avx2(const float* logits, int64_t count, float max,
                                             float inverse_temperature, Mass floor) {
  return mass_above_body(logits, count, max, inverse_temperature, floor);
}

[[gnu::target("avx512f,avx512dq,avx512bw,avx512vl")]] Mass mass_avx512(const float* logits,
                                                                       int64_t count, float max,
                                                                       float inverse_temperature) {
  return mass_body(logits, count, max, inverse_temperature);
}

[[gnu::target("avx512f,avx512dq,avx512bw,avx512vl")]] Mass mass_above_avx512(
    const float* logits, int64_t count, float max, float inverse_temperature, Mass floor) {
  return mass_above_body(logits, count, max, inverse_temperature, floor);
}

Loops choose_loops() {
  if (!__builtin_cpu_supports("avx2")) {
    return {max_of_block_baseline, mass_baseline, mass_above_baseline};
  }
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
  if (avx512) return {max_of_block_avx2, mass_avx512, mass_above_avx512};
  return {max_of_block_avx2, mass_avx2, mass_above_avx2};
}

const Loops& loops() {
  static const Loops chosen = choose_loops();
  return chosen;
}

bool greedy(const SamplingParams& params) {
  return !(params.temperature >= kTemperatureMin);
}

// top_k with "off" in one form: 0.
int64_t effective_top_k(const SamplingParams& params, int64_t vocab_size) {
  return params.top_k >= vocab_size ? 0 : std::max(0, params.top_k);
}

// How many of the first `count` sorted candidates top_p and min_p keep, and their mass. `total` is
// what top_p is a part of. `reached`: nothing behind them is kept; otherwise the rest of the row is
// needed.
struct Nucleus {
  int64_t count = 0;
  Mass mass = 0;
  bool reached = false;
};

void extend(Nucleus& nucleus, const Candidate* sorted, int64_t count, float max,
            const SamplingParams& params, Mass total) {
  const double wanted = static_cast<double>(params.top_p) * static_cast<double>(total);
  const Mass floor = std::max<Mass>(1, mass_floor(params));
  for (int64_t i = 0; i < count && !nucleus.reached; ++i) {
    const Mass mass = mass_of(&sorted[i].logit, 1, max, params.temperature);
    if (mass < floor) {
      nucleus.reached = true;
      return;
    }
    nucleus.mass += mass;
    ++nucleus.count;
    nucleus.reached = params.top_p < 1 && static_cast<double>(nucleus.mass) >= wanted;
  }
}

// Calls each(begin, end) with the places that stand sorted so far, more of them each time, until it
// is false: what is wanted is nearly always a small part of a row.
template <class Item, class Before, class Each>
void sort_as_needed(std::vector<Item>& items, const Before& before, const Each& each) {
  const auto count = static_cast<int64_t>(items.size());
  int64_t begin = 0;
  for (int64_t size = 1024; begin < count; size *= 4) {
    const int64_t end = std::min(begin + size, count);
    const auto first = items.begin() + begin, last = items.begin() + end;
    if (end < count) std::nth_element(first, last, items.end(), before);
    std::sort(first, last, before);
    if (!each(begin, end)) return;
    begin = end;
  }
}

struct Surprise {
  double distance;  // of a token's surprise from the entropy; the total's logarithm cancels out
  Mass mass;
  Candidate token;
};

// Moves the candidates that typical_p keeps to the front, the nearest first, and updates `kept`.
void keep_typical(Nucleus& kept, Candidate* candidates, float max, const SamplingParams& params) {
  const auto depth = [&](const Candidate& candidate) {
    return (static_cast<double>(max) - static_cast<double>(candidate.logit)) /
           static_cast<double>(params.temperature);
  };
  const auto total = static_cast<double>(kept.mass);
  double mean = 0;
  std::vector<Surprise> surprises(static_cast<size_t>(kept.count));
  for (int64_t i = 0; i < kept.count; ++i) {
    const Mass mass = mass_of(&candidates[i].logit, 1, max, params.temperature);
    mean += static_cast<double>(mass) / total * depth(candidates[i]);
    surprises[static_cast<size_t>(i)] = {0, mass, candidates[i]};
  }
  for (Surprise& surprise : surprises) surprise.distance = std::fabs(depth(surprise.token) - mean);
  const double wanted = static_cast<double>(params.typical_p) * total;
  double last = 0;
  kept = {};
  const auto nearer = [](const Surprise& a, const Surprise& b) {
    return a.distance < b.distance || (a.distance == b.distance && better(a.token, b.token));
  };
  sort_as_needed(surprises, nearer, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const Surprise& next = surprises[static_cast<size_t>(i)];
      if (static_cast<double>(kept.mass) >= wanted && next.distance > last) return false;
      candidates[kept.count++] = next.token;
      kept.mass += next.mass;
      last = next.distance;
    }
    return true;
  });
}

// One of the `kept` first candidates; their order changes.
Candidate draw_kept(const SamplingParams& params, Candidate* candidates, Nucleus kept, float max) {
  if (params.typical_p < 1) keep_typical(kept, candidates, max, params);
  Mass place = place_of_draw(params, kept.mass);
  for (int64_t i = 0; i < kept.count; ++i) {
    const Mass mass = mass_of(&candidates[i].logit, 1, max, params.temperature);
    if (mass > place) return candidates[i];
    place -= mass;
  }
  assert(!"the place of a draw lies within the kept mass");
  return candidates[0];
}

Mass mass_of_all(const Candidate* sorted, int64_t count, float max, float temperature) {
  Mass sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += mass_of(&sorted[i].logit, 1, max, temperature);
  return sum;
}

}  // namespace

float uniform(uint64_t seed, int32_t choice, int32_t output_index) {
  uint32_t counter[4] = {static_cast<uint32_t>(output_index), static_cast<uint32_t>(choice), 0, 0};
  uint32_t key[2] = {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53} * counter[0];
    const uint64_t b = uint64_t{0xCD9E8D57} * counter[2];
    const uint32_t next[4] = {
        static_cast<uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(b),
        static_cast<uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(a)};
    std::copy_n(next, 4, counter);
    key[0] += 0x9E3779B9U;
    key[1] += 0xBB67AE85U;
  }
  return static_cast<float>(counter[0] >> 8) * 0x1p-24F;
}

float exp_of_negative(float x) {
  return exp_body(x);
}

int candidates_needed(const SamplingParams& params) {
  int wanted = std::max(1, params.top_logprobs);
  if (params.forced < 0 && !greedy(params)) {
    if (params.top_k > 0) {
      wanted = std::max(wanted, params.top_k);
    } else if (params.top_p < 1 || (params.typical_p < 1 && params.min_p > 0)) {
      wanted = kTopLogprobsMax;
    }
  }
  return std::min(wanted, kTopLogprobsMax);
}

void find_candidates(Candidates& out, const float* logits, int64_t count, int32_t first_id,
                     int wanted) {
  assert(wanted >= 1 && wanted <= kTopLogprobsMax);
  out.count = 0;
  const Loops& fast = loops();
  const auto look_at = [&](int64_t i) {
    const float logit = std::isnan(logits[i]) ? kLowest : logits[i];
    add_candidate(out, {logit, first_id + static_cast<int32_t>(i)}, wanted);
  };
  int64_t i = 0;
  for (; i + kBlock <= count; i += kBlock) {
    // Ids rise, so an equal logit does not displace one that is in the list.
    const bool full = out.count == wanted;
    if (full && !(fast.max_of_block(logits + i) > out.best[wanted - 1].logit)) continue;
    for (int64_t j = i; j < i + kBlock; ++j) look_at(j);
  }
  for (; i < count; ++i) look_at(i);
}

void add_candidate(Candidates& list, const Candidate& candidate, int wanted) {
  if (list.count == wanted && !better(candidate, list.best[wanted - 1])) return;
  int at = list.count < wanted ? list.count++ : wanted - 1;
  for (; at > 0 && better(candidate, list.best[at - 1]); --at) list.best[at] = list.best[at - 1];
  list.best[at] = candidate;
}

void merge_candidates(Candidates& into, const Candidates& part, int wanted) {
  for (int i = 0; i < part.count; ++i) add_candidate(into, part.best[i], wanted);
}

Mass mass_of(const float* logits, int64_t count, float max, float temperature, Mass floor) {
  if (floor > 0) return loops().mass_above(logits, count, max, 1 / temperature, floor);
  return loops().mass(logits, count, max, 1 / temperature);
}

Mass mass_floor(const SamplingParams& params) {
  const double units = std::ldexp(std::min(1.0, static_cast<double>(params.min_p)), kMassBits);
  return static_cast<Mass>(std::ceil(std::max(0.0, units)));
}

float adjusted_logit(float logit, const Adjustment& adjustment, const SamplingParams& params) {
  if (std::isnan(logit) || logit == kLowest) return kLowest;
  if (adjustment.late != 0 && params.output_index < params.min_tokens) return kLowest;
  float changed = logit + adjustment.bias;
  if (adjustment.in_prompt != 0 || adjustment.output_count > 0) {
    const float penalty = params.repetition_penalty;
    changed = changed > 0 ? changed / penalty : changed * penalty;
  }
  if (adjustment.output_count > 0) {
    changed -= params.frequency_penalty * static_cast<float>(adjustment.output_count);
    changed -= params.presence_penalty;
  }
  // So that no choice of parameters leaves a row without a number to draw.
  constexpr float kLimit = 1e30F;
  return std::clamp(changed, -kLimit, kLimit);
}

float logprob_of(float logit, float max, Mass total) {
  const double log_sum = std::log(std::ldexp(static_cast<double>(total), -kMassBits));
  return static_cast<float>(static_cast<double>(logit) - static_cast<double>(max) - log_sum);
}

Draw kind_of_draw(const SamplingParams& params, int64_t vocab_size) {
  if (params.forced >= 0) return Draw::forced;
  if (greedy(params)) return Draw::best;
  const int64_t top_k = effective_top_k(params, vocab_size);
  if (top_k > kTopLogprobsMax) return Draw::whole_row;
  if (top_k > 0 || params.top_p < 1) return Draw::candidates;
  if (params.typical_p >= 1) return Draw::mass;
  return params.min_p > 0 ? Draw::candidates : Draw::whole_row;
}

bool draw_from_candidates(Candidate& chosen, const SamplingParams& params,
                          const Candidates& candidates, Mass total, int64_t vocab_size) {
  const float max = candidates.best[0].logit;
  const int64_t top_k = effective_top_k(params, vocab_size);
  int64_t count = candidates.count;
  if (top_k > 0) {
    count = std::min(count, top_k);
    total = mass_of_all(candidates.best, count, max, params.temperature);
  }
  Nucleus kept;
  extend(kept, candidates.best, count, max, params, total);
  const bool all = top_k > 0 || candidates.count == vocab_size;
  if (!kept.reached && !all) return false;
  Candidate best[kTopLogprobsMax];
  std::copy_n(candidates.best, kept.count, best);
  chosen = draw_kept(params, best, kept, max);
  return true;
}

Candidate draw_from_row(const SamplingParams& params, const float* row, int64_t vocab_size,
                        float max, Mass total) {
  std::vector<Candidate> all(static_cast<size_t>(vocab_size));
  for (int64_t i = 0; i < vocab_size; ++i) {
    all[static_cast<size_t>(i)] = {std::isnan(row[i]) ? kLowest : row[i], static_cast<int32_t>(i)};
  }
  const int64_t top_k = effective_top_k(params, vocab_size);
  Nucleus kept;
  if (top_k > 0) {
    std::nth_element(all.begin(), all.begin() + top_k, all.end(), better);
    std::sort(all.begin(), all.begin() + top_k, better);
    total = mass_of_all(all.data(), top_k, max, params.temperature);
    extend(kept, all.data(), top_k, max, params, total);
  } else if (params.top_p >= 1 && params.min_p <= 0) {  // typical_p alone: every possible token
    const auto possible = std::remove_if(all.begin(), all.end(), [&](const Candidate& token) {
      return mass_of(&token.logit, 1, max, params.temperature) == 0;
    });
    kept = {.count = possible - all.begin(), .mass = total};
  } else {
    sort_as_needed(all, better, [&](int64_t begin, int64_t end) {
      extend(kept, all.data() + begin, end - begin, max, params, total);
      return !kept.reached;
    });
  }
  return draw_kept(params, all.data(), kept, max);
}

Mass place_of_draw(const SamplingParams& params, Mass total) {
  // floor(u * total) for u in units of 2^-24, without leaving 64 bits.
  const auto u = static_cast<uint64_t>(
      std::ldexp(uniform(params.seed, params.choice, params.output_index), 24));
  constexpr uint64_t kLow = (uint64_t{1} << 24) - 1;
  return (total >> 24) * u + (((total & kLow) * u) >> 24);
}

Candidate find_at(const float* logits, int64_t count, int32_t first_id, float max,
                  const SamplingParams& params, Mass place) {
  const float temperature = params.temperature;
  const Mass floor = mass_floor(params);
  constexpr int64_t kStride = 1024;
  for (int64_t begin = 0; begin < count; begin += kStride) {
    const int64_t size = std::min(kStride, count - begin);
    const Mass stride = mass_of(logits + begin, size, max, temperature, floor);
    if (stride <= place) {
      place -= stride;
      continue;
    }
    for (int64_t i = begin;; ++i) {
      const Mass mass = mass_of(logits + i, 1, max, temperature, floor);
      if (mass > place) return {logits[i], first_id + static_cast<int32_t>(i)};
      place -= mass;
    }
  }
  assert(!"the place of a draw lies within the part's mass");
  return {kLowest, -1};
}

}  // namespace chorus::kernels
