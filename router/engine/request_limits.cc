#include "router/engine/request_limits.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace chorus::engine {
namespace {

using Fault = std::optional<std::string>;

template <class T>
Fault unless(bool holds, std::string_view field, T value) {
  if (holds) return std::nullopt;
  return fmt::format("{} {} is out of range", field, value);
}

Fault find_id_fault(const std::vector<int32_t>& ids, std::string_view field, int64_t vocab_size) {
  for (const int32_t id : ids) {
    if (Fault fault = unless(id >= 0 && id < vocab_size, field, id)) return fault;
  }
  return std::nullopt;
}

Fault find_order_fault(const std::vector<int32_t>& ids, std::string_view field) {
  auto twice = std::adjacent_find(ids.begin(), ids.end(), std::greater_equal<>());
  if (twice == ids.end()) return std::nullopt;
  return fmt::format("{}: token {} is not below the one behind it", field, *twice);
}

Fault find_number_fault(const shards::Sampling& in, const RequestLimits& limits) {
  auto finite = [](float value) { return std::isfinite(value); };
  auto least_int = [](int64_t value, int64_t least) {
    return value >= least && value <= std::numeric_limits<int32_t>::max();
  };
  auto share = [](float value) { return value > 0 && value <= 1; };
  Fault faults[] = {
      unless(finite(in.temperature) && in.temperature >= 0, "temperature", in.temperature),
      unless(share(in.top_p), "top_p", in.top_p),
      unless(in.top_k >= 0, "top_k", in.top_k),
      unless(in.min_p >= 0 && in.min_p <= 1, "min_p", in.min_p),
      unless(share(in.typical_p), "typical_p", in.typical_p),
      unless(finite(in.repetition_penalty) && in.repetition_penalty > 0, "repetition_penalty",
             in.repetition_penalty),
      unless(finite(in.frequency_penalty), "frequency_penalty", in.frequency_penalty),
      unless(finite(in.presence_penalty), "presence_penalty", in.presence_penalty),
      unless(least_int(in.min_tokens, 0), "min_tokens", in.min_tokens),
      unless(in.top_logprobs >= 0 && in.top_logprobs <= limits.top_logprobs_max, "top_logprobs",
             in.top_logprobs),
  };
  for (Fault& fault : faults) {
    if (fault) return fault;
  }
  return std::nullopt;
}

Fault find_list_fault(const shards::Sampling& in, const RequestLimits& limits) {
  std::vector<int32_t> biased;
  for (const shards::LogitBias& entry : in.logit_bias) {
    if (Fault fault = unless(std::isfinite(entry.bias), "logit_bias", entry.bias)) return fault;
    biased.push_back(entry.id);
  }
  if (Fault fault = find_id_fault(biased, "logit_bias", limits.vocab_size)) return fault;
  if (Fault fault = find_id_fault(in.late_ids, "late_ids", limits.vocab_size)) return fault;
  if (Fault fault = find_order_fault(biased, "logit_bias")) return fault;
  if (Fault fault = find_order_fault(in.late_ids, "late_ids")) return fault;
  const auto adjusted = static_cast<int64_t>(biased.size() + in.late_ids.size());
  if (Fault fault = unless(adjusted <= shards::kAdjustedIdsMax,
                           "the number of logit_bias and late_ids", adjusted)) {
    return fault;
  }
  // Something must be left to sample.
  return unless(static_cast<int64_t>(in.late_ids.size()) < limits.vocab_size,
                "the number of late_ids", in.late_ids.size());
}

}  // namespace

Fault find_fault(const GenerationRequest& request, const RequestLimits& limits) {
  int64_t prompt = static_cast<int64_t>(request.prompt.size());
  if (prompt < 1 || prompt >= limits.context_max) {
    return fmt::format("{} prompt tokens, the context has {}", prompt, limits.context_max);
  }
  if (Fault fault = unless(request.max_tokens >= 1, "max_tokens", request.max_tokens)) return fault;
  if (Fault fault = find_id_fault(request.prompt, "prompt token", limits.vocab_size)) return fault;
  if (Fault fault = find_number_fault(request.sampling, limits)) return fault;
  return find_list_fault(request.sampling, limits);
}

}  // namespace chorus::engine
