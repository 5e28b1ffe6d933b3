// The executor holds every plan against what it knows, and refuses what does not fit.
#include "shard/step/executor.h"

#include <catch2/catch.hpp>
#include <cmath>

#include "tests/shard/local_group.h"

using namespace chorus;
using namespace chorus::tests;
using step::BlockChange;
using step::NewSequence;
using step::Row;
using step::Step;

namespace {

Row first_row(std::vector<int32_t> tokens, std::vector<int32_t> blocks) {
  return {.slot = 1,
          .start = NewSequence{.sequence = 7},
          .tokens = std::move(tokens),
          .position = 0,
          .block_changes = {BlockChange{.group = 0, .added = std::move(blocks)}},
          .sample = true};
}

std::string refusal(LocalGroup& group, Step step) {
  try {
    group.execute(std::move(step));
    return "";
  } catch (const std::runtime_error& error) {
    return error.what();
  }
}

Step with(Row row) {
  return {.number = 0, .rows = {std::move(row)}};
}

}  // namespace

TEST_CASE("plans that do not fit are refused with the reason") {
  const auto model = modelfile::open_model(cached_model(kSmolLm2));
  const GroupOptions options{.limits = {.slots = 4, .step_tokens_max = 64, .context_max = 128},
                             .kv_tokens = 256};
  using Catch::Matchers::Contains;
  const auto check = [&](Step bad, const char* reason) {
    LocalGroup group(*model, options);
    CHECK_THAT(refusal(group, std::move(bad)), Contains(reason));
  };

  check(with(first_row({1, 2, 49152}, {0})), "token 49152 does not exist");
  check(with(first_row({1, -2}, {0})), "token -2 does not exist");
  check(with(first_row(std::vector<int32_t>(20, 5), {0})), "has blocks for 16 positions, 20");
  check(with(first_row({1}, {16})), "block 16 of KV group 0 does not exist");
  check(with(first_row(std::vector<int32_t>(65, 5), {0, 1, 2, 3, 4})), "the limit is 64");
  check(with(first_row({}, {0})), "no sampled token to continue with");
  Row row = first_row({1}, {0});
  row.slot = 4;
  check(with(row), "slot 4 does not exist");
  row = first_row({1}, {0});
  row.position = 3;
  check(with(row), "position 3 does not continue a sequence of length 0");
  row = first_row({1}, {0});
  row.start.reset();
  check(with(row), "no sequence has this seat");
  row = first_row({1}, {0});
  row.block_changes[0].group = 1;
  check(with(row), "KV group 1 does not exist");
  row = first_row({1, 2, 3}, {0});
  row.logprob_positions = {0, 3};
  check(with(row), "logprob position 3 behind 0 in a row of 3 tokens");
  row.logprob_positions = {1, 1};
  check(with(row), "logprob position 1 behind 1");
  row.logprob_positions = {2};
  row.next_chunk_token = 49152;
  check(with(row), "next_chunk_token 49152 does not exist");
  check({.number = 0, .rows = {first_row({1}, {0}), first_row({1}, {1})}}, "slot 1 has two rows");
  check({.number = 0, .rows = {}, .block_copies = {}, .released_slots = {9}},
        "released slot 9 does not exist");
}

TEST_CASE("a start out of range is refused with the field's name") {
  const auto model = modelfile::open_model(cached_model(kSmolLm2));
  const GroupOptions options{.limits = {.slots = 4, .step_tokens_max = 64, .context_max = 128},
                             .kv_tokens = 256};
  const auto check = [&](NewSequence start, const char* reason) {
    LocalGroup group(*model, options);
    Row row = first_row({5, 6}, {0});
    row.start = std::move(start);
    CHECK_THAT(refusal(group, with(row)), Catch::Matchers::Contains(reason));
  };
  check({.sampling = {.temperature = NAN}}, "sampling.temperature is nan, expected 0 or more");
  check({.sampling = {.temperature = -1}}, "sampling.temperature is -1");
  check({.sampling = {.top_p = 0}}, "sampling.top_p is 0, expected (0, 1]");
  check({.sampling = {.top_k = -1}}, "sampling.top_k is -1");
  check({.sampling = {.min_p = 1.5F}}, "sampling.min_p is 1.5, expected [0, 1]");
  check({.sampling = {.typical_p = 0}}, "sampling.typical_p is 0, expected (0, 1]");
  check({.sampling = {.repetition_penalty = 0}}, "sampling.repetition_penalty is 0");
  check({.sampling = {.frequency_penalty = NAN}}, "sampling.frequency_penalty is nan");
  check({.sampling = {.presence_penalty = INFINITY}}, "sampling.presence_penalty is inf");
  check({.sampling = {.logit_bias = {{.id = 49152, .bias = 1}}}},
        "sampling.logit_bias names token 49152, which does not exist");
  check({.sampling = {.logit_bias = {{.id = 1, .bias = NAN}}}}, "sampling.logit_bias is nan");
  check({.sampling = {.logit_bias = {{.id = 2, .bias = 1}, {.id = 2, .bias = 1}}}},
        "sampling.logit_bias: token 2 is not below 2");
  check({.sampling = {.min_tokens = -1}}, "sampling.min_tokens is -1");
  check({.sampling = {.late_ids = {-1}}}, "sampling.late_ids names token -1");
  check({.sampling = {.late_ids = {4, 3}}}, "sampling.late_ids: token 4 is not below 3");
  check({.sampling = {.top_logprobs = 65}}, "sampling.top_logprobs is 65, expected 0 to 64");
  step::Sampling many;
  for (int32_t id = 0; id < 4097; ++id) many.late_ids.push_back(id);
  check({.sampling = many}, "the length of logit_bias and late_ids is 4097, expected 4096 at most");
  check({.history = std::vector<int32_t>(129, 5)}, "start.history has 129 tokens, the context 128");
  check({.history = {5, 49152}}, "start.history names token 49152");
  check({.history = {5, 6}, .output_begin = 3}, "start.output_begin is 3, expected 0 to 2");
  const step::Sampling penalised{.presence_penalty = 1};
  check({.sampling = penalised}, "start.history does not begin with the row's tokens");
  check({.sampling = penalised, .history = {5, 7}, .output_begin = 2}, "start.history does not");
}

TEST_CASE("a taken seat is refused until it is released") {
  const auto model = modelfile::open_model(cached_model(kSmolLm2));
  LocalGroup group(*model, {.limits = {.slots = 4, .step_tokens_max = 64, .context_max = 128},
                            .kv_tokens = 256});
  CHECK(group.execute(with(first_row({1, 2, 3}, {0}))).rows.size() == 1);
  Step again = with(first_row({1, 2, 3}, {1}));
  again.released_slots = {1};
  CHECK(group.execute(again).rows.size() == 1);
  CHECK_THAT(refusal(group, with(first_row({1}, {2}))), Catch::Matchers::Contains("taken"));
}

TEST_CASE("a copied block continues as its source does") {
  const auto model = modelfile::open_model(cached_model(kSmolLm2));
  LocalGroup group(*model, {.limits = {.slots = 4, .step_tokens_max = 64, .context_max = 128},
                            .kv_tokens = 256});
  const std::vector<int32_t> tokens = {504, 3575, 282, 4649, 314};
  const auto first = group.execute(with(first_row(tokens, {0}))).rows.at(0).sampled;
  Row row = first_row(tokens, {3});
  row.slot = 2;
  group.execute(with(row));
  // Sequence in slot 1 goes on over a copy of its block as it would over the block itself.
  Step step = with({.slot = 1,
                    .start = std::nullopt,
                    .tokens = {},
                    .position = 5,
                    .block_changes = {},
                    .sample = true,
                    .output_index = 1});
  const auto expected = group.execute(step).rows.at(0).sampled;
  step.rows[0].slot = 2;
  step.block_copies = {{.group = 0, .from = 0, .to = 3}};
  const auto copied = group.execute(step).rows.at(0).sampled;
  CHECK(first.token >= 0);
  CHECK(copied.token == expected.token);
  CHECK(copied.logprob == expected.logprob);
}
