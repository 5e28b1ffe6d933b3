#include "router/api/asking.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <utility>

namespace chorus::api {

Failure check_against_model(const GenerationFields& fields, int top_logprobs,
                            const Serving& serving) {
  const int64_t vocabulary = serving.engine->vocab_size();
  if (!fields.logit_bias.empty() && fields.logit_bias.back().id >= vocabulary) {
    return invalid("logit_bias", fmt::format("logit_bias names token {}, the model has {}",
                                             fields.logit_bias.back().id, vocabulary));
  }
  // With min_tokens the model's own ends, of which there are a few, take their part of the room.
  constexpr auto kListedMax = static_cast<size_t>(shards::kAdjustedIdsMax - 96);
  if (fields.logit_bias.size() + fields.stop_token_ids.size() > kListedMax) {
    return invalid("logit_bias",
                   fmt::format("logit_bias and stop_token_ids have more than {} entries together",
                               kListedMax));
  }
  for (size_t i = 0; i < fields.stop_token_ids.size(); ++i) {
    if (fields.stop_token_ids[i] < vocabulary) continue;
    return invalid(fmt::format("stop_token_ids[{}]", i),
                   fmt::format("stop_token_ids[{}] is token {}, the model has {}", i,
                               fields.stop_token_ids[i], vocabulary));
  }
  if (top_logprobs > serving.engine->top_logprobs_max()) {
    return invalid("top_logprobs", fmt::format("top_logprobs must be at most {} on this server",
                                               serving.engine->top_logprobs_max()));
  }
  return {};
}

Failure fit_prompt(std::vector<int32_t>& prompt, const GenerationFields& fields,
                   const Service& service, std::string_view param) {
  if (fields.truncate && static_cast<int64_t>(prompt.size()) > *fields.truncate) {
    prompt.erase(prompt.begin(), prompt.end() - *fields.truncate);
  }
  const int64_t context = service.context_max();
  const int64_t most =
      std::min(service.options().input_tokens_max.value_or(context - 1), context - 1);
  const auto tokens = static_cast<int64_t>(prompt.size());
  if (tokens == 0) {
    return Error{.kind = ErrorKind::invalid_request,
                 .message = fmt::format("{} makes an empty prompt", param),
                 .param = std::string(param)};
  }
  if (tokens <= most) return {};
  return Error{
      .kind = ErrorKind::context_length,
      // Clients know this refusal by the words "this model's maximum context length is".
      .message = fmt::format("{} makes a prompt of {} tokens, at most {} are taken: this "
                             "model's maximum context length is {} tokens, answer included",
                             param, tokens, most, context),
      .param = std::string(param)};
}

namespace {

// A share above 0 that a float cannot hold stays above 0: the likeliest token alone.
float share(double value) {
  return std::max(static_cast<float>(value), std::numeric_limits<float>::min());
}

}  // namespace

shards::Sampling sampling_of(const GenerationFields& fields, const Serving& serving) {
  const modelfile::GenerationDefaults& model = serving.defaults;
  const double silent = model.do_sample == false ? 0.0 : model.temperature.value_or(1.0);
  const int64_t top_k = fields.top_k.value_or(model.top_k.value_or(0));
  return {.temperature = static_cast<float>(fields.temperature.value_or(silent)),
          .top_p = share(fields.top_p.value_or(model.top_p.value_or(1.0))),
          .top_k = static_cast<int>(std::clamp<int64_t>(top_k, 0, INT32_MAX)),
          .min_p = static_cast<float>(fields.min_p.value_or(0.0)),
          .typical_p = share(fields.typical_p.value_or(1.0)),
          .repetition_penalty = static_cast<float>(fields.repetition_penalty.value_or(1.0)),
          .frequency_penalty = static_cast<float>(fields.frequency_penalty),
          .presence_penalty = static_cast<float>(fields.presence_penalty),
          .logit_bias = fields.logit_bias,
          .seed = fields.seed ? static_cast<uint64_t>(*fields.seed) : random_number()};
}

std::vector<Ask> make_asks(const GenerationFields& fields, const AskSettings& settings,
                           const std::vector<int32_t>& prompt, int64_t count,
                           std::optional<int64_t> default_max_tokens, const Service& service) {
  const Serving& serving = *service.serving();
  const int64_t room = service.context_max() - static_cast<int64_t>(prompt.size());
  const int64_t wanted = fields.max_tokens.value_or(default_max_tokens.value_or(room));
  Ask ask{.prompt = prompt,
          .sampling = sampling_of(fields, serving),
          .max_tokens = std::clamp<int64_t>(wanted, 1, room),
          .prompt_logprobs = settings.prompt_logprobs,
          .text = {.tokenizer = serving.tokenizer.get(),
                   .end_ids = fields.ignore_eos ? nullptr : &serving.end_ids,
                   .stop_ids = fields.stop_token_ids,
                   .stop = fields.stop,
                   .include_stop = fields.include_stop,
                   .skip_special_tokens = fields.skip_special_tokens,
                   .prompt_tail = settings.prompt_tail,
                   .keep_tokens = settings.keep_tokens || fields.return_token_ids,
                   .keep_stop_tokens = settings.keep_stop_tokens,
                   .stream = fields.stream}};
  ask.text.max_tokens = ask.max_tokens;
  ask.sampling.top_logprobs = settings.top_logprobs;
  if (fields.min_tokens > 0) {
    ask.sampling.min_tokens = fields.min_tokens;
    std::vector<int32_t>& late = ask.sampling.late_ids;
    late = fields.stop_token_ids;
    for (size_t id = 0; id < serving.end_ids.size(); ++id) {
      if (serving.end_ids[id]) late.push_back(static_cast<int32_t>(id));
    }
    std::sort(late.begin(), late.end());
    late.erase(std::unique(late.begin(), late.end()), late.end());
  }
  std::vector<Ask> asks(static_cast<size_t>(count), ask);
  for (size_t i = 0; i < asks.size(); ++i) asks[i].sampling.choice = static_cast<int>(i);
  return asks;
}

}  // namespace chorus::api
