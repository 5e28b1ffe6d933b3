// How a token is chosen from logits: the parameters, the result, and the draw, as plain data and
// pure functions that every backend shares.
//
// Draws are counter-based: the uniform number of an output depends on (seed, choice, output index)
// alone, never on the batch, so a request's tokens do not depend on its neighbours.
//
// Probabilities are added as integers (Mass), so that the order of additions does not matter: a row
// cut among ranks and workers in any way gives the same token and the same logprob. The cost is
// that tokens of less than 2^-41 of the best one's probability count as impossible.
#pragma once

#include <cstdint>

namespace chorus::kernels {

inline constexpr int kTopLogprobsMax = 64;  // per row; OpenAI's limit of 20 is the router's

// One row's parameters, in device memory, written by the step executor.
struct SamplingParams {
  float temperature = 0;     // 0 (or less than kTemperatureMin): greedy
  float top_p = 1;           // (0, 1]; 1: off
  int32_t top_k = 0;         // 0: off
  int32_t top_logprobs = 0;  // how many alternatives to report, 0..kTopLogprobsMax
  uint64_t seed = 0;
  int32_t choice = 0;        // n-th choice of the request
  int32_t output_index = 0;  // 0 for the first generated token
  int32_t slot = 0;          // where the token becomes the next step's input
  int32_t forced = -1;       // >= 0: take this token (teacher forcing, prompt logprobs)
};
inline constexpr float kTemperatureMin = 1e-5F;

// One row's outcome. Logprobs are natural logarithms of the model's own distribution, before
// temperature and filters. Ties go to the smaller id.
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
// Adds another part's candidates to `into`; keeps `wanted`.
void merge_candidates(Candidates& into, const Candidates& part, int wanted);

// Probability relative to the row's best token, in units of 2^-40.
using Mass = uint64_t;
// Sum of e^((logits[i] - max) / temperature); `max` is the whole row's. NaN counts as -inf.
Mass mass_of(const float* logits, int64_t count, float max, float temperature);
// Logarithm of a probability: `total` is the whole row's mass at temperature 1.
float logprob_of(float logit, float max, Mass total);

// How a row's token is drawn; follows from its parameters but for the last step, which turns
// `candidates` into `whole_row` where top_p reaches beyond the candidates.
enum class Draw : uint8_t {
  forced,
  best,
  candidates,  // sorted, filtered by top_k and top_p
  mass,        // temperature alone: by inverse distribution function in the order of ids
  whole_row,   // sorted, all of it
};
Draw kind_of_draw(const SamplingParams& params, int64_t vocab_size);

// Order of the filters: temperature, top_k, top_p (the token that crosses top_p is kept).
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
                  float temperature, Mass place);

}  // namespace chorus::kernels
