#include "router/api/completion_request.h"

#include <fmt/format.h>

#include <utility>

namespace chorus::api {
namespace {

using Row = Field<CompletionRequest>;

constexpr Shape kTokenId{.types = kInteger, .min = 0, .max = 2147483647};
constexpr Shape kPromptItem{.types = kInteger | kString | kArray,
                            .min = 0,
                            .max = 2147483647,
                            .items_min = 1,
                            .items = &kTokenId};
constexpr size_t kPromptsMax = 1024;

std::vector<int32_t> ids_of(const Json& value) {
  return value.get<std::vector<int32_t>>();
}

// A text, texts, token ids, or lists of token ids.
Failure read_prompt(CompletionRequest& request, const Json& value, const Path& path) {
  if (value.is_string()) {
    request.prompts.push_back({.text = value.get<std::string>(), .ids = {}});
    return {};
  }
  if (value[0].is_number()) {
    for (size_t i = 0; i < value.size(); ++i) {
      if (value[i].is_number()) continue;
      return invalid(Path{.parent = &path, .index = static_cast<int64_t>(i)},
                     "must be a token id as the others are");
    }
    request.prompts.push_back({.text = {}, .ids = ids_of(value), .is_text = false});
    return {};
  }
  if (value.size() > kPromptsMax) {
    return invalid(
        path, fmt::format("holds {} prompts, at most {} are taken", value.size(), kPromptsMax));
  }
  for (size_t i = 0; i < value.size(); ++i) {
    const Json& prompt = value[i];
    if (prompt.is_number()) {
      return invalid(Path{.parent = &path, .index = static_cast<int64_t>(i)},
                     "must be a text or a list of token ids as the others are");
    }
    if (prompt.is_string()) {
      request.prompts.push_back({.text = prompt.get<std::string>(), .ids = {}});
    } else {
      request.prompts.push_back({.text = {}, .ids = ids_of(prompt), .is_text = false});
    }
  }
  return {};
}

Failure read_max_tokens(CompletionRequest& request, const Json& value, const Path&) {
  request.max_tokens = value.get<int64_t>();
  return {};
}

std::vector<Row> rows() {
  return {
      {{.name = "prompt",
        .shape = {.types = kString | kArray, .items_min = 1, .items = &kPromptItem},
        .help = "a text, texts, token ids, or lists of token ids",
        .required = true},
       read_prompt},
      {{.name = "max_tokens",
        .shape = {.types = kInteger, .min = 0, .max = kTokensMax},
        .help = "most tokens of the answer; 0 only with echo"},
       read_max_tokens},
      {{.name = "logprobs",
        .shape = {.types = kInteger, .min = 0, .max = 20},
        .help = "add log-probabilities, and those of so many likeliest tokens"},
       store<&CompletionRequest::logprobs>},
      {{.name = "echo",
        .shape = {.types = kBoolean},
        .help = "begin the text with the prompt; with logprobs also the prompt's"},
       store<&CompletionRequest::echo>},
      {{.name = "best_of",
        .shape = {.types = kInteger, .min = 1, .max = 128},
        .help = "answers to choose the n likeliest of; not in streams"},
       store<&CompletionRequest::best_of>},
      {{.name = "add_special_tokens",
        .shape = {.types = kBoolean},
        .help = "add what the tokenizer puts around plain text"},
       store<&CompletionRequest::add_special_tokens>},
      {{.name = "suffix",
        .shape = {.types = kString},
        .help = "filling in the middle needs a model trained for it and is not built",
        .use = Use::refused,
        .neutral = R"([""])"}},
      {{.name = "response_format",
        .shape = {.types = kObject},
        .help = "constrained output is not built yet",
        .use = Use::refused,
        .neutral = R"([{"type":"text"}])"}},
  };
}

Failure check_request(const CompletionRequest& request, const GenerationLimits& limits) {
  if (request.max_tokens == 0 && !request.echo) {
    return invalid("max_tokens", "max_tokens must be at least 1, or echo must be true");
  }
  if (request.candidates() < request.n) {
    return invalid("best_of", "best_of must be at least n");
  }
  if (request.stream && request.candidates() > request.n) {
    return invalid("best_of", "best_of above n cannot be streamed: the best is known at the end");
  }
  return check_together(request, limits);
}

}  // namespace

std::span<const Field<CompletionRequest>> completion_fields() {
  static const std::vector<Row> kRows = rows();
  return kRows;
}

tl::expected<CompletionRequest, Error> read_completion_request(const Json& body,
                                                               const GenerationLimits& limits) {
  CompletionRequest request;
  Failure failure = read_fields(body, request, completion_fields(), generation_fields());
  if (!failure) failure = check_request(request, limits);
  if (failure) return tl::unexpected(std::move(*failure));
  return request;
}

}  // namespace chorus::api
