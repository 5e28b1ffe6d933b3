#include "shard/service/messages.h"

#include <fmt/format.h>

#include <algorithm>

namespace chorus::service {
namespace {

using Refusal = tl::unexpected<std::string>;

Refusal not_built(std::string_view field) {
  return Refusal(fmt::format("{} is not executed by this shard yet", field));
}

tl::expected<step::NewSequence, std::string> read_new_sequence(const v1::NewSequence& message) {
  if (message.adapter() != 0) return not_built("start.adapter");
  const auto& in = message.sampling();
  step::NewSequence start{.sequence = message.sequence(),
                          .sampling = {.temperature = in.temperature(),
                                       .top_p = in.top_p(),
                                       .top_k = in.top_k(),
                                       .min_p = in.min_p(),
                                       .typical_p = in.typical_p(),
                                       .repetition_penalty = in.repetition_penalty(),
                                       .frequency_penalty = in.frequency_penalty(),
                                       .presence_penalty = in.presence_penalty(),
                                       .min_tokens = in.min_tokens(),
                                       .late_ids = {in.late_ids().begin(), in.late_ids().end()},
                                       .seed = in.seed(),
                                       .choice = in.choice(),
                                       .top_logprobs = in.top_logprobs()},
                          .history = {message.history().begin(), message.history().end()},
                          .output_begin = message.output_begin()};
  auto& biases = start.sampling.logit_bias;
  for (const auto& [id, bias] : in.logit_bias()) biases.push_back({.id = id, .bias = bias});
  // A map comes in any order, which is not to differ between ranks.
  std::sort(biases.begin(), biases.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  return start;
}

tl::expected<step::Row, std::string> read_row(const v1::Row& message) {
  if (message.has_embeddings()) return not_built("row.embeddings");
  if (message.hidden_state_positions_size() != 0) return not_built("row.hidden_state_positions");
  if (message.has_continues() && message.continues().positions_reserved() != 1) {
    return not_built("row.continues.positions_reserved other than 1");
  }
  if (!message.has_tokens() && !message.has_continues()) return Refusal("row without input");
  if (message.has_tokens() && message.tokens().ids().empty()) return Refusal("row without tokens");
  step::Row row{
      .slot = message.slot(),
      .start = std::nullopt,
      .tokens = {message.tokens().ids().begin(), message.tokens().ids().end()},
      .position = message.position(),
      .block_changes = {},
      .sample = message.sample(),
      .output_index = message.output_index(),
      .logprob_positions = {message.logprob_positions().begin(), message.logprob_positions().end()},
      .next_chunk_token = message.next_chunk_token()};
  if (message.has_start()) {
    auto start = read_new_sequence(message.start());
    if (!start) return Refusal(start.error());
    row.start = std::move(*start);
  }
  for (const auto& change : message.block_changes()) {
    if (change.truncated_to() != 0) return not_built("block_change.truncated_to");
    row.block_changes.push_back({.group = change.group(),
                                 .added = {change.added().begin(), change.added().end()},
                                 .first_live = change.first_live()});
  }
  return row;
}

void write_token(const kernels::Sampled& in, v1::SampledToken& out) {
  out.set_id(in.token);
  out.set_logprob(in.logprob);
  for (int i = 0; i < in.top_count; ++i) {
    auto& top = *out.add_top();
    top.set_id(in.top_ids[i]);
    top.set_logprob(in.top_logprobs[i]);
  }
}

}  // namespace

tl::expected<step::Step, std::string> read_step(const v1::Step& message) {
  step::Step step{
      .number = message.number(),
      .rows = {},
      .block_copies = {},
      .released_slots = {message.released_slots().begin(), message.released_slots().end()}};
  for (const auto& row : message.rows()) {
    auto read = read_row(row);
    if (!read) {
      return Refusal(
          fmt::format("step {}, slot {}: {}", message.number(), row.slot(), read.error()));
    }
    step.rows.push_back(std::move(*read));
  }
  for (const auto& copy : message.block_copies()) {
    step.block_copies.push_back({.group = copy.group(), .from = copy.from(), .to = copy.to()});
  }
  return step;
}

void write_result(const step::StepResult& result, v1::StepResult& message) {
  message.set_number(result.number);
  message.set_execution_us(result.execution_us);
  for (const auto& row : result.rows) {
    auto& out = *message.add_rows();
    out.set_slot(row.slot);
    if (row.sampled.token >= 0) write_token(row.sampled, *out.add_tokens());
    for (const kernels::Sampled& token : row.prompt) write_token(token, *out.add_prompt());
  }
}

}  // namespace chorus::service
