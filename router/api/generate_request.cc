// TGI's rules, with its faults mended (docs/from-tgi.md lists them): top_p 1.0 is taken, absent
// and empty parameters mean the same, a parameter that is not served is refused.
#include "router/api/generate_request.h"

#include <fmt/format.h>

#include <utility>

namespace chorus::api {
namespace {

using R = Rows<GenerateRequest>;
using Row = R::Row;
using Request = GenerateRequest;

constexpr Shape kStopString{.types = kString, .bytes_min = 1};

Failure read_parameters(Request& request, const Json& value, const Path& path) {
  return read_fields(value, request, generate_parameter_fields(), path);
}

Failure read_stops(Request& request, const Json& value, const Path& path) {
  return read_stop(request, value, path);
}

template <auto Member>
Failure keep(Request& request, const Json& value, const Path& path) {
  return store<Member>(request, value, path);
}

std::vector<Row> body_rows() {
  return {
      {{.name = "inputs",
        .shape = {.types = kString, .bytes_min = 1},
        .help = "the prompt",
        .required = true},
       store<&Request::inputs>},
      {{.name = "parameters", .shape = {.types = kObject}, .help = "how to generate"},
       read_parameters},
      R::flag("stream", "on / and /invocations: answer with server-sent events",
              keep<&Request::stream>),
  };
}

std::vector<Row> parameter_rows() {
  return {
      R::integer("best_of", 1, 128, "generate so many, return the likeliest",
                 store<&Request::best_of>),
      R::number("temperature", {.min = 0, .max = 1000}, "0: the likeliest token",
                keep<&Request::temperature>),
      R::number("repetition_penalty", {.min = 0.01, .max = 100}, "1: off",
                keep<&Request::repetition_penalty>),
      R::number("frequency_penalty", {.min = -2, .max = 2}, "0: off",
                keep<&Request::frequency_penalty>),
      R::number("presence_penalty", {.min = -2, .max = 2}, "0: off; not in TGI",
                keep<&Request::presence_penalty>),
      R::integer("top_k", 1, kTokensMax, "sample from so many likeliest tokens",
                 keep<&Request::top_k>),
      R::number("top_p", {.min = 0, .max = 1, .above_min = true}, "1: off", keep<&Request::top_p>),
      R::number("min_p", {.min = 0, .max = 1}, "0: off; not in TGI", keep<&Request::min_p>),
      R::number("typical_p", {.min = 0, .max = 1, .above_min = true}, "1: off",
                keep<&Request::typical_p>),
      R::flag("do_sample", "sample; implied by temperature, top_k, top_p and typical_p",
              store<&Request::do_sample>),
      R::integer("max_new_tokens", 1, kTokensMax, "most tokens of the answer",
                 keep<&Request::max_tokens>),
      R::flag("return_full_text", "begin the text with the prompt",
              store<&Request::return_full_text>),
      {{.name = "stop",
        .shape = {.types = kArray | kString, .bytes_min = 1, .items = &kStopString},
        .help = "texts that end the answer, which leaves them out"},
       read_stops},
      R::integer("truncate", 1, kTokensMax, "keep so many of the prompt's last tokens",
                 keep<&Request::truncate>),
      {{.name = "watermark",
        .shape = {.types = kBoolean},
        .help = "watermarks are not built: they change the text's quality and need a detector",
        .use = Use::refused,
        .neutral = "[false]"}},
      R::flag("details", "add the tokens and why the text ended", store<&Request::details>),
      R::flag("decoder_input_details", "add the prompt's tokens with log-probabilities",
              store<&Request::decoder_input_details>),
      R::integer("seed", 0, 9223372036854775807.0, "the same seed gives the same text",
                 keep<&Request::seed>),
      R::integer("top_n_tokens", 0, 20, "add so many likeliest tokens at each place",
                 store<&Request::top_n_tokens>),
      R::flag("ignore_eos_token", "go on after the model's end tokens", keep<&Request::ignore_eos>),
      {{.name = "grammar",
        .shape = {.types = kObject},
        .help = "constrained output is not built yet",
        .use = Use::refused,
        .neutral = "[]"}},
      {{.name = "adapter_id",
        .shape = {.types = kString},
        .help = "adapters are not built",
        .use = Use::refused,
        .neutral = "[]"}},
  };
}

bool samples(const Request& request) {
  return request.do_sample || request.temperature.value_or(1.0) != 1.0 || request.top_k ||
         request.top_p.value_or(1.0) != 1.0 || request.typical_p.value_or(1.0) != 1.0 ||
         request.min_p.value_or(0.0) != 0.0;
}

// TGI takes nothing but end tokens from generation_config.json, so every value is said here.
void settle_sampling(Request& request) {
  if (!samples(request)) request.temperature = 0;
  request.temperature = request.temperature.value_or(1.0);
  request.top_k = request.top_k.value_or(0);
  request.top_p = request.top_p.value_or(1.0);
}

Failure check_request(const Request& request, const GenerateLimits& limits) {
  if (request.best_of > limits.best_of_max) {
    return invalid("parameters.best_of",
                   fmt::format("best_of must be at most {} on this server", limits.best_of_max));
  }
  if (request.best_of > 1 && request.stream) {
    return invalid("parameters.best_of", "best_of above 1 cannot be streamed");
  }
  if (request.best_of > 1 && *request.temperature == 0) {
    return invalid("parameters.best_of", "best_of above 1 needs sampling (do_sample)");
  }
  if (request.best_of > 1 && request.seed) {
    return invalid("parameters.best_of", "best_of above 1 and a seed exclude each other");
  }
  if (request.decoder_input_details && request.stream) {
    return invalid("parameters.decoder_input_details",
                   "decoder_input_details is not part of streams");
  }
  if (request.top_n_tokens > limits.top_n_tokens_max) {
    return invalid("parameters.top_n_tokens", fmt::format("top_n_tokens must be at most {} on this "
                                                          "server",
                                                          limits.top_n_tokens_max));
  }
  return check_together(request, limits.generation);
}

}  // namespace

std::span<const Field<GenerateRequest>> generate_fields() {
  static const std::vector<Row> kRows = body_rows();
  return kRows;
}

std::span<const Field<GenerateRequest>> generate_parameter_fields() {
  static const std::vector<Row> kRows = parameter_rows();
  return kRows;
}

tl::expected<GenerateRequest, Error> read_generate_request(const Json& body, bool stream,
                                                           const GenerateLimits& limits) {
  GenerateRequest request;
  Failure failure = read_fields(body, request, generate_fields());
  if (stream) request.stream = true;
  if (!failure) {
    settle_sampling(request);
    failure = check_request(request, limits);
  }
  if (failure) return tl::unexpected(std::move(*failure));
  return request;
}

}  // namespace chorus::api
