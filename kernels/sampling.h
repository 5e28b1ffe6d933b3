// How a token is chosen from logits: the parameters, the result, and the draw, as plain data and
// pure functions that every backend shares.
//
// Draws are counter-based: the uniform number of an output depends on (seed, choice, output index)
// alone, never on the batch, so a request's tokens do not depend on its neighbours.
//
// Probabilities are added as integers (Mass), so that the order of additions does not matter: a row
// cut among ranks and workers in any way gives the same token and the same logprob. The cost is
// that tokens of less than 2^-41 of the best one's probability count as impossible.
//
// Order: what a slot's list of adjustments says of a token (logit_bias, then the repetition
// penalty, then frequency and presence penalty, then min_tokens), temperature, top_k, top_p, min_p,
// typical_p, the draw. Greedy rows take the best token behind the adjustments. Logprobs are
// reported from the logits as the model gave them, before all of that: they say what the model
// thinks, and a penalty or a temperature does not change them (vLLM's default as well).
//
// What is constexpr here also runs on devices, and has to give the same bits there: a compiler that
// joins a multiplication and an addition must be told not to.
#pragma once

#include <cstdint>

namespace chorus::kernels {

inline constexpr int kTopLogprobsMax = 64;  // per row; OpenAI's limit of 20 is the router's

// One row's parameters, in device memory, written by the step executor.
struct SamplingParams {
  float temperature = 0;         // 0 (or less than kTemperatureMin): greedy
  float top_p = 1;               // (0, 1]; 1: off
  int32_t top_k = 0;             // 0: off
  float min_p = 0;               // [0, 1]: of the best token's probability; 0: off
  float typical_p = 1;           // (0, 1]; 1: off
  float repetition_penalty = 1;  // > 0; of tokens in the prompt or the output; 1: off
  float frequency_penalty = 0;   // for each time a token stands in the output
  float presence_penalty = 0;    // once for each token that stands in the output
  int32_t min_tokens = 0;        // late tokens are not drawn while output_index is less
  int32_t adjusted = 0;          // 1: the list of the slot's adjustments counts
  uint64_t seed = 0;
  int32_t choice = 0;        // n-th choice of the request
  int32_t output_index = 0;  // 0 for the first generated token
  int32_t slot = 0;          // where the token becomes the next step's input; -1: nowhere
  int32_t forced = -1;       // >= 0: take this token as the model sees it, without adjustments
  int32_t top_logprobs = 0;  // how many alternatives to report, 0..kTopLogprobsMax
  int32_t unused = 0;
};
inline constexpr float kTemperatureMin = 1e-5F;

// What is known of one token of a sequence that changes its logit. The list of them, in device
// memory, one a slot, in any order, each id once, is made by the step executor where a sequence
// begins; the sample operation then counts what it draws, a step before the planner hears of it.
struct Adjustment {
  int32_t id = 0;
  int32_t output_count = 0;  // how often the output holds the token
  float bias = 0;            // logit_bias
  uint8_t in_prompt = 0;
  uint8_t late = 0;  // one of those that end a text: see min_tokens
  uint8_t unused[2] = {};
};
// The logit that the draw sees: repetition_penalty divides it where it is positive and multiplies
// it where it is not (CTRL, Keskar et al. 2019). Finite, or -inf for a token that is not to be
// drawn.
constexpr float adjusted_logit(float logit, const Adjustment& adjustment,
                               const SamplingParams& params) {
  constexpr float kLowest = -__builtin_huge_valf();
  if (logit != logit || logit == kLowest) return kLowest;
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
  return changed < -kLimit ? -kLimit : changed > kLimit ? kLimit : changed;
}
// Do the tokens drawn so far change the row's logits?
constexpr bool penalised(const SamplingParams& params) {
  return params.repetition_penalty != 1 || params.frequency_penalty != 0 ||
         params.presence_penalty != 0;
}

// One row's outcome. Logprobs are natural logarithms of the model's own distribution, before
// adjustments, temperature and filters. Ties go to the smaller id.
struct Sampled {
  int32_t token = -1;
  float logprob = 0;
  int32_t top_count = 0;
  int32_t top_ids[kTopLogprobsMax];
  float top_logprobs[kTopLogprobsMax];
};

// 24 random bits, from Philox 4x32-10 (Salmon et al., SC 2011); as a number in [0, 1).
constexpr uint32_t random_bits(uint64_t seed, int32_t choice, int32_t output_index) {
  uint32_t counter[4] = {static_cast<uint32_t>(output_index), static_cast<uint32_t>(choice), 0, 0};
  uint32_t key[2] = {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53} * counter[0];
    const uint64_t b = uint64_t{0xCD9E8D57} * counter[2];
    const uint32_t next[4] = {
        static_cast<uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(b),
        static_cast<uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(a)};
    for (int i = 0; i < 4; ++i) counter[i] = next[i];
    key[0] += 0x9E3779B9U;
    key[1] += 0xBB67AE85U;
  }
  return counter[0] >> 8;
}
constexpr float uniform(uint64_t seed, int32_t choice, int32_t output_index) {
  return static_cast<float>(random_bits(seed, choice, output_index)) * 0x1p-24F;
}

// e^x in f32 for x <= 0 (relative error below 2e-7; 0 below -87 and for NaN), made of additions and
// multiplications in a fixed order: the same bits in every build.
[[gnu::always_inline]] constexpr float exp_of_negative(float x) {
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

struct Candidate {
  float logit;
  int32_t id;
};
// Best first: the larger logit, then the smaller id.
constexpr bool better(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

struct Candidates {  // the best of a row or of a part of it
  int32_t count = 0;
  Candidate best[kTopLogprobsMax];
};

constexpr bool greedy(const SamplingParams& params) {
  return !(params.temperature >= kTemperatureMin);
}
// top_k with "off" in one form: 0.
constexpr int64_t effective_top_k(const SamplingParams& params, int64_t vocab_size) {
  return params.top_k >= vocab_size || params.top_k < 0 ? 0 : params.top_k;
}
// How many of its best tokens a row's draw and report look at, 1..kTopLogprobsMax.
constexpr int candidates_needed(const SamplingParams& params) {
  int wanted = params.top_logprobs > 1 ? params.top_logprobs : 1;
  if (params.forced < 0 && !greedy(params)) {
    if (params.top_k > 0) {
      if (params.top_k > wanted) wanted = params.top_k;
    } else if (params.top_p < 1 || (params.typical_p < 1 && params.min_p > 0)) {
      wanted = kTopLogprobsMax;
    }
  }
  return wanted < kTopLogprobsMax ? wanted : kTopLogprobsMax;
}
// The best `wanted` of logits[0, count), whose first has the id `first_id`; fewer where there are
// not as many. NaN counts as -inf.
void find_candidates(Candidates& out, const float* logits, int64_t count, int32_t first_id,
                     int wanted);
void add_candidate(Candidates& list, const Candidate& candidate, int wanted);
// Adds another part's candidates to `into`; keeps `wanted`.
void merge_candidates(Candidates& into, const Candidates& part, int wanted);

// Probability relative to the row's best token, in units of 2^-40.
using Mass = uint64_t;
inline constexpr int kMassBits = 40;
[[gnu::always_inline]] constexpr Mass mass_of_one(float logit, float max,
                                                  float inverse_temperature) {
  // Adding this number rounds a double below 2^51 to an integer, which then stands in the low bits.
  constexpr double kRounder = 0x1.8p52;
  const float e = exp_of_negative((logit - max) * inverse_temperature);
  const double units = static_cast<double>(e) * static_cast<double>(uint64_t{1} << kMassBits);
  return __builtin_bit_cast(uint64_t, units + kRounder) - __builtin_bit_cast(uint64_t, kRounder);
}
// Sum of e^((logits[i] - max) / temperature); `max` is the whole row's. NaN counts as -inf. Tokens
// of less than `floor` are left out.
Mass mass_of(const float* logits, int64_t count, float max, float temperature, Mass floor = 0);
// What min_p asks of a token.
constexpr Mass mass_floor(const SamplingParams& params) {
  const double share = params.min_p < 1 ? static_cast<double>(params.min_p) : 1.0;
  if (!(share > 0)) return 0;
  const double units = share * static_cast<double>(uint64_t{1} << kMassBits);
  const auto floor = static_cast<Mass>(units);
  return static_cast<double>(floor) < units ? floor + 1 : floor;
}
// Logarithm of a probability: `total` is the whole row's mass at temperature 1.
float logprob_of(float logit, float max, Mass total);

// How a row's token is drawn; follows from its parameters but for the last step, which turns
// `candidates` into `whole_row` where a filter reaches beyond the candidates.
enum class Draw : uint8_t {
  forced,
  best,
  candidates,  // sorted, filtered
  mass,        // temperature and min_p: by inverse distribution function in the order of ids
  whole_row,   // sorted and filtered, all of it
};
constexpr Draw kind_of_draw(const SamplingParams& params, int64_t vocab_size) {
  if (params.forced >= 0) return Draw::forced;
  if (greedy(params)) return Draw::best;
  const int64_t top_k = effective_top_k(params, vocab_size);
  if (top_k > kTopLogprobsMax) return Draw::whole_row;
  if (top_k > 0 || params.top_p < 1) return Draw::candidates;
  if (params.typical_p >= 1) return Draw::mass;
  return params.min_p > 0 ? Draw::candidates : Draw::whole_row;
}
constexpr bool needs_tempered_mass(Draw draw) {
  return draw == Draw::candidates || draw == Draw::mass || draw == Draw::whole_row;
}

// Filters, each of what the one before it left: top_k; top_p (the token that crosses it is kept);
// min_p; typical_p (Meister et al., TACL 2023: the tokens whose surprise is nearest to the entropy,
// with the one that crosses it and those as near as that).
// `total` is the row's mass at params.temperature. Draw::candidates; false where they do not
// decide.
bool draw_from_candidates(Candidate& chosen, const SamplingParams& params,
                          const Candidates& candidates, Mass total, int64_t vocab_size);
// Draw::whole_row: row [vocab_size].
Candidate draw_from_row(const SamplingParams& params, const float* row, int64_t vocab_size,
                        float max, Mass total);
// typical_p: a token's surprise, up to a constant of the row; and its part of the entropy, in units
// of 2^-40 as well, so that the order of their sum does not matter either.
constexpr double surprise_of(float logit, float max, float temperature) {
  return (static_cast<double>(max) - static_cast<double>(logit)) / static_cast<double>(temperature);
}
constexpr Mass surprise_mass(Mass mass, double surprise) {
  return static_cast<Mass>(static_cast<double>(mass) * surprise + 0.5);
}
// Draw::mass: the place in [0, total) that the row's uniform number stands for, and the first token
// whose mass reaches beyond `place`, counted from the part's first token.
constexpr Mass place_of_draw(const SamplingParams& params, Mass total) {
  // floor(u * total) for u in units of 2^-24, without leaving 64 bits.
  const uint64_t u = random_bits(params.seed, params.choice, params.output_index);
  constexpr uint64_t kLow = (uint64_t{1} << 24) - 1;
  return (total >> 24) * u + (((total & kLow) * u) >> 24);
}
Candidate find_at(const float* logits, int64_t count, int32_t first_id, float max,
                  const SamplingParams& params, Mass place);

}  // namespace chorus::kernels
