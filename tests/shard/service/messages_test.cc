// Plans and results through both ends of the contract and gRPC between them: the router's link on
// one side of a socket, the shard's service on the other, with a stand-in for the model that keeps
// what it was asked and answers what it is told.
#include "shard/service/messages.h"

#include <sys/socket.h>

#include <catch2/catch.hpp>
#include <future>
#include <thread>

#include "router/shards/grpc_link.h"
#include "shard/service/shard.h"

using namespace chorus;

namespace {

class Stand final : public step::Execution {
 public:
  std::vector<int64_t> allocate_kv(int64_t) override { return {64}; }
  tl::expected<step::StepResult, std::string> execute(const step::Step& step) override {
    asked = step;
    return answer;
  }
  step::Step asked;
  step::StepResult answer;
};

// Sends one step over a socket; what the shard saw is left in `stand`.
shards::StepResult exchange(Stand& stand, const shards::Step& step) {
  int sockets[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) == 0);
  service::LoadState load;
  load.loaded = true;
  auto shard = service::Shard::start(sockets[0], load);
  const auto communicator = comm::make_single();
  v1::InfoResponse info;
  info.add_kv_groups()->set_kind(v1::KV_KIND_FULL);
  std::thread serving([&] { shard->serve(stand, *communicator, info); });
  shards::StepResult result;
  {
    auto client = shards::Client::connect(sockets[1]);
    client->wait_until_ready([](shards::LoadProgress) {}, [] { return false; });
    std::promise<shards::StepResult> done;
    auto link = client->open_link();
    link->start({.on_result = [&](shards::StepResult got) { done.set_value(std::move(got)); },
                 .on_lost = [](const std::string&) {}});
    link->send(step);
    result = done.get_future().get();
  }
  shard->stop();
  serving.join();
  return result;
}

shards::Row full_row() {
  shards::Sampling sampling{.temperature = 0.5F,
                            .top_p = 0.25F,
                            .top_k = 7,
                            .min_p = 0.125F,
                            .typical_p = 0.75F,
                            .repetition_penalty = 1.5F,
                            .frequency_penalty = -0.5F,
                            .presence_penalty = 2,
                            .logit_bias = {{.id = 3, .bias = -1}, {.id = 900, .bias = 4}},
                            .min_tokens = 6,
                            .late_ids = {2, 11},
                            .seed = ~uint64_t{0},
                            .choice = 3,
                            .top_logprobs = 20};
  return {.slot = 5,
          .start = shards::NewSequence{.sequence = 77,
                                       .sampling = std::move(sampling),
                                       .history = {10, 11, 12, 13},
                                       .output_begin = 3},
          .tokens = {10, 11, 12},
          .position = 40,
          .block_changes = {{.group = 1, .added = {8, 9}, .first_live = 2}},
          .sample = true,
          .output_index = 4,
          .logprob_positions = {0, 2},
          .next_chunk_token = 13};
}

}  // namespace

TEST_CASE("all that a plan says comes out at the shard") {
  Stand stand;
  stand.answer.number = 1;
  exchange(stand, {.number = 1, .rows = {full_row()}, .released_slots = {6, 7}});
  CHECK(stand.asked.number == 1);
  CHECK(stand.asked.released_slots == std::vector<int>{6, 7});
  REQUIRE(stand.asked.rows.size() == 1);
  const step::Row& row = stand.asked.rows[0];
  CHECK(row.slot == 5);
  CHECK(row.tokens == std::vector<int32_t>{10, 11, 12});
  CHECK(row.position == 40);
  REQUIRE(row.block_changes.size() == 1);
  CHECK(row.block_changes[0].group == 1);
  CHECK(row.block_changes[0].added == std::vector<int32_t>{8, 9});
  CHECK(row.block_changes[0].first_live == 2);
  CHECK(row.sample);
  CHECK(row.output_index == 4);
  CHECK(row.logprob_positions == std::vector<int32_t>{0, 2});
  CHECK(row.next_chunk_token == 13);
  REQUIRE(row.start);
  CHECK(row.start->sequence == 77);
  CHECK(row.start->history == std::vector<int32_t>{10, 11, 12, 13});
  CHECK(row.start->output_begin == 3);
  const step::Sampling& sampling = row.start->sampling;
  CHECK(sampling.temperature == 0.5F);
  CHECK(sampling.top_p == 0.25F);
  CHECK(sampling.top_k == 7);
  CHECK(sampling.min_p == 0.125F);
  CHECK(sampling.typical_p == 0.75F);
  CHECK(sampling.repetition_penalty == 1.5F);
  CHECK(sampling.frequency_penalty == -0.5F);
  CHECK(sampling.presence_penalty == 2);
  REQUIRE(sampling.logit_bias.size() == 2);
  CHECK((sampling.logit_bias[0].id == 3 && sampling.logit_bias[0].bias == -1));
  CHECK((sampling.logit_bias[1].id == 900 && sampling.logit_bias[1].bias == 4));
  CHECK(sampling.min_tokens == 6);
  CHECK(sampling.late_ids == std::vector<int32_t>{2, 11});
  CHECK(sampling.seed == ~uint64_t{0});
  CHECK(sampling.choice == 3);
  CHECK(sampling.top_logprobs == 20);
}

TEST_CASE("sampled tokens and a prompt's logprobs come back, more than gRPC's four megabytes too") {
  kernels::Sampled token;
  token.token = 9;
  token.logprob = -0.5F;
  token.top_count = kernels::kTopLogprobsMax;
  for (int i = 0; i < token.top_count; ++i) {
    token.top_ids[i] = 100000 + i;
    token.top_logprobs[i] = -0.25F * static_cast<float>(i + 1);
  }
  Stand stand;
  constexpr size_t kPrompt = 8192;
  stand.answer = {.number = 1,
                  .rows = {{.slot = 5, .sampled = token},
                           {.slot = 6, .prompt = std::vector<kernels::Sampled>(kPrompt, token)}},
                  .execution_us = 12};
  const shards::StepResult result =
      exchange(stand, {.number = 1, .rows = {full_row()}, .released_slots = {}});
  CHECK(result.number == 1);
  CHECK(result.execution_us == 12);
  REQUIRE(result.rows.size() == 2);
  CHECK(result.rows[0].slot == 5);
  REQUIRE(result.rows[0].tokens.size() == 1);
  CHECK(result.rows[0].prompt.empty());
  CHECK(result.rows[1].tokens.empty());
  REQUIRE(result.rows[1].prompt.size() == kPrompt);
  for (const shards::SampledToken& got : {result.rows[0].tokens[0], result.rows[1].prompt.back()}) {
    CHECK(got.id == 9);
    CHECK(got.logprob == -0.5F);
    REQUIRE(got.top.size() == static_cast<size_t>(kernels::kTopLogprobsMax));
    CHECK(got.top[63].id == 100063);
    CHECK(got.top[63].logprob == -16);
  }
}
