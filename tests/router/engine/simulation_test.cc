// The planner against the fake shard under seeded random workloads: arrivals, cancels, stops and
// pauses at any moment, results that come late, pools so small that preemption is the rule. The
// fake shard checks every step; here: nobody is lost, everybody ends once, with the tokens that
// the sequence gets when it is computed alone.
#include <catch2/catch.hpp>
#include <cstdlib>
#include <map>
#include <random>

#include "router/engine/planner.h"
#include "tests/router/engine/fake_shard.h"

namespace chorus::engine {
namespace {

struct Workload {
  shards::ShardInfo info = small_shard();
  PlannerLimits limits{.prefill_tokens_max = 16, .batch_size_max = 0};
  int requests = 60;
  int prompt_max = 40;
  int output_max = 40;
  bool disturbed = true;  // cancels, stops, pauses
};

class Simulation {
 public:
  Simulation(const Workload& workload, uint64_t seed)
      : work_(workload),
        random_(seed),
        planner_(workload.info, workload.limits),
        shard_(workload.info),
        model_(workload.info) {}

  void run() {
    while (submitted_ < work_.requests || alive_ > 0) {
      act();
      REQUIRE(++actions_ < 200000);
    }
    settle();
    EngineStats stats = planner_.stats();
    REQUIRE(stats.queued == 0);
    REQUIRE(stats.running == 0);
    REQUIRE(stats.kv_blocks_used == 0);
    for (const auto& [id, client] : clients_) check(client);
  }

  int64_t preempted() const { return preempted_; }
  uint64_t steps() const { return shard_.received(); }

 private:
  struct Client {
    PlannedSequence request;
    std::vector<int32_t> output;
    std::vector<shards::SampledToken> prompt;  // as it was rated
    bool ended = false;
    bool cancelled = false;
    bool paused = false;
    int stop_at = -1;  // the listener says stop at this output
  };

  int pick(int below) { return std::uniform_int_distribution<int>(0, below - 1)(random_); }

  void act() {
    int choice = pick(20);
    if (choice < 3 && submitted_ < work_.requests) {
      submit();
    } else if (choice == 3 && work_.disturbed && pick(4) == 0) {
      cancel_any();
    } else if (choice == 4 && work_.disturbed) {
      resume_any();
    } else if (choice < 10) {
      plan();
    } else if (choice < 15) {
      if (shard_.has_work()) results_.push_back(shard_.execute());
    } else {
      deliver();
    }
    if (planner_.in_flight() == 0) check_progress();
  }

  void submit() {
    Client client;
    int prompt = 1 + pick(work_.prompt_max);
    prompt = std::min<int>(prompt, static_cast<int>(planner_.context_max()) - 1);
    for (int i = 0; i < prompt; ++i) client.request.prompt.push_back(pick(1000));
    client.request.sampling = sampling();
    client.request.max_tokens = 1 + pick(work_.output_max);
    client.request.prompt_logprobs = pick(3) == 0;
    if (work_.disturbed && pick(3) == 0) client.stop_at = pick(work_.output_max);
    Planner::RequestId id = ++submitted_;
    planner_.submit(id, client.request);
    clients_[id] = std::move(client);
    ++alive_;
  }

  shards::Sampling sampling() {
    shards::Sampling sampling{.seed = random_()};
    if (pick(3) == 0) sampling.repetition_penalty = 1.1F;
    if (pick(4) == 0) sampling.presence_penalty = 0.5F;
    if (pick(3) == 0) {
      sampling.min_tokens = pick(20);
      for (int id = 0; id < 500; ++id) sampling.late_ids.push_back(2 * id);
    }
    return sampling;
  }

  Client* any(Planner::RequestId& id) {
    if (clients_.empty()) return nullptr;
    id = 1 + pick(submitted_);
    return clients_[id].ended ? nullptr : &clients_[id];
  }

  void cancel_any() {
    Planner::RequestId id = 0;
    Client* client = any(id);
    if (client == nullptr) return;
    planner_.cancel(id);
    client->cancelled = true;
    end(*client);
  }

  void resume_any() {
    for (auto& [id, client] : clients_) {
      if (!client.paused || pick(3) == 0) continue;
      client.paused = false;
      planner_.resume(id);
    }
  }

  bool plan() {
    std::optional<shards::Step> step = planner_.plan();
    if (!step) return false;
    for (const shards::Row& row : step->rows) {
      bool again = row.start && !clients_[row.start->sequence].output.empty();
      if (again) ++preempted_;
    }
    shard_.receive(*step);
    // The planner may hold more blocks than the shard was told of, never fewer.
    REQUIRE(planner_.stats().kv_blocks_used >= shard_.blocks_owned());
    return true;
  }

  void deliver() {
    if (results_.empty()) return;
    shards::StepResult result = std::move(results_.front());
    results_.pop_front();
    Planner::Completed completed = planner_.complete(result);
    shard_.delivered(result.number);
    REQUIRE_FALSE(completed.fault);
    for (const Planner::PromptTokens& prompt : completed.prompts) {
      Client& client = clients_.at(prompt.id);
      REQUIRE_FALSE(client.ended);
      REQUIRE(client.output.empty());
      client.prompt.insert(client.prompt.end(), prompt.tokens.begin(), prompt.tokens.end());
    }
    for (const Planner::Token& token : completed.tokens) accept(token);
  }

  void accept(const Planner::Token& token) {
    Client& client = clients_.at(token.id);
    REQUIRE_FALSE(client.ended);
    const auto& asked = client.request;
    REQUIRE(client.prompt.size() == (asked.prompt_logprobs ? asked.prompt.size() - 1 : 0));
    client.output.push_back(token.token.id);
    if (token.last) {
      end(client);
    } else if (static_cast<int>(client.output.size()) == client.stop_at + 1) {
      planner_.cancel(token.id);
      end(client);
    } else if (work_.disturbed && pick(8) == 0) {
      planner_.pause(token.id);
      client.paused = true;
    }
  }

  void end(Client& client) {
    REQUIRE_FALSE(client.ended);
    client.ended = true;
    client.paused = false;
    --alive_;
  }

  // With nothing in flight, whoever wants to go on gets a row: no deadlock, no lost sequence.
  void check_progress() {
    bool wanting = std::any_of(clients_.begin(), clients_.end(), [](const auto& entry) {
      return !entry.second.ended && !entry.second.paused;
    });
    REQUIRE(plan() == wanting);
  }

  void settle() {
    while (shard_.has_work()) results_.push_back(shard_.execute());
    while (!results_.empty()) deliver();
    REQUIRE(planner_.in_flight() == 0);
    REQUIRE_FALSE(planner_.plan());
  }

  void check(const Client& client) {
    REQUIRE(client.ended);
    int64_t prompt = static_cast<int64_t>(client.request.prompt.size());
    int64_t most = std::min(client.request.max_tokens, planner_.context_max() - prompt);
    int64_t count = static_cast<int64_t>(client.output.size());
    if (client.stop_at >= 0) most = std::min<int64_t>(most, client.stop_at + 1);
    REQUIRE(count <= most);
    if (!client.cancelled) REQUIRE(count == most);
    const auto rates = model_.rate_alone(client.request.prompt, client.request.sampling);
    for (size_t i = 0; i < client.prompt.size(); ++i) {
      REQUIRE(client.prompt[i].id == client.request.prompt[i + 1]);
      REQUIRE(client.prompt[i].logprob == rates[i]);
    }
    REQUIRE(client.output ==
            model_.alone(client.request.prompt, client.request.sampling, static_cast<int>(count)));
  }

  Workload work_;
  std::mt19937_64 random_;
  Planner planner_;
  FakeShard shard_;
  FakeModel model_;
  std::map<Planner::RequestId, Client> clients_;
  std::deque<shards::StepResult> results_;  // executed, on their way to the router
  int submitted_ = 0;
  int alive_ = 0;
  int actions_ = 0;
  int64_t preempted_ = 0;
};

struct Sum {
  int64_t preempted = 0;
  uint64_t steps = 0;
};

// CHORUS_SEED repeats a failure; CHORUS_SEEDS runs more of them.
Sum simulate(const Workload& workload) {
  const char* only = std::getenv("CHORUS_SEED");
  const char* more = std::getenv("CHORUS_SEEDS");
  uint64_t first = only != nullptr ? std::strtoull(only, nullptr, 10) : 1;
  uint64_t count = only != nullptr ? 1 : more != nullptr ? std::strtoull(more, nullptr, 10) : 60;
  Sum sum;
  for (uint64_t seed = first; seed < first + count; ++seed) {
    INFO("CHORUS_SEED=" << seed);
    Simulation simulation(workload, seed);
    simulation.run();
    sum.preempted += simulation.preempted();
    sum.steps += simulation.steps();
  }
  return sum;
}

}  // namespace

TEST_CASE("random requests with room for all get the tokens that they get alone") {
  Workload workload;
  workload.info.slots = workload.requests;
  workload.info.step_tokens_max = 100;
  workload.info.kv_groups[0].blocks = 60 * 32;
  Sum sum = simulate(workload);
  CHECK(sum.preempted == 0);
  CHECK(sum.steps > 0);
}

TEST_CASE("random requests with few slots: paused ones give theirs to those who wait") {
  Sum sum = simulate({});
  CHECK((sum.preempted > 0 || std::getenv("CHORUS_SEED") != nullptr));
}

TEST_CASE("random requests in a pool that holds little more than one are preempted and unharmed") {
  Workload workload;
  workload.info.kv_groups[0].blocks = 34;
  Sum sum = simulate(workload);
  CHECK((sum.preempted > 0 || std::getenv("CHORUS_SEED") != nullptr));
}

TEST_CASE("random requests in a pool smaller than the context end at what it holds") {
  Workload workload;
  workload.info.kv_groups[0].blocks = 12;
  Sum sum = simulate(workload);
  CHECK((sum.preempted > 0 || std::getenv("CHORUS_SEED") != nullptr));
}

TEST_CASE("random requests with a sliding group beside a full one") {
  Workload workload;
  workload.info.kv_groups.push_back(
      {.kind = shards::KvKind::sliding, .window = 10, .block_bytes = 64, .blocks = 40});
  simulate(workload);
}

TEST_CASE("random requests with a sliding group that barely holds one window") {
  Workload workload;
  workload.info.kv_groups.push_back(
      {.kind = shards::KvKind::sliding, .window = 9, .block_bytes = 64, .blocks = 3});
  simulate(workload);
}

TEST_CASE("random requests with tiny full and sliding groups") {
  Workload workload;
  workload.info.kv_groups = {
      {.kind = shards::KvKind::sliding, .window = 7, .block_bytes = 64, .blocks = 9},
      {.kind = shards::KvKind::full, .window = 0, .block_bytes = 64, .blocks = 16}};
  Sum sum = simulate(workload);
  CHECK((sum.preempted > 0 || std::getenv("CHORUS_SEED") != nullptr));
}

TEST_CASE("random requests with one slot, one token of budget and blocks of one token") {
  Workload workload;
  workload.info.slots = 1;
  workload.info.block_tokens = 1;
  workload.limits.prefill_tokens_max = 1;
  workload.requests = 20;
  simulate(workload);
}

TEST_CASE("random requests with more slots than a step has tokens") {
  Workload workload;
  workload.info.slots = 12;
  workload.info.step_tokens_max = 5;
  workload.limits.prefill_tokens_max = 64;
  simulate(workload);
}

TEST_CASE("random requests with a batch smaller than the slots, undisturbed") {
  Workload workload;
  workload.info.slots = 8;
  workload.limits.batch_size_max = 3;
  workload.disturbed = false;
  simulate(workload);
}

}  // namespace chorus::engine
