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
constexpr int64_t kBlock = 64;

struct Loops {
  float (*max_of_block)(const float* logits);  // of kBlock logits; NaN is passed over
  Mass (*mass)(const float* logits, int64_t count, float max, float inverse_temperature);
  Mass (*mass_above)(const float* logits, int64_t count, float max, float inverse_temperature,
                     Mass floor);
};

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
  double distance;  // of a token's surprise from the entropy; the row's constant cancels out
  Mass mass;
  Candidate token;
};

// Moves the candidates that typical_p keeps to the front, the nearest first, and updates `kept`.
void keep_typical(Nucleus& kept, Candidate* candidates, float max, const SamplingParams& params) {
  const auto surprise = [&](const Candidate& candidate) {
    return surprise_of(candidate.logit, max, params.temperature);
  };
  const auto total = static_cast<double>(kept.mass);
  Mass sum = 0;
  std::vector<Surprise> surprises(static_cast<size_t>(kept.count));
  for (int64_t i = 0; i < kept.count; ++i) {
    const Mass mass = mass_of(&candidates[i].logit, 1, max, params.temperature);
    sum += surprise_mass(mass, surprise(candidates[i]));
    surprises[static_cast<size_t>(i)] = {0, mass, candidates[i]};
  }
  const double entropy = static_cast<double>(sum) / total;
  for (Surprise& next : surprises) next.distance = std::fabs(surprise(next.token) - entropy);
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

float logprob_of(float logit, float max, Mass total) {
  const double log_sum = std::log(std::ldexp(static_cast<double>(total), -kMassBits));
  return static_cast<float>(static_cast<double>(logit) - static_cast<double>(max) - log_sum);
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
