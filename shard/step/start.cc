#include "shard/step/start.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace chorus::step {
namespace {

using kernels::Adjustment;
using Checked = tl::expected<void, std::string>;

template <class T>
Checked refuse_unless(bool holds, std::string_view field, T value, std::string_view range) {
  if (holds) return {};
  return tl::unexpected<std::string>(fmt::format("{} is {}, expected {}", field, value, range));
}

Checked check_numbers(const Sampling& in) {
  const auto finite = [](float value) { return std::isfinite(value); };
  const Checked checks[] = {
      refuse_unless(finite(in.temperature) && in.temperature >= 0, "sampling.temperature",
                    in.temperature, "0 or more"),
      refuse_unless(in.top_p > 0 && in.top_p <= 1, "sampling.top_p", in.top_p, "(0, 1]"),
      refuse_unless(in.top_k >= 0, "sampling.top_k", in.top_k, "0 or more"),
      refuse_unless(in.min_p >= 0 && in.min_p <= 1, "sampling.min_p", in.min_p, "[0, 1]"),
      refuse_unless(in.typical_p > 0 && in.typical_p <= 1, "sampling.typical_p", in.typical_p,
                    "(0, 1]"),
      refuse_unless(finite(in.repetition_penalty) && in.repetition_penalty > 0,
                    "sampling.repetition_penalty", in.repetition_penalty, "more than 0"),
      refuse_unless(finite(in.frequency_penalty), "sampling.frequency_penalty",
                    in.frequency_penalty, "a finite number"),
      refuse_unless(finite(in.presence_penalty), "sampling.presence_penalty", in.presence_penalty,
                    "a finite number"),
      refuse_unless(in.min_tokens >= 0 && in.min_tokens <= std::numeric_limits<int32_t>::max(),
                    "sampling.min_tokens", in.min_tokens, "0 or more"),
      refuse_unless(in.top_logprobs >= 0 && in.top_logprobs <= kernels::kTopLogprobsMax,
                    "sampling.top_logprobs", in.top_logprobs,
                    fmt::format("0 to {}", kernels::kTopLogprobsMax)),
  };
  for (const Checked& check : checks) {
    if (!check) return check;
  }
  return {};
}

Checked check_ids(const std::vector<int32_t>& ids, std::string_view field, int64_t vocab_size) {
  for (const int32_t id : ids) {
    if (id < 0 || id >= vocab_size) {
      return tl::unexpected<std::string>(
          fmt::format("{} names token {}, which does not exist", field, id));
    }
  }
  return {};
}

// The ids of both lists rise, so that each stands there once.
Checked check_rising(const std::vector<int32_t>& ids, std::string_view field) {
  const auto twice = std::adjacent_find(ids.begin(), ids.end(), std::greater_equal<>());
  if (twice == ids.end()) return {};
  return tl::unexpected<std::string>(
      fmt::format("{}: token {} is not below {}, which follows", field, *twice, *(twice + 1)));
}

}  // namespace

Checked check_start(const NewSequence& start, int64_t vocab_size) {
  const Sampling& sampling = start.sampling;
  if (auto numbers = check_numbers(sampling); !numbers) return numbers;
  std::vector<int32_t> biased;
  for (const LogitBias& entry : sampling.logit_bias) {
    biased.push_back(entry.id);
    if (auto sound = refuse_unless(std::isfinite(entry.bias), "sampling.logit_bias", entry.bias,
                                   "a finite number");
        !sound) {
      return sound;
    }
  }
  const auto history = static_cast<int64_t>(start.history.size());
  const auto adjusted = static_cast<int64_t>(biased.size() + sampling.late_ids.size());
  const Checked checks[] = {
      check_ids(biased, "sampling.logit_bias", vocab_size),
      check_rising(biased, "sampling.logit_bias"),
      check_ids(sampling.late_ids, "sampling.late_ids", vocab_size),
      check_rising(sampling.late_ids, "sampling.late_ids"),
      check_ids(start.history, "start.history", vocab_size),
      refuse_unless(static_cast<int64_t>(sampling.late_ids.size()) < vocab_size,
                    "the length of sampling.late_ids", sampling.late_ids.size(),
                    "less than the vocabulary"),
      refuse_unless(adjusted <= kAdjustedIdsMax, "the length of logit_bias and late_ids", adjusted,
                    fmt::format("{} at most", kAdjustedIdsMax)),
      refuse_unless(start.output_begin >= 0 && start.output_begin <= history, "start.output_begin",
                    start.output_begin, fmt::format("0 to {}, the length of the history", history)),
  };
  for (const Checked& check : checks) {
    if (!check) return check;
  }
  return {};
}

std::vector<Adjustment> adjustments_of(const NewSequence& start) {
  std::vector<Adjustment> all;
  for (const LogitBias& entry : start.sampling.logit_bias) {
    all.push_back({.id = entry.id, .bias = entry.bias});
  }
  if (start.sampling.min_tokens > 0) {
    for (const int32_t id : start.sampling.late_ids) all.push_back({.id = id, .late = 1});
  }
  for (size_t i = 0; i < start.history.size(); ++i) {
    const bool prompt = static_cast<int64_t>(i) < start.output_begin;
    all.push_back({.id = start.history[i],
                   .output_count = prompt ? 0 : 1,
                   .in_prompt = static_cast<uint8_t>(prompt)});
  }
  std::sort(all.begin(), all.end(),
            [](const Adjustment& a, const Adjustment& b) { return a.id < b.id; });
  std::vector<Adjustment> merged;  // one a token
  for (const Adjustment& next : all) {
    if (merged.empty() || merged.back().id != next.id) {
      merged.push_back(next);
      continue;
    }
    Adjustment& last = merged.back();
    last.output_count += next.output_count;
    last.bias += next.bias;  // one of the two at most is not 0
    last.in_prompt |= next.in_prompt;
    last.late |= next.late;
  }
  return merged;
}

}  // namespace chorus::step
