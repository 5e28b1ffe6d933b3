#include "kernels/sampling.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cmath>
#include <limits>
#include <vector>

namespace chorus::kernels {
namespace {

constexpr int kLanes = 16;

bool better(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

// Sums in sixteen lanes and a tree: one order, whatever the compiler makes of the loop.
float sum_lanes(const float* lanes) {
  float sums[kLanes];
  std::copy_n(lanes, kLanes, sums);
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) sums[i] += sums[i + width];
  }
  return sums[0];
}

// out[i] = e^((logits[i] - max) / temperature); their sum is the result.
float weigh(const float* logits, int64_t count, float max, float temperature, float* out) {
  float lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) {
      out[i + lane] = exp_of_negative((logits[i + lane] - max) / temperature);
      lanes[lane] += out[i + lane];
    }
  }
  for (; i < count; ++i) {
    out[i] = exp_of_negative((logits[i] - max) / temperature);
    lanes[i % kLanes] += out[i];
  }
  return sum_lanes(lanes);
}

// The first index at which the running sum of weights exceeds u * total; the last positive one
// where rounding lets the sum fall short.
int64_t walk(const float* weights, int64_t count, float u, float total) {
  const double target = static_cast<double>(u) * total;
  double sum = 0;
  int64_t last = 0;
  for (int64_t i = 0; i < count; ++i) {
    if (weights[i] <= 0) continue;
    sum += weights[i];
    last = i;
    if (sum > target) return i;
  }
  return last;
}

// Draws among candidates that are sorted, best first; `total` is the weight of all that top_p
// counts against.
Candidate draw(const std::vector<Candidate>& sorted, const SamplingParams& params, float max,
               float total) {
  std::vector<float> weights;
  float kept = 0;
  for (const Candidate& candidate : sorted) {
    weights.push_back(exp_of_negative((candidate.logit - max) / params.temperature));
    kept += weights.back();
    if (params.top_p < 1 && kept >= params.top_p * total) break;
  }
  const float u = uniform(params.seed, params.choice, params.output_index);
  return sorted[static_cast<size_t>(
      walk(weights.data(), static_cast<int64_t>(weights.size()), u, kept))];
}

// The best `count` of a row, sorted.
std::vector<Candidate> best_of(const float* row, int64_t vocab_size, int64_t count) {
  std::vector<Candidate> all(static_cast<size_t>(vocab_size));
  for (int64_t i = 0; i < vocab_size; ++i) {
    all[static_cast<size_t>(i)] = {row[i], static_cast<int32_t>(i)};
  }
  count = std::min(count, vocab_size);
  std::partial_sort(all.begin(), all.begin() + count, all.end(), better);
  all.resize(static_cast<size_t>(count));
  return all;
}

Candidate draw_from_row(const SamplingParams& params, const LogitSummary& summary, const float* row,
                        int64_t vocab_size) {
  std::vector<float> weights(static_cast<size_t>(vocab_size));
  if (params.top_k > 0) {
    const auto sorted = best_of(row, vocab_size, params.top_k);
    float total = 0;
    for (const Candidate& candidate : sorted) {
      total += exp_of_negative((candidate.logit - summary.max) / params.temperature);
    }
    return draw(sorted, params, summary.max, total);
  }
  const float total = weigh(row, vocab_size, summary.max, params.temperature, weights.data());
  if (params.top_p >= 1) {
    const float u = uniform(params.seed, params.choice, params.output_index);
    const int64_t id = walk(weights.data(), vocab_size, u, total);
    return {row[id], static_cast<int32_t>(id)};
  }
  // The nucleus is nearly always small: sort only as much of the row as it takes.
  for (int64_t count = kTopLogprobsMax;; count *= 8) {
    const auto sorted = best_of(row, vocab_size, count);
    float mass = 0;
    for (const Candidate& candidate : sorted) mass += weights[static_cast<size_t>(candidate.id)];
    if (mass >= params.top_p * total || count >= vocab_size) {
      return draw(sorted, params, summary.max, total);
    }
  }
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
  // e^x = 2^n * e^r with |r| <= ln(2) / 2; ln(2) in two parts so that r is exact enough.
  const float clamped = x < -87.0F ? -87.0F : x;
  const float n = (clamped * 1.44269504F + 12582912.0F) - 12582912.0F;  // to nearest
  const float r = (clamped - n * 0.693359375F) + n * 2.12194440e-4F;
  float p = 1.9875691500e-4F;
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  const float e = (p * r * r + r) + 1.0F;
  const float scale = std::bit_cast<float>((static_cast<int32_t>(n) + 127) << 23);
  return x < -87.0F ? 0.0F : e * scale;
}

LogitSummary summarize(const float* logits, int64_t count, int32_t first_id, int top_count) {
  constexpr float kLowest = -std::numeric_limits<float>::infinity();
  LogitSummary summary{.max = kLowest, .exp_sum = 0, .count = 0, .top = {}};
  top_count = static_cast<int>(std::min<int64_t>(top_count, count));
  float worst = kLowest;  // of a full list
  for (int64_t i = 0; i < count; ++i) {
    // Not greater covers NaN; equal ones come with a larger id and lose.
    if (summary.count == top_count && !(logits[i] > worst)) continue;
    const Candidate candidate{std::isnan(logits[i]) ? kLowest : logits[i],
                              first_id + static_cast<int32_t>(i)};
    if (summary.count < top_count) ++summary.count;
    int at = summary.count - 1;
    for (; at > 0 && better(candidate, summary.top[at - 1]); --at) {
      summary.top[at] = summary.top[at - 1];
    }
    summary.top[at] = candidate;
    if (summary.count == top_count) worst = summary.top[top_count - 1].logit;
  }
  if (count == 0) return summary;
  summary.max = summary.top[0].logit;
  float lanes[kLanes] = {};
  for (int64_t i = 0; i + kLanes <= count; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) {
      lanes[lane] += exp_of_negative(logits[i + lane] - summary.max);
    }
  }
  for (int64_t i = count / kLanes * kLanes; i < count; ++i) {
    lanes[i % kLanes] += exp_of_negative(logits[i] - summary.max);
  }
  summary.exp_sum = sum_lanes(lanes);
  return summary;
}

LogitSummary merge(const LogitSummary* of_ranks, int ranks, int top_count) {
  if (ranks == 1) return of_ranks[0];
  LogitSummary merged = of_ranks[0];
  for (int rank = 1; rank < ranks; ++rank) {
    const LogitSummary& other = of_ranks[rank];
    const float max = std::max(merged.max, other.max);
    merged.exp_sum = merged.exp_sum * exp_of_negative(merged.max - max) +
                     other.exp_sum * exp_of_negative(other.max - max);
    merged.max = max;
    Candidate both[2 * kTopLogprobsMax];
    const Candidate* end = std::merge(merged.top, merged.top + merged.count, other.top,
                                      other.top + other.count, both, better);
    merged.count = static_cast<int32_t>(std::min<int64_t>(top_count, end - both));
    std::copy_n(both, merged.count, merged.top);
  }
  return merged;
}

int candidates_needed(const SamplingParams& params) {
  const bool few = params.temperature > 0 && params.top_k <= kTopLogprobsMax;
  return std::max({1, params.top_logprobs, few ? params.top_k : 0});
}

bool needs_whole_row(const SamplingParams& params) {
  const bool from_candidates = params.top_k > 0 && params.top_k <= kTopLogprobsMax;
  return params.temperature > 0 && !from_candidates;
}

Sampled choose(const SamplingParams& params, const LogitSummary& summary, const float* row,
               int64_t vocab_size) {
  assert(summary.count > 0);
  const float log_sum = summary.max + std::log(summary.exp_sum);
  Candidate chosen = summary.top[0];
  if (params.forced >= 0) {
    chosen = {row[params.forced], params.forced};
  } else if (needs_whole_row(params)) {
    chosen = draw_from_row(params, summary, row, vocab_size);
  } else if (params.temperature > 0) {
    const std::vector<Candidate> sorted(summary.top,
                                        summary.top + std::min(params.top_k, summary.count));
    float total = 0;
    for (const Candidate& candidate : sorted) {
      total += exp_of_negative((candidate.logit - summary.max) / params.temperature);
    }
    chosen = draw(sorted, params, summary.max, total);
  }
  Sampled result{.token = chosen.id,
                 .logprob = chosen.logit - log_sum,
                 .top_count = 0,
                 .top_ids = {},
                 .top_logprobs = {}};
  result.top_count = std::min(params.top_logprobs, summary.count);
  for (int i = 0; i < result.top_count; ++i) {
    result.top_ids[i] = summary.top[i].id;
    result.top_logprobs[i] = summary.top[i].logit - log_sum;
  }
  return result;
}

}  // namespace chorus::kernels
