// The planning rules; planner.h tells them. A plan is made in two passes: first tokens are granted
// to sequences and blocks found for them (a sequence that was granted some may still be preempted
// by an older one), then the rows are written.
// Why nothing locks up: whoever lacks a block waits only while a step in flight is going to free
// some, else somebody younger is preempted; the oldest, alone in the end, fits, since no sequence
// is let in that the pools cannot hold.
#include "router/engine/planner.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <utility>

namespace chorus::engine {

using shards::Row;
using shards::Step;

struct Planner::Sequence {
  RequestId id = 0;
  uint64_t arrival = 0;
  std::vector<int32_t> tokens;  // the prompt and what is known of the output
  int64_t prompt_tokens = 0;
  int64_t outputs_max = 0;
  shards::Sampling sampling;
  bool paused = false;
  uint64_t last_step = 0;     // the last step sent that has a row of it
  int samples_in_flight = 0;  // results that are still to come
  // Prompt tokens whose logprobs are wanted and were not asked for yet: [prompt_asked,
  // prompt_tokens).
  int64_t prompt_asked = 0;

  struct Seat {
    int slot = -1;
    BlockTables tables;
    int64_t computed = 0;       // positions written by the steps sent
    int64_t prefill_until = 0;  // tokens known when it took the seat
    int64_t granted = 0;        // tokens in the step that is being planned
  };
  Seat seat;

  bool seated() const { return seat.slot >= 0; }
  bool decoding() const { return seat.computed >= seat.prefill_until; }
  int64_t outputs_asked() const {
    return static_cast<int64_t>(tokens.size()) - prompt_tokens + samples_in_flight;
  }
  bool runnable() const { return seated() && !paused && outputs_asked() < outputs_max; }
};

namespace {

int64_t seats(const shards::ShardInfo& info, const PlannerLimits& limits) {
  // Each seat is good for a token a step, so that prefill always finds room beside the decodes.
  int64_t most = std::min(info.slots, info.step_tokens_max);
  return limits.batch_size_max > 0 ? std::min(most, limits.batch_size_max) : most;
}

template <class Sequences, class Sequence>
void insert_by_arrival(Sequences& sequences, Sequence* sequence) {
  auto later = [](const Sequence* a, const Sequence* b) { return a->arrival < b->arrival; };
  sequences.insert(std::upper_bound(sequences.begin(), sequences.end(), sequence, later), sequence);
}

}  // namespace

Planner::Planner(const shards::ShardInfo& info, const PlannerLimits& limits)
    : vocab_size_(info.vocab_size),
      step_tokens_max_(info.step_tokens_max),
      prefill_tokens_max_(std::min<int64_t>(limits.prefill_tokens_max, info.step_tokens_max)),
      seats_max_(seats(info, limits)),
      pools_(info, prefill_tokens_max_) {
  assert(seats_max_ >= 1 && prefill_tokens_max_ >= 1);
  for (int slot = info.slots - 1; slot >= 0; --slot) free_slots_.push_back(slot);
}

Planner::~Planner() = default;

void Planner::submit(RequestId id, PlannedSequence request) {
  auto sequence = std::make_unique<Sequence>();
  int64_t prompt_tokens = static_cast<int64_t>(request.prompt.size());
  assert(prompt_tokens >= 1 && prompt_tokens < context_max() && request.max_tokens >= 1);
  sequence->id = id;
  sequence->arrival = ++arrivals_;
  sequence->tokens = std::move(request.prompt);
  sequence->prompt_tokens = prompt_tokens;
  sequence->prompt_asked = request.prompt_logprobs ? 1 : prompt_tokens;  // the first has none
  sequence->outputs_max = std::min(request.max_tokens, context_max() - prompt_tokens);
  sequence->sampling = std::move(request.sampling);
  queue_.push_back(sequence.get());
  bool unused = sequences_.emplace(id, std::move(sequence)).second;
  assert(unused);
}

void Planner::cancel(RequestId id) {
  auto found = sequences_.find(id);
  if (found == sequences_.end()) return;
  Sequence& sequence = *found->second;
  if (sequence.seated()) {
    leave_seat(sequence);
  } else {
    queue_.erase(std::find(queue_.begin(), queue_.end(), &sequence));
  }
  sequences_.erase(found);
}

void Planner::pause(RequestId id) {
  if (auto found = sequences_.find(id); found != sequences_.end()) found->second->paused = true;
}

void Planner::resume(RequestId id) {
  if (auto found = sequences_.find(id); found != sequences_.end()) found->second->paused = false;
}

std::optional<Step> Planner::plan() {
  if (in_flight_.size() >= 2) return std::nullopt;
  int64_t decodes = grant_decodes();
  int64_t budget = std::min(prefill_tokens_max_, step_tokens_max_ - decodes);
  seat_queued(grant_prefills(budget));
  return emit();
}

int64_t Planner::grant_decodes() {
  int64_t decodes = 0;
  std::vector<Sequence*> order = seated_;  // evictions change seated_
  for (Sequence* sequence : order) {
    if (!sequence->runnable() || !sequence->decoding()) continue;
    sequence->seat.granted = grant(*sequence, 1);
    decodes += sequence->seat.granted;
  }
  return decodes;
}

int64_t Planner::grant_prefills(int64_t budget) {
  std::vector<Sequence*> order = seated_;
  for (Sequence* sequence : order) {
    if (budget == 0) break;
    if (!sequence->runnable() || sequence->decoding()) continue;
    int64_t wanted = std::min(budget, sequence->seat.prefill_until - sequence->seat.computed);
    sequence->seat.granted = grant(*sequence, wanted);
    budget -= sequence->seat.granted;
  }
  return budget;
}

// Blocks for the sequence's next `count` tokens; returns for how many there are some. With 0 the
// sequence is not in this step: it waits for a step in flight, or it was evicted itself.
int64_t Planner::grant(Sequence& sequence, int64_t count) {
  for (;;) {
    bool idle = sequence.last_step <= completed_step_;
    int64_t covered = pools_.cover(sequence.seat.tables, sequence.seat.computed, count, idle);
    if (covered > 0) return covered;
    if (!make_room(sequence)) return 0;
  }
}

// False: no use in asking again now.
bool Planner::make_room(Sequence& needy) {
  if (!retired_.empty()) return false;
  bool idle = needy.last_step <= completed_step_;
  if (!idle && pools_.droppable(needy.seat.tables, needy.seat.computed)) return false;
  if (evict_paused()) return true;
  assert(seated_.size() > 1);  // alone, a sequence has blocks up to context_max()
  Sequence* youngest = seated_.back();
  evict(*youngest);
  return youngest != &needy;
}

bool Planner::evict_paused() {
  auto paused = std::find_if(seated_.rbegin(), seated_.rend(),
                             [](const Sequence* sequence) { return sequence->paused; });
  if (paused == seated_.rend()) return false;
  evict(**paused);
  return true;
}

void Planner::evict(Sequence& sequence) {
  ++totals_.preempted;
  leave_seat(sequence);
  insert_by_arrival(queue_, &sequence);
}

void Planner::take_seat(Sequence& sequence, BlockTables tables) {
  sequence.seat.slot = free_slots_.back();
  free_slots_.pop_back();
  sequence.seat.tables = std::move(tables);
  sequence.seat.prefill_until = static_cast<int64_t>(sequence.tokens.size());
  insert_by_arrival(seated_, &sequence);
}

void Planner::leave_seat(Sequence& sequence) {
  seated_.erase(std::find(seated_.begin(), seated_.end(), &sequence));
  Sequence::Seat seat = std::exchange(sequence.seat, {});
  Retired retired{
      .after_step = sequence.last_step, .slot = seat.slot, .blocks = BlockPools::live(seat.tables)};
  if (retired.after_step <= completed_step_) {
    vacate(retired);
  } else {
    retired_.push_back(std::move(retired));
  }
}

void Planner::vacate(const Retired& retired) {
  pools_.give_back(retired.blocks);
  free_slots_.push_back(retired.slot);
  released_slots_.push_back(retired.slot);
}

Planner::Sequence* Planner::next_queued() {
  auto next = std::find_if(queue_.begin(), queue_.end(),
                           [](const Sequence* sequence) { return !sequence->paused; });
  return next == queue_.end() ? nullptr : *next;
}

void Planner::seat_queued(int64_t budget) {
  while (budget > 0) {
    Sequence* next = next_queued();
    // A preempted one whose last row is still in flight learns that row's token first.
    if (next == nullptr || next->last_step > completed_step_) return;
    bool slot_free = !free_slots_.empty() && static_cast<int64_t>(seated_.size()) < seats_max_;
    std::optional<BlockTables> tables;
    if (slot_free) tables = pools_.open(static_cast<int64_t>(next->tokens.size()));
    if (!tables) {
      if (retired_.empty() && evict_paused()) continue;
      return;
    }
    queue_.erase(std::find(queue_.begin(), queue_.end(), next));
    take_seat(*next, std::move(*tables));
    next->seat.granted =
        pools_.cover(next->seat.tables, 0, std::min(budget, next->seat.prefill_until), false);
    assert(next->seat.granted > 0);
    budget -= next->seat.granted;
  }
}

std::optional<Step> Planner::emit() {
  SentStep sent{.number = next_step_, .asking = {}};
  Step step{.number = next_step_, .rows = {}, .released_slots = {}};
  for (bool decodes : {true, false}) {
    for (Sequence* sequence : seated_) {
      if (sequence->seat.granted == 0 || sequence->decoding() != decodes) continue;
      step.rows.push_back(make_row(*sequence, sent));
    }
  }
  if (step.rows.empty()) return std::nullopt;
  step.released_slots = std::exchange(released_slots_, {});
  in_flight_.push_back(std::move(sent));
  ++next_step_;
  return step;
}

Row Planner::make_row(Sequence& sequence, SentStep& sent) {
  Row row;
  row.slot = sequence.seat.slot;
  row.position = sequence.seat.computed;
  if (sequence.seat.computed == 0) {
    row.start = shards::NewSequence{.sequence = static_cast<int64_t>(sequence.id),
                                    .sampling = sequence.sampling};
    if (penalised(sequence.sampling)) {
      row.start->history = sequence.tokens;
      row.start->output_begin = sequence.prompt_tokens;
    }
  }
  int64_t count = std::exchange(sequence.seat.granted, 0);
  (sequence.decoding() ? sent.decode_tokens : sent.prefill_tokens) += count;
  if (sequence.samples_in_flight > 0) {
    assert(sequence.last_step + 1 == sent.number && sequence.decoding());
  } else {
    auto begin = sequence.tokens.begin() + sequence.seat.computed;
    row.tokens.assign(begin, begin + count);
  }
  // Free for the next plan: by then no step is in flight that reads them, since two at most are.
  pools_.give_back(pools_.drop(sequence.seat.tables, sequence.seat.computed));
  row.block_changes = pools_.announce(sequence.seat.tables);
  AskingRow asking{
      .id = sequence.id, .slot = sequence.seat.slot, .prompt_ids = ask_for_prompt(sequence, row)};
  sequence.seat.computed += count;
  sequence.last_step = sent.number;
  if (sequence.decoding()) {
    row.sample = true;
    row.output_index = static_cast<int>(sequence.outputs_asked());
    ++sequence.samples_in_flight;
    asking.sample = true;
  }
  if (asking.sample || !asking.prompt_ids.empty()) sent.asking.push_back(std::move(asking));
  return row;
}

// The logprobs that the row's tokens give of the prompt, each once however often it is computed.
std::vector<int32_t> Planner::ask_for_prompt(Sequence& sequence, Row& row) {
  int64_t begin = std::max(row.position + 1, sequence.prompt_asked);
  int64_t end = std::min(row.position + row.token_count() + 1, sequence.prompt_tokens);
  if (begin >= end) return {};
  for (int64_t i = begin; i < end; ++i) {
    row.logprob_positions.push_back(static_cast<int32_t>(i - row.position - 1));
  }
  row.next_chunk_token = sequence.tokens[end - 1];
  sequence.prompt_asked = end;
  return {sequence.tokens.begin() + begin, sequence.tokens.begin() + end};
}

std::optional<std::string> Planner::find_fault(const shards::StepResult& result) const {
  if (in_flight_.empty() || in_flight_.front().number != result.number) {
    return fmt::format("the shard answered step {}, step {} was due", result.number,
                       completed_step_ + 1);
  }
  const std::vector<AskingRow>& asked = in_flight_.front().asking;
  if (asked.size() != result.rows.size()) {
    return fmt::format("the shard's result of step {} has {} rows, {} were asked for",
                       result.number, result.rows.size(), asked.size());
  }
  for (size_t i = 0; i < asked.size(); ++i) {
    const shards::RowResult& row = result.rows[i];
    bool sound = row.slot == asked[i].slot && row.tokens.size() == (asked[i].sample ? 1 : 0);
    for (const shards::SampledToken& token : row.tokens) {
      sound = sound && token.id >= 0 && token.id < vocab_size_;
    }
    sound = sound && std::equal(row.prompt.begin(), row.prompt.end(), asked[i].prompt_ids.begin(),
                                asked[i].prompt_ids.end(),
                                [](const shards::SampledToken& token, int32_t id) {
                                  return token.id == id;
                                });
    if (!sound) {
      return fmt::format("the shard's result of step {} is wrong in row {} (slot {})",
                         result.number, i, row.slot);
    }
  }
  return std::nullopt;
}

Planner::Completed Planner::complete(shards::StepResult result) {
  Completed completed;
  completed.fault = find_fault(result);
  if (completed.fault) return completed;
  SentStep sent = std::move(in_flight_.front());
  in_flight_.pop_front();
  completed_step_ = sent.number;
  ++totals_.steps;
  totals_.prefill_steps += sent.prefill_tokens > 0;
  totals_.decode_steps += sent.decode_tokens > 0;
  totals_.prefill_tokens += sent.prefill_tokens;
  totals_.decode_tokens += sent.decode_tokens;
  totals_.step_us_sum += result.execution_us;

  for (size_t i = 0; i < sent.asking.size(); ++i) {
    auto found = sequences_.find(sent.asking[i].id);
    if (found == sequences_.end()) continue;  // a dead row
    Sequence& sequence = *found->second;
    shards::RowResult& row = result.rows[i];
    if (!row.prompt.empty()) completed.prompts.push_back({sequence.id, std::move(row.prompt)});
    if (!sent.asking[i].sample) continue;
    shards::SampledToken& token = row.tokens[0];
    --sequence.samples_in_flight;
    sequence.tokens.push_back(token.id);
    bool last = static_cast<int64_t>(sequence.tokens.size()) ==
                sequence.prompt_tokens + sequence.outputs_max;
    completed.tokens.push_back({sequence.id, std::move(token), last});
    if (last) cancel(sequence.id);
  }
  std::erase_if(retired_, [this](const Retired& retired) {
    bool due = retired.after_step <= completed_step_;
    if (due) vacate(retired);
    return due;
  });
  return completed;
}

EngineStats Planner::stats() const {
  EngineStats stats = totals_;
  stats.queued = static_cast<int64_t>(queue_.size());
  stats.running = static_cast<int64_t>(seated_.size());
  for (const Sequence* sequence : seated_) {
    stats.running_tokens += sequence->seat.computed;
    stats.running_tokens_max += sequence->prompt_tokens + sequence->outputs_max;
  }
  stats.kv_blocks = pools_.size();
  stats.kv_blocks_used = pools_.size() - pools_.free_count();
  return stats;
}

}  // namespace chorus::engine
