// Decides what each step computes. A pure object: no I/O, no clock, no threads; the driver feeds
// it.
//
// Continuous batching, one step ahead: while step k executes, k+1 is planned and sent. A decode row
// of k+1 therefore says "continue" where the token that k samples is not known yet, and a sequence
// that turns out to have ended with k (a stop, a cancel) leaves a dead row in k+1 whose result is
// thrown away. Its slot and blocks are handed out again when the results of all steps that mention
// them are in. An end that is known beforehand (max_tokens, the context) leaves no dead row.
//
// Order in a step: decodes, oldest first; then prefill chunks, oldest first, under a token budget;
// then new seats in order of arrival. Where a block is missing, the youngest sequence is preempted
// (a paused one before all others): it goes back to the queue, ahead of all that came later, and
// computes prompt and output again. The oldest can thus always go on, and nothing can lock up.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "router/engine/blocks.h"
#include "router/engine/engine.h"
#include "router/shards/link.h"

namespace chorus::engine {

struct PlannerLimits {
  int64_t prefill_tokens_max = 512;  // a step's prefill part, in tokens; >= 1
  int64_t batch_size_max = 0;        // sequences seated at once; 0: the shard's slots
};

struct PlannedSequence {
  std::vector<int32_t> prompt;  // not empty, shorter than Planner::context_max()
  shards::Sampling sampling;
  int64_t max_tokens = 1;
  bool prompt_logprobs = false;
};

class Planner {
 public:
  using RequestId = Engine::RequestId;
  struct Token {
    RequestId id = 0;
    shards::SampledToken token;
    bool last = false;  // max_tokens or the context is used up: the sequence is gone
  };
  struct PromptTokens {  // the prompt's next ones, from its second on
    RequestId id = 0;
    std::vector<shards::SampledToken> tokens;
  };
  struct Completed {
    std::vector<PromptTokens> prompts;  // of requests with prompt_logprobs, before their tokens
    std::vector<Token> tokens;          // in the plan's order
    std::optional<std::string> fault;   // the result does not fit the plan: the shards are broken
  };

  Planner(const shards::ShardInfo& info, const PlannerLimits& limits);
  ~Planner();

  // What one sequence can hold: the model's context, less where the pools are smaller than that.
  int64_t context_max() const { return pools_.context_max(); }

  void submit(RequestId id, PlannedSequence request);  // `id` was never used before
  void cancel(RequestId id);                           // also after a stop; unknown ids are ignored
  void pause(RequestId id);   // leaves the plans; keeps its seat until others need it
  void resume(RequestId id);  // comes back

  // The next step, to be sent as it is; nothing while two are in flight or no row can be made.
  std::optional<shards::Step> plan();
  // The result of the oldest step in flight.
  Completed complete(shards::StepResult result);

  int in_flight() const { return static_cast<int>(in_flight_.size()); }
  EngineStats stats() const;

 private:
  struct Sequence;
  struct Retired {  // a seat that comes free when a step's result is in
    uint64_t after_step = 0;
    int slot = 0;
    std::vector<GroupBlock> blocks;
  };
  struct AskingRow {  // of which a result will come
    RequestId id = 0;
    int slot = 0;
    bool sample = false;
    std::vector<int32_t> prompt_ids = {};  // whose logprobs were asked for
  };
  struct SentStep {
    uint64_t number = 0;
    std::vector<AskingRow> asking;
    int64_t prefill_tokens = 0;
    int64_t decode_tokens = 0;
  };

  int64_t grant_decodes();
  int64_t grant_prefills(int64_t budget);
  void seat_queued(int64_t budget);
  int64_t grant(Sequence& sequence, int64_t count);
  bool make_room(Sequence& needy);
  bool evict_paused();
  void evict(Sequence& sequence);
  void take_seat(Sequence& sequence, BlockTables tables);
  void leave_seat(Sequence& sequence);
  void vacate(const Retired& retired);
  Sequence* next_queued();
  std::optional<shards::Step> emit();
  shards::Row make_row(Sequence& sequence, SentStep& sent);
  static std::vector<int32_t> ask_for_prompt(Sequence& sequence, shards::Row& row);
  std::optional<std::string> find_fault(const shards::StepResult& result) const;

  int64_t vocab_size_;
  int64_t step_tokens_max_;
  int64_t prefill_tokens_max_;
  int64_t seats_max_;
  BlockPools pools_;
  std::vector<int> free_slots_;
  std::vector<int> released_slots_;  // vacated, the shard was not told yet

  std::unordered_map<RequestId, std::unique_ptr<Sequence>> sequences_;
  std::vector<Sequence*> seated_;  // by arrival
  std::deque<Sequence*> queue_;    // by arrival
  std::vector<Retired> retired_;   // each waits for a step in flight
  std::deque<SentStep> in_flight_;
  uint64_t arrivals_ = 0;
  uint64_t next_step_ = 1;
  uint64_t completed_step_ = 0;
  EngineStats totals_;
};

}  // namespace chorus::engine
