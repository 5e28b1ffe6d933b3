// Values that a peer would ignore silently are refused by name: an answer to another question is
// worse than none. The guided_* names are other servers' for constrained output.
#include "router/api/generation_fields.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

namespace chorus::api {
namespace {

using R = Rows<GenerationFields>;
using Row = R::Row;
using Fields = GenerationFields;

constexpr Shape kText{.types = kString};
constexpr Shape kStopString{.types = kString, .bytes_min = 1};
constexpr Shape kTokenId{.types = kInteger, .min = 0, .max = 2147483647};
constexpr Shape kBias{.types = kNumber, .min = -100, .max = 100};
constexpr Property kStreamOptions[] = {
    {.name = "include_usage",
     .shape = {.types = kBoolean},
     .help = "a last chunk with the request's token counts"},
};

Failure read_top_k(Fields& request, const Json& value, const Path&) {
  request.top_k = std::max<int64_t>(0, value.get<int64_t>());  // -1: off, as 0
  return {};
}

Failure read_stream_options(Fields& request, const Json& value, const Path&) {
  if (const Json* usage = find(value, "include_usage")) request.include_usage = usage->get<bool>();
  return {};
}

// {"50256": -100}
Failure read_logit_bias(Fields& request, const Json& value, const Path& path) {
  for (const auto& [key, bias] : value.items()) {
    int32_t id = -1;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    const bool plain = key == "0" || (!key.empty() && key[0] >= '1' && key[0] <= '9');
    if (error != std::errc() || end != key.data() + key.size() || !plain) {
      return invalid(path, fmt::format("has the key \"{}\", which is no token id", key));
    }
    request.logit_bias.push_back({.id = id, .bias = bias.get<float>()});
  }
  std::sort(request.logit_bias.begin(), request.logit_bias.end(),
            [](const auto& a, const auto& b) { return a.id < b.id; });
  return {};
}

std::vector<Row> rows() {
  constexpr std::string_view kConstrained = "constrained output is not built yet";
  return {
      {{.name = "model", .shape = kText, .help = "any name: one model is served"},
       store<&Fields::model>},
      R::number("temperature", {.min = 0, .max = 2}, "0: the likeliest token",
                store<&Fields::temperature>),
      R::number("top_p", {.min = 0, .max = 1, .above_min = true},
                "sample from the likeliest tokens that make up this probability",
                store<&Fields::top_p>),
      R::integer("top_k", -1, kTokensMax, "sample from so many likeliest tokens; 0 or -1: all",
                 read_top_k),
      R::number("min_p", {.min = 0, .max = 1},
                "drop tokens below this share of the likeliest one's probability",
                store<&Fields::min_p>),
      R::number("typical_p", {.min = 0, .max = 1, .above_min = true},
                "sample from the most typical tokens that make up this probability",
                store<&Fields::typical_p>),
      R::number("repetition_penalty", {.min = 0.01, .max = 100},
                "divides the scores of tokens in prompt and answer; 1: off",
                store<&Fields::repetition_penalty>),
      R::number("frequency_penalty", {.min = -2, .max = 2},
                "lowers tokens by how often the answer has them",
                store<&Fields::frequency_penalty>),
      R::number("presence_penalty", {.min = -2, .max = 2}, "lowers tokens that the answer has",
                store<&Fields::presence_penalty>),
      {{.name = "logit_bias",
        .shape = {.types = kObject, .entries = &kBias},
        .help = "added to the scores of tokens, by token id"},
       read_logit_bias},
      R::integer("seed", -9223372036854775808.0, 9223372036854775807.0,
                 "the same seed and request give the same answer", store<&Fields::seed>),
      R::integer("min_tokens", 0, kTokensMax, "tokens before the answer may end",
                 store<&Fields::min_tokens>),
      R::integer("truncate_prompt_tokens", 1, kTokensMax,
                 "keep so many of the prompt's last tokens", store<&Fields::truncate>),
      {{.name = "stop",
        .shape = {.types = kString | kArray, .bytes_min = 1, .items = &kStopString},
        .help = "texts that end the answer, which leaves them out"},
       read_stop},
      {{.name = "stop_token_ids",
        .shape = {.types = kArray, .items_max = 1024, .items = &kTokenId},
        .help = "tokens that end the answer"},
       store<&Fields::stop_token_ids>},
      R::flag("ignore_eos", "go on after the model's end tokens", store<&Fields::ignore_eos>),
      R::flag("include_stop_str_in_output", "leave the stop string in the text",
              store<&Fields::include_stop>),
      R::flag("skip_special_tokens", "leave control tokens out of the text",
              store<&Fields::skip_special_tokens>),
      R::integer("n", 1, 128, "answers to one prompt", store<&Fields::n>),
      R::flag("stream", "answer with server-sent events", store<&Fields::stream>),
      {{.name = "stream_options",
        .shape = {.types = kObject, .properties = kStreamOptions},
        .help = "of streams"},
       read_stream_options},
      R::flag("return_token_ids", "add the ids of prompt and answer",
              store<&Fields::return_token_ids>),
      R::ignored("user", "who asks; not used"),
      R::refused("use_beam_search", kBoolean, "beam search is not built", "[false]"),
      R::refused("length_penalty", kNumber, "of beam search, which is not built", "[1]"),
      R::refused("guided_json", 0, kConstrained, "[]"),
      R::refused("guided_regex", 0, kConstrained, "[]"),
      R::refused("guided_choice", 0, kConstrained, "[]"),
      R::refused("guided_grammar", 0, kConstrained, "[]"),
      R::refused("structured_outputs", 0, kConstrained, "[]"),
      R::refused("grammar", 0, kConstrained, "[]"),
      R::refused("json_schema", 0, kConstrained, "[]"),
      R::refused("adapter_id", kString, "adapters are not built", "[]"),
  };
}

}  // namespace

std::span<const Field<GenerationFields>> generation_fields() {
  static const std::vector<Row> kRows = rows();
  return kRows;
}

Failure read_stop(GenerationFields& request, const Json& value, const Path&) {
  if (value.is_string()) {
    request.stop.push_back(value.get<std::string>());
  } else {
    request.stop = value.get<std::vector<std::string>>();
  }
  return {};
}

Failure check_together(const GenerationFields& fields, const GenerationLimits& limits) {
  if (static_cast<int64_t>(fields.stop.size()) > limits.stop_sequences_max) {
    return invalid("stop", fmt::format("stop holds {} strings, at most {} are taken",
                                       fields.stop.size(), limits.stop_sequences_max));
  }
  if (fields.max_tokens && fields.min_tokens > *fields.max_tokens) {
    return invalid("min_tokens", "min_tokens must not be above max_tokens");
  }
  return {};
}

}  // namespace chorus::api
