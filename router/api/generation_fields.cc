// Values that a peer would ignore silently are refused by name: an answer to another question is
// worse than none. The guided_* names are other servers' for constrained output.
#include "router/api/generation_fields.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

namespace chorus::api {
namespace {

using Row = Field<GenerationFields>;
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

Row refused(std::string_view name, Types types, std::string_view why, std::string_view neutral) {
  return {{.name = name,
           .shape = {.types = types},
           .help = why,
           .use = Use::refused,
           .neutral = neutral}};
}
Row ignored(std::string_view name, std::string_view help) {
  return {{.name = name, .help = help, .use = Use::ignored}};
}
Row number(std::string_view name, Shape shape, std::string_view help,
           Failure (*read)(Fields&, const Json&, const Path&)) {
  shape.types = kNumber;
  return {{.name = name, .shape = shape, .help = help}, read};
}
Row integer(std::string_view name, double min, double max, std::string_view help,
            Failure (*read)(Fields&, const Json&, const Path&)) {
  return {{.name = name, .shape = {.types = kInteger, .min = min, .max = max}, .help = help}, read};
}
Row flag(std::string_view name, std::string_view help,
         Failure (*read)(Fields&, const Json&, const Path&)) {
  return {{.name = name, .shape = {.types = kBoolean}, .help = help}, read};
}

std::vector<Row> rows() {
  constexpr std::string_view kConstrained = "constrained output is not built yet";
  return {
      {{.name = "model", .shape = kText, .help = "any name: one model is served"},
       store<&Fields::model>},
      number("temperature", {.min = 0, .max = 2}, "0: the likeliest token",
             store<&Fields::temperature>),
      number("top_p", {.min = 0, .max = 1, .above_min = true},
             "sample from the likeliest tokens that make up this probability",
             store<&Fields::top_p>),
      integer("top_k", -1, kTokensMax, "sample from so many likeliest tokens; 0 or -1: all",
              read_top_k),
      number("min_p", {.min = 0, .max = 1},
             "drop tokens below this share of the likeliest one's probability",
             store<&Fields::min_p>),
      number("typical_p", {.min = 0, .max = 1, .above_min = true},
             "sample from the most typical tokens that make up this probability",
             store<&Fields::typical_p>),
      number("repetition_penalty", {.min = 0, .max = 100, .above_min = true},
             "divides the scores of tokens in prompt and answer; 1: off",
             store<&Fields::repetition_penalty>),
      number("frequency_penalty", {.min = -2, .max = 2},
             "lowers tokens by how often the answer has them", store<&Fields::frequency_penalty>),
      number("presence_penalty", {.min = -2, .max = 2}, "lowers tokens that the answer has",
             store<&Fields::presence_penalty>),
      {{.name = "logit_bias",
        .shape = {.types = kObject, .entries = &kBias},
        .help = "added to the scores of tokens, by token id"},
       read_logit_bias},
      integer("seed", -9223372036854775808.0, 9223372036854775807.0,
              "the same seed and request give the same answer", store<&Fields::seed>),
      integer("min_tokens", 0, kTokensMax, "tokens before the answer may end",
              store<&Fields::min_tokens>),
      integer("truncate_prompt_tokens", 1, kTokensMax, "keep so many of the prompt's last tokens",
              store<&Fields::truncate>),
      {{.name = "stop",
        .shape = {.types = kString | kArray, .bytes_min = 1, .items = &kStopString},
        .help = "texts that end the answer, which leaves them out"},
       read_stop},
      {{.name = "stop_token_ids",
        .shape = {.types = kArray, .items_max = 1024, .items = &kTokenId},
        .help = "tokens that end the answer"},
       store<&Fields::stop_token_ids>},
      flag("ignore_eos", "go on after the model's end tokens", store<&Fields::ignore_eos>),
      flag("include_stop_str_in_output", "leave the stop string in the text",
           store<&Fields::include_stop>),
      flag("skip_special_tokens", "leave control tokens out of the text",
           store<&Fields::skip_special_tokens>),
      integer("n", 1, 128, "answers to one prompt", store<&Fields::n>),
      flag("stream", "answer with server-sent events", store<&Fields::stream>),
      {{.name = "stream_options",
        .shape = {.types = kObject, .properties = kStreamOptions},
        .help = "of streams"},
       read_stream_options},
      flag("return_token_ids", "add the ids of prompt and answer",
           store<&Fields::return_token_ids>),
      ignored("user", "who asks; not used"),
      refused("use_beam_search", kBoolean, "beam search is not built", "[false]"),
      refused("length_penalty", kNumber, "of beam search, which is not built", "[1]"),
      refused("guided_json", 0, kConstrained, "[]"),
      refused("guided_regex", 0, kConstrained, "[]"),
      refused("guided_choice", 0, kConstrained, "[]"),
      refused("guided_grammar", 0, kConstrained, "[]"),
      refused("structured_outputs", 0, kConstrained, "[]"),
      refused("grammar", 0, kConstrained, "[]"),
      refused("json_schema", 0, kConstrained, "[]"),
      refused("adapter_id", kString, "adapters are not built", "[]"),
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
