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
float adjusted_logit(float logit, const Adjustment& adjustment, const SamplingParams& params);
// Do the tokens drawn so far change the row's logits?
inline bool penalised(const SamplingParams& params) {
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

// Uniform in [0, 1), 24 random bits, from Philox 4x32-10 (Salmon et al., SC 2011).
float uniform(uint64_t seed, int32_t choice, int32_t output_index);

// e^x in f32 for x <= 0 (relative error below 2e-7; 0 below -87 and for NaN), made of additions and
// multiplications in a fixed order: the same bits in every build.
float exp_of_negative(float x);

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

// How many of its best tokens a row's draw and report look at, 1..kTopLogprobsMax.
int candidates_needed(const SamplingParams& params);
// The best `wanted` of logits[0, count), whose first has the id `first_id`; fewer where there are
// not as many. NaN counts as -inf.
void find_candidates(Candidates& out, const float* logits, int64_t count, int32_t first_id,
                     int wanted);
void add_candidate(Candidates& list, const Candidate& candidate, int wanted);
// Adds another part's candidates to `into`; keeps `wanted`.
void merge_candidates(Candidates& into, const Candidates& part, int wanted);

// Probability relative to the row's best token, in units of 2^-40.
using Mass = uint64_t;
// Sum of e^((logits[i] - max) / temperature); `max` is the whole row's. NaN counts as -inf. Tokens
// of less than `floor` are left out.
Mass mass_of(const float* logits, int64_t count, float max, float temperature, Mass floor = 0);
// What min_p asks of a token.
Mass mass_floor(const SamplingParams& params);
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
Draw kind_of_draw(const SamplingParams& params, int64_t vocab_size);

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
// Draw::mass: the place in [0, total) that the row's uniform number stands for, and the first token
// whose mass reaches beyond `place`, counted from the part's first token.
Mass place_of_draw(const SamplingParams& params, Mass total);
Candidate find_at(const float* logits, int64_t count, int32_t first_id, float max,
                  const SamplingParams& params, Mass place);

}  // namespace chorus::kernels
