// How a token is chosen from logits: the parameters, the result, and the draw, as plain data and
// pure functions that every backend shares.
//
// Draws are counter-based: the uniform number of an output depends on (seed, choice, output index)
// alone, never on the batch, so a request's tokens do not depend on its neighbours.
#pragma once

#include <cstdint>

namespace chorus::kernels {

inline constexpr int kTopLogprobsMax = 64;  // per row; OpenAI's limit of 20 is the router's

// One row's parameters, in device memory, written by the step executor.
struct SamplingParams {
  float temperature = 0;     // 0: greedy
  float top_p = 1;           // (0, 1]; 1: off
  int32_t top_k = 0;         // 0: off
  int32_t top_logprobs = 0;  // how many alternatives to report, 0..kTopLogprobsMax
  uint64_t seed = 0;
  int32_t choice = 0;        // n-th choice of the request
  int32_t output_index = 0;  // 0 for the first generated token
  int32_t slot = 0;          // where the token becomes the next step's input
  int32_t forced = -1;       // >= 0: take this token (teacher forcing, prompt logprobs)
};

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

// e^x in f32 for x <= 0 (relative error below 2e-7; 0 below -87): additions and multiplications in
// a fixed order, so that a compiler may vectorise loops over it and every build gives the same
// bits.
float exp_of_negative(float x);

struct Candidate {
  float logit;
  int32_t id;
};

// What a rank says of its slice of a row's logits, and the same for the whole row after merging.
struct LogitSummary {
  float max;                       // of the slice
  float exp_sum;                   // sum of e^(logit - max)
  int32_t count;                   // of `top`
  Candidate top[kTopLogprobsMax];  // best first, ties to the smaller id
};

// `top` gets `top_count` candidates (fewer where the slice is smaller). NaN logits count as -inf.
LogitSummary summarize(const float* logits, int64_t count, int32_t first_id, int top_count);
// In rank order: exp_sum's last bits depend on it.
LogitSummary merge(const LogitSummary* of_ranks, int ranks, int top_count);

int candidates_needed(const SamplingParams& params);
// The draw needs every logit, not only the candidates.
bool needs_whole_row(const SamplingParams& params);

// Order of the filters: temperature, top_k, top_p (the token that crosses top_p is kept). `row`
// [vocab_size] where needs_whole_row, or where params.forced >= 0; otherwise it may be null.
Sampled choose(const SamplingParams& params, const LogitSummary& summary, const float* row,
               int64_t vocab_size);

}  // namespace chorus::kernels
