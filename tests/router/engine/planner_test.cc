// The planner's rules, one by one. Every step also passes the fake shard's checks.
#include "router/engine/planner.h"

#include <catch2/catch.hpp>
#include <map>

#include "tests/router/engine/fake_shard.h"

namespace chorus::engine {
namespace {

// A planner and a shard that answers when it is told to.
struct Rig {
  explicit Rig(const shards::ShardInfo& info = small_shard(), PlannerLimits limits = {})
      : planner(info, limits), shard(info) {}

  void submit(Planner::RequestId id, int prompt_tokens, int64_t max_tokens) {
    PlannedSequence request;
    for (int i = 0; i < prompt_tokens; ++i) {
      request.prompt.push_back(static_cast<int32_t>(id) * 50 + i);
    }
    request.sampling.seed = id;
    request.max_tokens = max_tokens;
    planner.submit(id, std::move(request));
  }
  // Plans a step and sends it; no rows where nothing could be planned.
  shards::Step send() {
    std::optional<shards::Step> step = planner.plan();
    if (step) shard.receive(*step);
    return step.value_or(shards::Step{});
  }
  // The oldest step's result comes in.
  Planner::Completed answer() {
    shards::StepResult result = shard.execute();
    Planner::Completed completed = planner.complete(result);
    shard.delivered(result.number);
    REQUIRE_FALSE(completed.fault);
    for (const Planner::Token& token : completed.tokens) output[token.id].push_back(token.token.id);
    return completed;
  }
  // One step ahead, until nothing moves any more.
  void run() {
    while (planner.in_flight() > 0 || !send().rows.empty()) {
      send();
      answer();
    }
  }

  Planner planner;
  FakeShard shard;
  std::map<Planner::RequestId, std::vector<int32_t>> output;
};

std::vector<int64_t> row_tokens(const shards::Step& step) {
  std::vector<int64_t> counts;
  for (const shards::Row& row : step.rows) counts.push_back(row.token_count());
  return counts;
}

shards::ShardInfo shard_with_blocks(int64_t blocks) {
  shards::ShardInfo info = small_shard();
  info.kv_groups[0].blocks = blocks;
  return info;
}

}  // namespace

TEST_CASE("a prompt is one sampling row, then the sequence continues one step ahead") {
  Rig rig;
  rig.submit(1, 5, 10);
  shards::Step first = rig.send();
  REQUIRE(first.rows.size() == 1);
  CHECK(first.number == 1);
  REQUIRE(first.rows[0].start);
  CHECK(first.rows[0].start->sequence == 1);
  CHECK(first.rows[0].tokens == std::vector<int32_t>{50, 51, 52, 53, 54});
  CHECK(first.rows[0].sample);
  CHECK(first.rows[0].output_index == 0);

  shards::Step second = rig.send();
  REQUIRE(second.rows.size() == 1);
  CHECK(second.rows[0].continues());
  CHECK(second.rows[0].position == 5);
  CHECK(second.rows[0].output_index == 1);
  CHECK(rig.send().rows.empty());  // two are in flight

  rig.answer();
  CHECK(rig.send().rows.at(0).continues());
}

TEST_CASE("a decode row whose token is known already carries it") {
  Rig rig;
  rig.submit(1, 5, 10);
  rig.send();
  rig.answer();
  shards::Step second = rig.send();
  REQUIRE(second.rows.size() == 1);
  CHECK(second.rows[0].tokens == rig.output[1]);
}

TEST_CASE("max_tokens ends a sequence without a dead row") {
  Rig rig;
  rig.submit(1, 5, 2);
  rig.send();
  rig.send();
  CHECK_FALSE(rig.answer().tokens.at(0).last);
  CHECK(rig.send().rows.empty());
  CHECK(rig.answer().tokens.at(0).last);
  CHECK(rig.planner.stats().kv_blocks_used == 0);
  CHECK(rig.planner.stats().running == 0);
}

TEST_CASE("a request for one token is one step") {
  Rig rig;
  rig.submit(1, 5, 1);
  rig.send();
  CHECK(rig.send().rows.empty());
  CHECK(rig.answer().tokens.at(0).last);
}

TEST_CASE("the context ends a sequence like max_tokens") {
  Rig rig;
  rig.submit(1, 126, 100);
  rig.run();
  CHECK(rig.output[1].size() == 2);
  CHECK(rig.planner.stats().running == 0);
}

TEST_CASE("after a stop the dead row's slot and blocks wait for its result") {
  shards::ShardInfo info = small_shard();
  info.slots = 1;
  Rig rig(info);
  rig.submit(1, 5, 10);
  rig.submit(2, 5, 10);
  rig.send();
  rig.send();  // step 2 continues sequence 1: it will be dead
  rig.answer();
  rig.planner.cancel(1);
  CHECK(rig.planner.stats().kv_blocks_used > 0);
  CHECK(rig.send().rows.empty());
  CHECK(rig.answer().tokens.empty());  // step 2: discarded
  CHECK(rig.planner.stats().kv_blocks_used == 0);
  shards::Step third = rig.send();
  CHECK(third.released_slots == std::vector<int>{0});
  REQUIRE(third.rows.size() == 1);
  CHECK(third.rows[0].start->sequence == 2);
}

TEST_CASE("a slot that ends without a dead row is used again by the step after next") {
  shards::ShardInfo info = small_shard();
  info.slots = 2;
  Rig rig(info);
  rig.submit(1, 5, 1);
  rig.submit(2, 5, 10);
  rig.submit(3, 5, 10);
  CHECK(rig.send().rows.size() == 2);
  CHECK(rig.send().rows.size() == 1);  // sequence 2; the slots are taken
  rig.answer();
  shards::Step third = rig.send();
  CHECK(third.released_slots.size() == 1);
  REQUIRE(third.rows.size() == 2);
  CHECK(third.rows[1].start->sequence == 3);
}

TEST_CASE("decodes come first, prefill gets what the budget and the step leave") {
  shards::ShardInfo info = small_shard();
  info.step_tokens_max = 10;
  Rig rig(info, {.prefill_tokens_max = 9, .batch_size_max = 0});
  rig.submit(1, 4, 20);
  rig.submit(2, 4, 20);
  CHECK(row_tokens(rig.send()) == std::vector<int64_t>{4, 4});
  rig.submit(3, 20, 20);
  CHECK(row_tokens(rig.send()) == std::vector<int64_t>{1, 1, 8});
  rig.answer();
  CHECK(row_tokens(rig.send()) == std::vector<int64_t>{1, 1, 8});
  rig.answer();
  shards::Step fourth = rig.send();
  CHECK(row_tokens(fourth) == std::vector<int64_t>{1, 1, 4});
  CHECK(fourth.rows[0].continues());
}

TEST_CASE("only the last chunk of a prompt samples") {
  Rig rig(small_shard(), {.prefill_tokens_max = 8, .batch_size_max = 0});
  rig.submit(1, 20, 5);
  std::vector<bool> samples;
  std::vector<int64_t> positions;
  for (int i = 0; i < 3; ++i) {
    shards::Step step = rig.send();
    samples.push_back(step.rows.at(0).sample);
    positions.push_back(step.rows.at(0).position);
    CHECK(step.rows.at(0).start.has_value() == (i == 0));
    rig.answer();
  }
  CHECK(samples == std::vector<bool>{false, false, true});
  CHECK(positions == std::vector<int64_t>{0, 8, 16});
}

TEST_CASE("waiting prompts share the budget in order of arrival") {
  Rig rig(small_shard(), {.prefill_tokens_max = 12, .batch_size_max = 0});
  rig.submit(1, 10, 1);
  rig.submit(2, 10, 1);
  rig.submit(3, 10, 1);
  shards::Step first = rig.send();
  CHECK(row_tokens(first) == std::vector<int64_t>{10, 2});
  shards::Step second = rig.send();
  CHECK(row_tokens(second) == std::vector<int64_t>{8, 4});
  CHECK_FALSE(second.rows[0].start);
  CHECK(second.rows[1].start->sequence == 3);
}

TEST_CASE("a request that lacks blocks is not overtaken by a smaller one") {
  Rig rig(shard_with_blocks(6), {.prefill_tokens_max = 32, .batch_size_max = 0});
  rig.submit(1, 10, 1);  // 11 positions: 3 blocks
  rig.submit(2, 15, 1);  // 4 blocks: one is missing
  rig.submit(3, 3, 1);   // would fit
  CHECK(rig.send().rows.size() == 1);
  CHECK(rig.send().rows.empty());
  rig.answer();
  shards::Step second = rig.send();
  REQUIRE(second.rows.size() == 2);
  CHECK(second.rows[0].start->sequence == 2);
  CHECK(second.rows[1].start->sequence == 3);
}

TEST_CASE("batch_size_max bounds the sequences of a step") {
  Rig rig(small_shard(), {.prefill_tokens_max = 32, .batch_size_max = 2});
  for (int id = 1; id <= 3; ++id) rig.submit(id, 2, 5);
  CHECK(rig.send().rows.size() == 2);
  CHECK(rig.send().rows.size() == 2);
  CHECK(rig.planner.stats().queued == 1);
}

TEST_CASE("without a free block the youngest is preempted and later asks for the same draws") {
  Rig rig(shard_with_blocks(5));
  rig.submit(1, 7, 12);  // grows to 19 positions: 5 blocks
  rig.submit(2, 7, 8);
  rig.run();
  CHECK(rig.output[1].size() == 12);
  CHECK(rig.output[2].size() == 8);
  FakeModel model(shard_with_blocks(5));
  for (int id : {1, 2}) {
    std::vector<int32_t> prompt;
    for (int i = 0; i < 7; ++i) prompt.push_back(id * 50 + i);
    shards::Sampling sampling{.seed = static_cast<uint64_t>(id)};
    CHECK(rig.output[id] == model.alone(prompt, sampling, static_cast<int>(rig.output[id].size())));
  }
}

TEST_CASE("a preempted sequence comes back as prompt and output, ahead of later requests") {
  Rig rig(shard_with_blocks(4));
  rig.submit(1, 7, 5);
  rig.submit(2, 7, 5);
  rig.submit(3, 1, 1);
  rig.send();  // both prompts: 2 blocks each, none is left for the third
  rig.answer();
  rig.send();  // position 7 of both
  rig.answer();
  shards::Step third = rig.send();  // position 8 of the first needs the second's blocks
  REQUIRE(third.rows.size() == 1);
  CHECK(third.rows[0].slot == 0);
  CHECK(third.released_slots == std::vector<int>{1});
  CHECK(rig.planner.stats().queued == 2);
  std::optional<shards::Row> again;
  while (!again) {
    rig.answer();
    for (const shards::Row& row : rig.send().rows) {
      if (row.start) again = row;
      if (again) break;
    }
  }
  CHECK(again->start->sequence == 2);
  CHECK(again->tokens.size() == 9);
  CHECK(again->output_index == 2);
}

TEST_CASE("alone in a pool smaller than the context a sequence ends where the pool does") {
  Rig rig(shard_with_blocks(3));
  CHECK(rig.planner.context_max() == 12);
  rig.submit(1, 7, 100);
  rig.run();
  CHECK(rig.output[1].size() == 5);
  CHECK(rig.planner.stats().running == 0);
}

TEST_CASE("a paused sequence leaves the plans, keeps its blocks and comes back") {
  Rig rig;
  rig.submit(1, 5, 10);
  rig.send();
  rig.answer();
  rig.planner.pause(1);
  CHECK(rig.send().rows.empty());
  CHECK(rig.planner.stats().running == 1);
  CHECK(rig.planner.stats().kv_blocks_used == 2);
  rig.planner.resume(1);
  shards::Step step = rig.send();
  REQUIRE(step.rows.size() == 1);
  CHECK_FALSE(step.rows[0].start);
  CHECK(step.rows[0].tokens == rig.output[1]);
}

TEST_CASE("a paused sequence gives its seat to one that waits") {
  shards::ShardInfo info = small_shard();
  info.slots = 1;
  Rig rig(info);
  rig.submit(1, 5, 10);
  rig.send();
  rig.answer();
  rig.planner.pause(1);
  rig.submit(2, 5, 1);
  shards::Step second = rig.send();
  REQUIRE(second.rows.size() == 1);
  CHECK(second.rows[0].start->sequence == 2);
  CHECK(second.released_slots == std::vector<int>{0});
  rig.planner.resume(1);
  rig.run();
  CHECK(rig.output[1].size() == 10);
}

TEST_CASE("where blocks are short a paused sequence goes before a younger one that runs") {
  Rig rig(shard_with_blocks(4));
  rig.submit(1, 7, 9);
  rig.submit(2, 7, 9);
  rig.send();
  rig.answer();
  rig.planner.pause(1);
  rig.send();  // position 7 of the second
  rig.answer();
  shards::Step third = rig.send();  // position 8 needs a block
  REQUIRE(third.rows.size() == 1);
  CHECK(third.rows[0].slot == 1);
  CHECK(third.released_slots == std::vector<int>{0});
  rig.planner.resume(1);
  rig.run();
  CHECK(rig.output[1].size() == 9);
  CHECK(rig.output[2].size() == 9);
}

TEST_CASE("a cancelled request leaves the queue without a trace") {
  Rig rig;
  rig.submit(1, 5, 10);
  rig.planner.cancel(1);
  rig.planner.cancel(1);
  rig.planner.cancel(77);
  CHECK(rig.send().rows.empty());
  CHECK(rig.planner.stats().queued == 0);
}

TEST_CASE("the slot of a cancelled prefill is released when its chunk's result is in") {
  Rig rig(small_shard(), {.prefill_tokens_max = 4, .batch_size_max = 0});
  rig.submit(1, 8, 1);
  rig.send();
  rig.planner.cancel(1);
  rig.submit(2, 8, 1);
  CHECK(rig.send().released_slots.empty());  // step 1 still mentions it
  rig.answer();
  CHECK(rig.send().released_slots == std::vector<int>{0});
}

TEST_CASE("a sliding group gives back what its window left, after the steps that used it") {
  shards::ShardInfo info = small_shard();
  info.kv_groups = {
      {.kind = shards::KvKind::sliding, .window = 5, .block_bytes = 64, .blocks = 16}};
  Rig rig(info, {.prefill_tokens_max = 8, .batch_size_max = 0});
  rig.submit(1, 40, 60);
  int64_t most = 0;
  while (rig.planner.in_flight() > 0 || !rig.send().rows.empty()) {
    rig.send();
    most = std::max(most, rig.planner.stats().kv_blocks_used);
    rig.answer();
  }
  CHECK(rig.output[1].size() == 60);
  CHECK(most <= 10);
  CHECK(rig.planner.stats().kv_blocks_used == 0);
}

TEST_CASE("a result that does not fit the plan is a fault") {
  Rig rig;
  CHECK(rig.planner.complete({.number = 1, .rows = {}}).fault);
  rig.submit(1, 5, 10);
  rig.send();
  shards::StepResult good = rig.shard.execute();
  auto spoilt = [&](auto spoil) {
    shards::StepResult result = good;
    spoil(result);
    return rig.planner.complete(result).fault.has_value();
  };
  CHECK(spoilt([](shards::StepResult& r) { r.number = 2; }));
  CHECK(spoilt([](shards::StepResult& r) { r.rows.clear(); }));
  CHECK(spoilt([](shards::StepResult& r) { r.rows[0].slot = 3; }));
  CHECK(spoilt([](shards::StepResult& r) { r.rows[0].tokens.clear(); }));
  CHECK(spoilt([](shards::StepResult& r) { r.rows[0].tokens[0].id = 1000; }));
  CHECK(spoilt([](shards::StepResult& r) { r.rows[0].tokens[0].id = -1; }));
  CHECK_FALSE(spoilt([](shards::StepResult&) {}));
}

TEST_CASE("the statistics count steps, prefill and decode tokens") {
  Rig rig;
  rig.submit(1, 5, 4);
  rig.run();
  EngineStats stats = rig.planner.stats();
  CHECK(stats.steps == 4);
  CHECK(stats.prefill_tokens == 5);
  CHECK(stats.decode_tokens == 3);
  CHECK(stats.step_us_sum == 40);
  CHECK(stats.kv_blocks == 128);
}

}  // namespace chorus::engine
