#include "router/engine/request_limits.h"

#include <catch2/catch.hpp>
#include <cmath>

namespace chorus::engine {

TEST_CASE("a request that a shard would refuse fails, and says which field is wrong") {
  const RequestLimits limits{.context_max = 128, .vocab_size = 1000, .top_logprobs_max = 20};
  GenerationRequest sound{.prompt = {1, 2, 999}, .sampling = {}, .max_tokens = 1, .listener = {}};
  CHECK_FALSE(find_fault(sound, limits));
  auto fault = [&](auto spoil) {
    GenerationRequest request = sound;
    spoil(request, request.sampling);
    return find_fault(request, limits).value_or("none");
  };
  using Request = GenerationRequest;
  using Sampling = shards::Sampling;
  CHECK(fault([](Request& r, Sampling&) { r.prompt[1] = 1000; }) ==
        "prompt token 1000 is out of range");
  CHECK(fault([](Request& r, Sampling&) { r.max_tokens = 0; }) == "max_tokens 0 is out of range");
  CHECK(fault([](Request&, Sampling& s) { s.temperature = NAN; }) ==
        "temperature nan is out of range");
  CHECK(fault([](Request&, Sampling& s) { s.top_p = 0; }) == "top_p 0 is out of range");
  CHECK(fault([](Request&, Sampling& s) { s.min_p = 1.5F; }) == "min_p 1.5 is out of range");
  CHECK(fault([](Request&, Sampling& s) { s.typical_p = 0; }) == "typical_p 0 is out of range");
  CHECK(fault([](Request&, Sampling& s) { s.repetition_penalty = 0; }) ==
        "repetition_penalty 0 is out of range");
  CHECK(fault([](Request&, Sampling& s) { s.presence_penalty = INFINITY; }) ==
        "presence_penalty inf is out of range");
  CHECK(fault([](Request&, Sampling& s) { s.top_logprobs = 21; }) ==
        "top_logprobs 21 is out of range");
  CHECK(fault([](Request&, Sampling& s) { s.logit_bias = {{.id = 3, .bias = NAN}}; }) ==
        "logit_bias nan is out of range");
  CHECK(fault([](Request&, Sampling& s) { s.logit_bias = {{.id = -1, .bias = 1}}; }) ==
        "logit_bias -1 is out of range");
  const RequestLimits wide{.context_max = 128, .vocab_size = 10000, .top_logprobs_max = 20};
  GenerationRequest many = sound;
  for (int id = 0; id < 4096; ++id) many.sampling.logit_bias.push_back({.id = id, .bias = 1});
  CHECK_FALSE(find_fault(many, wide));
  many.sampling.late_ids = {7};
  CHECK(find_fault(many, wide) == "the number of logit_bias and late_ids 4097 is out of range");
  CHECK(fault([](Request&, Sampling& s) {
          s.late_ids = {4, 4};
        }) == "late_ids: token 4 is not below the one behind it");
}

}  // namespace chorus::engine
