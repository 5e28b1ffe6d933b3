// A shard without a model, for tests of the planner and the driver. Its "KV cache" really holds, in
// the blocks that the plan names, what was computed for each position, and the next token is a
// hash of what a sequence's tables lead to: a wrong position, table or a block handed out too early
// changes the tokens. So do, for penalised sequences, the tokens that it was told of or sampled
// itself, and where the output begins. Beyond that it checks each step against the contract
// (link.h) as it comes in and throws std::logic_error saying what is wrong.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "router/shards/link.h"

namespace chorus::engine {

inline uint64_t mix(uint64_t state, uint64_t value) {
  state = (state ^ value) * 0x9E3779B97F4A7C15u;
  return state ^ (state >> 29);
}

// What the fake model says after `tokens`; the tokens as values of the cells that it reads.
class FakeModel {
 public:
  explicit FakeModel(const shards::ShardInfo& info) : info_(info) {}

  static uint64_t cell(int32_t token, int64_t position) {
    return mix(mix(1, static_cast<uint64_t>(token)), static_cast<uint64_t>(position));
  }
  // The positions that the last of `length` tokens sees in this group.
  static int64_t first_seen(const shards::KvGroup& group, int64_t length) {
    if (group.kind == shards::KvKind::full) return 0;
    return std::max<int64_t>(0, length - group.window);
  }
  struct Past {  // what penalties are reckoned from
    std::vector<int32_t> tokens;
    int64_t output_begin = 0;
  };
  static uint64_t penalties(const Past& past) {
    uint64_t state = mix(5, static_cast<uint64_t>(past.output_begin));
    for (int32_t token : past.tokens) state = mix(state, static_cast<uint64_t>(token));
    return state;
  }
  template <class Read>  // Read(group, position) -> cell
  int32_t next(const shards::Sampling& sampling, int output_index, int64_t length, const Past& past,
               const Read& read) const {
    uint64_t state = mix(mix(sampling.seed, static_cast<uint64_t>(output_index)), 7);
    if (penalised(sampling)) state = mix(state, penalties(past));
    for (size_t g = 0; g < info_.kv_groups.size(); ++g) {
      for (int64_t p = first_seen(info_.kv_groups[g], length); p < length; ++p) {
        state = mix(state, read(static_cast<int>(g), p));
      }
    }
    auto token = static_cast<int32_t>(state % static_cast<uint64_t>(info_.vocab_size));
    const auto& late = sampling.late_ids;
    while (output_index < sampling.min_tokens &&
           std::binary_search(late.begin(), late.end(), token)) {
      token = (token + 1) % static_cast<int32_t>(info_.vocab_size);
    }
    return token;
  }
  // The logprob of `token` behind the first `length` tokens.
  template <class Read>
  shards::SampledToken rate(const shards::Sampling& sampling, int32_t token, int64_t length,
                            const Read& read) const {
    uint64_t state = 11;
    for (size_t g = 0; g < info_.kv_groups.size(); ++g) {
      for (int64_t p = first_seen(info_.kv_groups[g], length); p < length; ++p) {
        state = mix(state, read(static_cast<int>(g), p));
      }
    }
    auto logprob = [&](int32_t id) {
      return -0.01F * static_cast<float>(mix(state, static_cast<uint64_t>(id)) % 1000);
    };
    shards::SampledToken rated{.id = token, .logprob = logprob(token), .top = {}};
    for (int i = 0; i < sampling.top_logprobs; ++i) rated.top.push_back({i, logprob(i)});
    return rated;
  }
  // What a sequence's prompt is rated, from its second token on.
  std::vector<float> rate_alone(const std::vector<int32_t>& prompt,
                                const shards::Sampling& sampling) const {
    std::vector<float> logprobs;
    auto read = [&](int, int64_t p) { return cell(prompt[p], p); };
    for (size_t i = 1; i < prompt.size(); ++i) {
      logprobs.push_back(rate(sampling, prompt[i], static_cast<int64_t>(i), read).logprob);
    }
    return logprobs;
  }
  // The sequence computed alone, without blocks.
  std::vector<int32_t> alone(std::vector<int32_t> tokens, const shards::Sampling& sampling,
                             int count) const {
    std::vector<int32_t> output;
    const auto prompt = static_cast<int64_t>(tokens.size());
    for (int i = 0; i < count; ++i) {
      auto read = [&](int, int64_t p) { return cell(tokens[p], p); };
      output.push_back(
          next(sampling, i, static_cast<int64_t>(tokens.size()), {tokens, prompt}, read));
      tokens.push_back(output.back());
    }
    return output;
  }

 private:
  shards::ShardInfo info_;
};

class FakeShard {
 public:
  explicit FakeShard(const shards::ShardInfo& info)
      : info_(info), model_(info), seats_(info.slots), owners_(info.kv_groups.size()) {
    for (size_t g = 0; g < info.kv_groups.size(); ++g) {
      owners_[g].assign(info.kv_groups[g].blocks, -1);
      cells_.emplace_back(info.kv_groups[g].blocks * info.block_tokens, 0);
    }
  }

  // Checks the step and queues it.
  void receive(const shards::Step& step) {
    expect(step.number == received_ + 1, "a gap in the steps' numbers");
    received_ = step.number;
    expect(!step.rows.empty(), "a step without rows");
    Work work{.number = step.number, .rows = {}, .mentions = {}, .slots = {}};
    for (int slot : step.released_slots) release(slot);
    int64_t tokens = 0;
    for (const shards::Row& row : step.rows) {
      tokens += row.token_count();
      take_row(row, work);
    }
    expect(tokens <= info_.step_tokens_max, "too many tokens in a step");
    in_flight_.push_back(std::move(work));
    expect(in_flight_.size() <= 2, "more than two steps in flight");
  }

  bool has_work() const { return executed_count_ < in_flight_.size(); }

  // Executes the oldest step that was not executed. Its blocks and slots stay in use until the
  // result was delivered().
  shards::StepResult execute() {
    Work& work = in_flight_.at(executed_count_++);
    shards::StepResult result{.number = work.number, .rows = {}, .execution_us = 10};
    for (RowWork& row : work.rows) {
      FakeModel::Past& past = pasts_[row.slot];
      if (row.start) past = {row.start->history, row.start->output_begin};
      if (row.tokens.empty()) row.tokens = {last_sampled_.at(row.slot)};
      const int64_t begin = row.position;
      for (int32_t token : row.tokens) write(row, row.position++, token);
      if (!row.sample && row.logprob_positions.empty()) continue;
      auto read = [&](int group, int64_t p) { return cells_[group][address(row, group, p)]; };
      shards::RowResult& out = result.rows.emplace_back();
      out.slot = row.slot;
      for (int32_t at : row.logprob_positions) {
        const bool last = at + 1 == static_cast<int32_t>(row.tokens.size());
        const int32_t token = last ? row.next_chunk_token : row.tokens[at + 1];
        out.prompt.push_back(model_.rate(row.sampling, token, begin + at + 1, read));
      }
      if (!row.sample) continue;
      int32_t token = model_.next(row.sampling, row.output_index, row.position, past, read);
      last_sampled_[row.slot] = token;
      past.tokens.push_back(token);
      out.tokens.push_back({.id = token, .logprob = 0, .top = {}});
    }
    return result;
  }

  void delivered(uint64_t number) {
    expect(!in_flight_.empty() && in_flight_.front().number == number, "delivered out of order");
    in_flight_.pop_front();
    --executed_count_;
  }

  int64_t blocks_owned() const {
    int64_t owned = 0;
    for (const auto& group : owners_) {
      owned += std::count_if(group.begin(), group.end(), [](int owner) { return owner >= 0; });
    }
    return owned;
  }
  uint64_t received() const { return received_; }

 private:
  struct Table {
    std::vector<int32_t> blocks;
    int64_t first_live = 0;
  };
  struct Seat {
    bool taken = false;
    int64_t sequence = 0;
    shards::Sampling sampling;
    int64_t length = 0;
    uint64_t sampled_in_step = 0;
    std::vector<Table> tables;
  };
  struct RowWork {
    int slot = 0;
    std::optional<shards::NewSequence> start;
    std::vector<int32_t> tokens;
    int64_t position = 0;
    bool sample = false;
    int output_index = 0;
    std::vector<int32_t> logprob_positions;
    int32_t next_chunk_token = 0;
    shards::Sampling sampling;
    std::vector<Table> tables;  // as they are in this step
  };
  struct Work {
    uint64_t number = 0;
    std::vector<RowWork> rows;
    std::map<std::pair<int, int32_t>, int> mentions;  // (group, block) -> slot
    std::set<int> slots;
  };

  void expect(bool holds, const std::string& what) const {
    if (!holds) throw std::logic_error(fmt::format("step {}: {}", received_, what));
  }

  void release(int slot) {
    Seat& seat = seats_.at(slot);
    expect(seat.taken, fmt::format("slot {} released, but it was free", slot));
    for (const Work& work : in_flight_) {
      expect(!work.slots.contains(slot), fmt::format("slot {} released too early", slot));
    }
    for (size_t g = 0; g < seat.tables.size(); ++g) drop(seat.tables[g], static_cast<int>(g), slot);
    seat = Seat{};
  }

  void drop(Table& table, int group, int slot, std::optional<int64_t> before = {}) {
    int64_t end = before.value_or(static_cast<int64_t>(table.blocks.size()));
    expect(end >= table.first_live && end <= static_cast<int64_t>(table.blocks.size()),
           fmt::format("first_live of slot {} moves from {} to {}", slot, table.first_live, end));
    for (; table.first_live < end; ++table.first_live) {
      int32_t block = table.blocks[table.first_live];
      expect(owners_[group][block] == slot, "a block given back by somebody else");
      owners_[group][block] = -1;
    }
  }

  void take_row(const shards::Row& row, Work& work) {
    expect(row.slot >= 0 && row.slot < info_.slots, "a slot out of range");
    expect(work.slots.insert(row.slot).second, "two rows of one slot");
    Seat& seat = seats_[row.slot];
    if (row.start) start(row, seat);
    expect(seat.taken, fmt::format("a row for the free slot {}", row.slot));
    expect(row.position == seat.length,
           fmt::format("slot {} goes on at {}, not at {}", row.slot, row.position, seat.length));
    expect(!row.continues() || seat.sampled_in_step + 1 == received_,
           "continue, but the step before sampled nothing");
    for (const shards::BlockChange& change : row.block_changes) change_table(row.slot, change);
    for (int32_t at : row.logprob_positions) {
      expect(at >= 0 && at < static_cast<int32_t>(row.tokens.size()), "a logprob out of the row");
      expect(row.position + at == rated_[seat.sequence]++,
             "a logprob left out, or asked for twice");
    }
    seat.length += row.token_count();
    check_tables(row, seat, work);
    if (row.sample) {
      int& next = outputs_[seat.sequence];
      expect(row.output_index == next,
             fmt::format("output {} asked for, {} was due", row.output_index, next));
      ++next;
      seat.sampled_in_step = received_;
    }
    work.rows.push_back({row.slot, row.start, row.tokens, row.position, row.sample,
                         row.output_index, row.logprob_positions, row.next_chunk_token,
                         seat.sampling, seat.tables});
  }

  void start(const shards::Row& row, Seat& seat) {
    expect(!seat.taken, fmt::format("slot {} is taken already", row.slot));
    for (const Work& earlier : in_flight_) {
      expect(!earlier.slots.contains(row.slot), fmt::format("slot {} reused early", row.slot));
    }
    expect(!row.continues(), "a new sequence cannot continue");
    check_history(row);
    seat = Seat{.taken = true,
                .sequence = row.start->sequence,
                .sampling = row.start->sampling,
                .length = 0,
                .sampled_in_step = 0,
                .tables = std::vector<Table>(info_.kv_groups.size())};
  }

  void check_history(const shards::Row& row) const {
    const shards::NewSequence& start = *row.start;
    const auto& history = start.history;
    if (!penalised(start.sampling)) return expect(history.empty(), "a history without penalties");
    const auto outputs = outputs_.find(start.sequence);
    const int64_t known = outputs == outputs_.end() ? 0 : outputs->second;
    expect(history.size() >= row.tokens.size() &&
               std::equal(row.tokens.begin(), row.tokens.end(), history.begin()),
           "a history of other tokens");
    expect(start.output_begin + known == static_cast<int64_t>(history.size()),
           fmt::format("a history of {} tokens, the output begins at {} and has {}", history.size(),
                       start.output_begin, known));
  }

  void change_table(int slot, const shards::BlockChange& change) {
    expect(change.group >= 0 && change.group < static_cast<int>(owners_.size()), "no such group");
    Table& table = seats_[slot].tables[change.group];
    drop(table, change.group, slot, change.first_live);
    for (int32_t block : change.added) {
      expect(block >= 0 && block < static_cast<int32_t>(owners_[change.group].size()),
             "a block out of range");
      expect(owners_[change.group][block] == -1,
             fmt::format("block {} of group {} has two owners", block, change.group));
      owners_[change.group][block] = slot;
      check_not_in_flight(slot, change.group, block);
      table.blocks.push_back(block);
    }
  }

  // A block may only move to another sequence when no step in flight mentions it.
  void check_not_in_flight(int slot, int group, int32_t block) const {
    for (const Work& work : in_flight_) {
      expect(!work.mentions.contains({group, block}),
             fmt::format("block {} of group {}, in use by step {}, goes to slot {}", block, group,
                         work.number, slot));
    }
  }

  void check_tables(const shards::Row& row, const Seat& seat, Work& work) const {
    expect(seat.length <= info_.context_max, "a position beyond the context");
    for (size_t g = 0; g < seat.tables.size(); ++g) {
      const Table& table = seat.tables[g];
      int64_t first = FakeModel::first_seen(info_.kv_groups[g], row.position + 1);
      int64_t last = seat.length - 1;
      expect(last / info_.block_tokens < static_cast<int64_t>(table.blocks.size()),
             fmt::format("slot {} has no block for position {}", row.slot, last));
      expect(first / info_.block_tokens >= table.first_live,
             fmt::format("slot {} still sees position {}", row.slot, first));
      for (size_t i = table.first_live; i < table.blocks.size(); ++i) {
        work.mentions[{static_cast<int>(g), table.blocks[i]}] = row.slot;
      }
    }
  }

  int64_t address(const RowWork& row, int group, int64_t position) const {
    int64_t block = row.tables[group].blocks.at(position / info_.block_tokens);
    return block * info_.block_tokens + position % info_.block_tokens;
  }

  void write(const RowWork& row, int64_t position, int32_t token) {
    for (size_t g = 0; g < cells_.size(); ++g) {
      cells_[g][address(row, static_cast<int>(g), position)] = FakeModel::cell(token, position);
    }
  }

  shards::ShardInfo info_;
  FakeModel model_;
  std::vector<Seat> seats_;  // as of the last step received
  std::vector<std::vector<int>> owners_;
  std::vector<std::vector<uint64_t>> cells_;
  std::map<int, int32_t> last_sampled_;  // by slot, as of the last step executed
  std::map<int, FakeModel::Past> pasts_;
  std::map<int64_t, int64_t> rated_;  // by sequence: how many logprobs of its prompt were asked for
  std::map<int64_t, int> outputs_;    // by sequence: the next output index
  std::deque<Work> in_flight_;        // received, result not delivered
  size_t executed_count_ = 0;         // of those
  uint64_t received_ = 0;
};

// Small numbers, so that tests reach every limit quickly.
inline shards::ShardInfo small_shard() {
  shards::ShardInfo info;
  info.model_name = "fake";
  info.vocab_size = 1000;
  info.context_max = 128;
  info.block_tokens = 4;
  info.slots = 4;
  info.step_tokens_max = 32;
  info.kv_groups = {{.kind = shards::KvKind::full, .window = 0, .block_bytes = 64, .blocks = 128}};
  return info;
}

}  // namespace chorus::engine
