#include "shard/step/executor.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <chrono>
#include <fstream>
#include <limits>
#include <stdexcept>

#include "kernels/rounding.h"
#include "shard/step/start.h"

namespace chorus::step {

using kernels::Adjustment;
using kernels::ceil_div;
using kernels::penalised;
using kernels::Sampled;
using kernels::SamplingParams;
using kernels::Span;

namespace {

// Logit rows that are computed at once. With few slots there are still as many, so that the output
// matrix is not read again for every token of a prompt whose logprobs are wanted.
constexpr int kLogitRowsMin = 16;

template <class... Args>
tl::unexpected<std::string> refuse(fmt::format_string<Args...> format, Args&&... args) {
  return tl::unexpected<std::string>(fmt::format(format, std::forward<Args>(args)...));
}

// Linux' own estimate of what can be had without swapping.
int64_t memory_available_bytes() {
  std::ifstream meminfo("/proc/meminfo");
  std::string key, unit;
  int64_t kib = 0;
  while (meminfo >> key >> kib >> unit) {
    if (key == "MemAvailable:") return kib * 1024;
  }
  return static_cast<int64_t>(sysconf(_SC_AVPHYS_PAGES)) * sysconf(_SC_PAGESIZE);
}

bool begins_with(const std::vector<int32_t>& whole, const std::vector<int32_t>& part) {
  return part.size() <= whole.size() && std::equal(part.begin(), part.end(), whole.begin());
}

}  // namespace

struct Executor::Inputs {
  std::vector<int32_t> tokens, slots, wanted;
  std::vector<Span> spans;
  std::vector<SamplingParams> params;
  // The same for prompt logprobs, which are worked off after the step.
  std::vector<int32_t> prompt_wanted;
  std::vector<SamplingParams> prompt_params;
};

Executor::Executor(kernels::Ops& ops, models::Decoder& decoder, comm::Communicator& communicator,
                   const ExecutorLimits& limits)
    : ops_(ops),
      decoder_(decoder),
      communicator_(communicator),
      limits_(limits),
      step_limits_{.tokens = limits.step_tokens_max,
                   .rows = limits.slots,
                   .wanted = std::max(limits.slots, kLogitRowsMin),
                   .slots = limits.slots,
                   .blocks_max = ceil_div(limits.context_max, ops.block_tokens()),
                   // A token is sampled behind the last position as well.
                   .adjustments = std::min(decoder.spec().shape.vocab,
                                           limits.context_max + 1 + kAdjustedIdsMax)},
      buffers_(decoder.make_buffers(step_limits_)),
      seats_(static_cast<size_t>(limits.slots)) {}

std::vector<int64_t> Executor::block_bytes() const {
  std::vector<int64_t> bytes;
  for (size_t group = 0; group < decoder_.spec().kv_groups.size(); ++group) {
    bytes.push_back(ops_.kv_block_bytes(decoder_.kv_shape(static_cast<int>(group))));
  }
  return bytes;
}

std::vector<int64_t> Executor::allocate_kv(int64_t kv_tokens) {
  const int64_t block_tokens = ops_.block_tokens();
  const auto bytes = block_bytes();
  const auto& groups = decoder_.spec().kv_groups;
  if (kv_tokens <= 0) kv_tokens = limits_.kv_tokens;
  if (kv_tokens <= 0) {
    int64_t bytes_per_block = 0;  // counted as if no group had a window: an upper bound
    for (int64_t each : bytes) bytes_per_block += each;
    kv_tokens = std::min(kv_bytes_available() / bytes_per_block * block_tokens,
                         static_cast<int64_t>(limits_.slots) * limits_.context_max);
  }
  const int64_t blocks_full = ceil_div(kv_tokens, block_tokens);
  if (blocks_full < step_limits_.blocks_max) {
    throw NotEnoughMemory(fmt::format(
        "the KV cache would hold {} tokens, one sequence may have {}: set --kv-cache-tokens higher "
        "or --max-total-tokens lower",
        blocks_full * block_tokens, limits_.context_max));
  }
  std::vector<int64_t> blocks;
  for (const auto& group : groups) {
    int64_t count = blocks_full;
    if (group.window > 0) {  // a sequence never holds more than its window and one step's tokens
      const int64_t live = ceil_div(group.window + 2 * limits_.step_tokens_max, block_tokens) + 2;
      count = std::min(count, limits_.slots * live);
    }
    blocks.push_back(std::min<int64_t>(count, std::numeric_limits<int32_t>::max()));
  }
  const auto size = static_cast<int64_t>(blocks.size() * sizeof(int64_t));
  std::vector<int64_t> of_ranks(blocks.size() * static_cast<size_t>(communicator_.ranks()));
  communicator_.all_gather(reinterpret_cast<std::byte*>(of_ranks.data()),
                           reinterpret_cast<const std::byte*>(blocks.data()), size);
  for (size_t i = 0; i < of_ranks.size(); ++i) {
    auto& least = blocks[i % blocks.size()];
    least = std::min(least, of_ranks[i]);
  }
  record(blocks);
  return blocks;
}

void Executor::record(const std::vector<int64_t>& blocks) {
  programs_ = {};
  kv_.clear();
  std::vector<kernels::KvStore*> stores;
  for (size_t group = 0; group < blocks.size(); ++group) {
    kernels::KvShape shape = decoder_.kv_shape(static_cast<int>(group));
    shape.blocks = blocks[group];
    kv_.push_back(ops_.make_kv(shape));
    stores.push_back(kv_.back().get());
  }
  programs_ = decoder_.record(buffers_, stores);
}

// A device is asked once the pass is recorded, with a cache of one block: its workspaces depend on
// the model and the step's limits, and what they leave is measured, not estimated.
int64_t Executor::kv_bytes_available() {
  if (!ops_.kv_bytes_max()) return memory_available_bytes() / 4 / communicator_.ranks();
  record(std::vector<int64_t>(decoder_.spec().kv_groups.size(), 1));
  return *ops_.kv_bytes_max();
}

tl::expected<StepResult, std::string> Executor::execute(const Step& step) {
  assert(programs_.step != nullptr && "allocate_kv comes first");
  const auto start = std::chrono::steady_clock::now();
  if (auto fits = check(step); !fits) return tl::unexpected<std::string>(fits.error());
  last_number_ = step.number;
  for (int slot : step.released_slots) seats_[static_cast<size_t>(slot)] = {};
  for (const BlockCopy& copy : step.block_copies) {
    ops_.copy_block(*kv_[static_cast<size_t>(copy.group)], copy.from, copy.to);
  }
  Inputs inputs;
  for (const Row& row : step.rows) {
    if (auto applied = apply(row, inputs); !applied) {
      return refuse("step {}, slot {}: {}", step.number, row.slot, applied.error());
    }
  }
  StepResult result{.number = step.number};
  if (!inputs.tokens.empty()) {
    upload(inputs);
    ops_.run(*programs_.step);
    const std::vector<Sampled> sampled = sample_results(inputs.wanted.size());
    const std::vector<Sampled> prompt = find_prompt_logprobs(inputs);
    auto next_sampled = sampled.begin();
    auto next_prompt = prompt.begin();
    for (const Row& row : step.rows) {
      const auto count = static_cast<int64_t>(row.logprob_positions.size());
      if (!row.sample && count == 0) continue;
      RowResult& out = result.rows.emplace_back();
      out.slot = row.slot;
      if (row.sample) out.sampled = *next_sampled++;
      out.prompt.assign(next_prompt, next_prompt + count);
      next_prompt += count;
    }
  }
  result.execution_us = std::chrono::duration_cast<std::chrono::microseconds>(
                            std::chrono::steady_clock::now() - start)
                            .count();
  return result;
}

tl::expected<void, std::string> Executor::check(const Step& step) const {
  if (step.number != last_number_ + 1) {
    return refuse("step {} follows step {}: a plan is missing", step.number, last_number_);
  }
  for (int slot : step.released_slots) {
    if (slot < 0 || slot >= limits_.slots) return refuse("released slot {} does not exist", slot);
  }
  for (const BlockCopy& copy : step.block_copies) {
    const auto groups = static_cast<int>(kv_.size());
    if (copy.group < 0 || copy.group >= groups)
      return refuse("KV group {} does not exist", copy.group);
    const int64_t blocks = kv_[static_cast<size_t>(copy.group)]->shape.blocks;
    if (std::min(copy.from, copy.to) < 0 || std::max(copy.from, copy.to) >= blocks) {
      return refuse("copied block {} or {} does not exist", copy.from, copy.to);
    }
  }
  int64_t tokens = 0;
  std::vector<bool> seen(static_cast<size_t>(limits_.slots));
  for (const Row& row : step.rows) {
    if (row.slot < 0 || row.slot >= limits_.slots)
      return refuse("slot {} does not exist", row.slot);
    if (seen[static_cast<size_t>(row.slot)]) return refuse("slot {} has two rows", row.slot);
    seen[static_cast<size_t>(row.slot)] = true;
    tokens += row.tokens.empty() ? 1 : static_cast<int64_t>(row.tokens.size());
  }
  if (tokens > limits_.step_tokens_max) {
    return refuse("step {} has {} tokens, the limit is {}", step.number, tokens,
                  limits_.step_tokens_max);
  }
  return {};
}

tl::expected<void, std::string> Executor::take_seat(const Row& row, Seat& seat) {
  if (seat.taken) return refuse("the seat is taken by another sequence");
  const NewSequence& start = *row.start;
  if (static_cast<int64_t>(start.history.size()) > limits_.context_max) {
    return refuse("start.history has {} tokens, the context {}", start.history.size(),
                  limits_.context_max);
  }
  if (auto sound = check_start(start, decoder_.spec().shape.vocab); !sound) return sound;
  const Sampling& sampling = start.sampling;
  const std::vector<Adjustment> adjustments = adjustments_of(start);
  seat = {.taken = true,
          .params = {.temperature = sampling.temperature,
                     .top_p = sampling.top_p,
                     .top_k = sampling.top_k,
                     .min_p = sampling.min_p,
                     .typical_p = sampling.typical_p,
                     .repetition_penalty = sampling.repetition_penalty,
                     .frequency_penalty = sampling.frequency_penalty,
                     .presence_penalty = sampling.presence_penalty,
                     .min_tokens =
                         static_cast<int32_t>(sampling.late_ids.empty() ? 0 : sampling.min_tokens),
                     .seed = sampling.seed,
                     .choice = sampling.choice,
                     .slot = row.slot,
                     .top_logprobs = sampling.top_logprobs}};
  seat.adjusted_for_good = penalised(seat.params) || !sampling.logit_bias.empty();
  seat.tables.resize(kv_.size());
  if (adjustments.empty() && !seat.adjusted_for_good) return {};
  const auto count = static_cast<int32_t>(adjustments.size());
  ops_.upload(buffers_.adjustments, adjustments.data(), row.slot * buffers_.adjustments.cols,
              count * static_cast<int64_t>(sizeof(Adjustment)));
  ops_.upload(buffers_.adjustment_counts, &count, row.slot * static_cast<int64_t>(sizeof(int32_t)),
              sizeof(count));
  return {};
}

tl::expected<void, std::string> Executor::apply(const Row& row, Inputs& inputs) {
  Seat& seat = seats_[static_cast<size_t>(row.slot)];
  if (row.start) {
    if (auto taken = take_seat(row, seat); !taken) return taken;
  }
  if (!seat.taken) return refuse("no sequence has this seat");
  if (row.position != seat.length) {
    return refuse("position {} does not continue a sequence of length {}", row.position,
                  seat.length);
  }
  if (row.start && penalised(seat.params) && !begins_with(row.start->history, row.tokens)) {
    return refuse("start.history does not begin with the row's tokens");
  }
  if (row.tokens.empty() && !seat.sampled)
    return refuse("there is no sampled token to continue with");
  if (auto changed = change_blocks(row, seat); !changed) return changed;

  const auto count = std::max<int64_t>(1, static_cast<int64_t>(row.tokens.size()));
  if (seat.length + count > limits_.context_max) {
    return refuse("{} positions exceed the context of {}", seat.length + count,
                  limits_.context_max);
  }
  for (size_t group = 0; group < seat.tables.size(); ++group) {
    const auto held = static_cast<int64_t>(seat.tables[group].blocks.size()) * ops_.block_tokens();
    if (held < seat.length + count) {
      return refuse("KV group {} has blocks for {} positions, {} are needed", group, held,
                    seat.length + count);
    }
  }
  inputs.spans.push_back({.row = static_cast<int32_t>(inputs.tokens.size()),
                          .count = static_cast<int32_t>(count),
                          .slot = row.slot,
                          .position = static_cast<int32_t>(seat.length)});
  for (int32_t token : row.tokens) {
    if (token < 0 || token >= decoder_.spec().shape.vocab)
      return refuse("token {} does not exist", token);
    inputs.tokens.push_back(token);
  }
  if (row.tokens.empty()) inputs.tokens.push_back(-1);
  inputs.slots.resize(inputs.tokens.size(), row.slot);
  if (auto asked = ask_for_logprobs(row, inputs); !asked) return asked;
  seat.length += count;
  if (row.sample) {
    inputs.wanted.push_back(static_cast<int32_t>(inputs.tokens.size()) - 1);
    SamplingParams params = seat.params;
    params.output_index = row.output_index;
    params.forced = row.forced;
    params.adjusted = seat.adjusted_for_good || row.output_index < params.min_tokens;
    inputs.params.push_back(params);
    seat.sampled = true;
  }
  return {};
}

// Behind the row's tokens in `inputs`.
tl::expected<void, std::string> Executor::ask_for_logprobs(const Row& row, Inputs& inputs) {
  const auto count = static_cast<int32_t>(row.tokens.size());
  const auto first = static_cast<int32_t>(inputs.tokens.size()) - count;
  int32_t before = -1;
  for (const int32_t position : row.logprob_positions) {
    if (position <= before || position >= count) {
      return refuse("logprob position {} behind {} in a row of {} tokens", position, before, count);
    }
    before = position;
    const bool last = position + 1 == count;
    const int32_t next =
        last ? row.next_chunk_token : row.tokens[static_cast<size_t>(position) + 1];
    if (next < 0 || next >= decoder_.spec().shape.vocab) {
      return refuse("next_chunk_token {} does not exist", next);
    }
    inputs.prompt_wanted.push_back(first + position);
    const int top_logprobs = seats_[static_cast<size_t>(row.slot)].params.top_logprobs;
    inputs.prompt_params.push_back({.slot = -1, .forced = next, .top_logprobs = top_logprobs});
  }
  return {};
}

tl::expected<void, std::string> Executor::change_blocks(const Row& row, Seat& seat) {
  for (const BlockChange& change : row.block_changes) {
    if (change.group < 0 || change.group >= static_cast<int>(kv_.size())) {
      return refuse("KV group {} does not exist", change.group);
    }
    const auto group = static_cast<size_t>(change.group);
    Table& table = seat.tables[group];
    for (int32_t block : change.added) {
      if (block < 0 || block >= kv_[group]->shape.blocks) {
        return refuse("block {} of KV group {} does not exist", block, group);
      }
      table.blocks.push_back(block);
    }
    if (static_cast<int64_t>(table.blocks.size()) > step_limits_.blocks_max) {
      return refuse("the block table of KV group {} is longer than the context", group);
    }
    if (change.first_live < table.first_live) return refuse("first_live goes back");
    table.first_live = change.first_live;
    const auto fresh = static_cast<int64_t>(table.blocks.size()) - table.uploaded;
    if (fresh > 0) {
      const auto at = static_cast<int64_t>(row.slot) * step_limits_.blocks_max + table.uploaded;
      ops_.upload(buffers_.block_tables[group], table.blocks.data() + table.uploaded,
                  at * static_cast<int64_t>(sizeof(int32_t)),
                  fresh * static_cast<int64_t>(sizeof(int32_t)));
      table.uploaded += fresh;
    }
  }
  return {};
}

void Executor::upload(const Inputs& inputs) {
  const int32_t counts[2] = {static_cast<int32_t>(inputs.tokens.size()),
                             static_cast<int32_t>(inputs.spans.size())};
  ops_.upload(buffers_.counts, counts, 0, sizeof(counts));
  write(buffers_.tokens, std::span(inputs.tokens));
  write(buffers_.slots, std::span(inputs.slots));
  write(buffers_.spans, std::span(inputs.spans));
  upload_wanted(inputs.wanted, inputs.params);
}

void Executor::upload_wanted(std::span<const int32_t> wanted,
                             std::span<const SamplingParams> params) {
  const auto count = static_cast<int32_t>(wanted.size());
  ops_.upload(buffers_.counts, &count, 2 * sizeof(int32_t), sizeof(count));
  write(buffers_.wanted, wanted);
  write(buffers_.params, params);
}

template <class T>
void Executor::write(kernels::View view, std::span<T> values) {
  ops_.upload(view, values.data(), 0, static_cast<int64_t>(values.size_bytes()));
}

std::vector<Sampled> Executor::sample_results(size_t count) {
  std::vector<Sampled> sampled(count);
  ops_.download(sampled.data(), buffers_.results, 0, static_cast<int64_t>(count * sizeof(Sampled)));
  for (const Sampled& each : sampled) {
    if (each.token < 0) throw std::runtime_error("a row's logits hold no number to draw from");
  }
  return sampled;
}

// A tile of logit rows at a time, so that their memory does not grow with the prompt.
std::vector<Sampled> Executor::find_prompt_logprobs(const Inputs& inputs) {
  const std::span wanted(inputs.prompt_wanted);
  const std::span params(inputs.prompt_params);
  const auto tile = static_cast<size_t>(step_limits_.wanted);
  std::vector<Sampled> all;
  for (size_t begin = 0; begin < wanted.size(); begin += tile) {
    const size_t count = std::min(tile, wanted.size() - begin);
    upload_wanted(wanted.subspan(begin, count), params.subspan(begin, count));
    ops_.run(*programs_.sample_again);
    const std::vector<Sampled> found = sample_results(count);
    all.insert(all.end(), found.begin(), found.end());
  }
  return all;
}

}  // namespace chorus::step
