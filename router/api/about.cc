// Health is what the process knows about itself: no generation is made to find out.
#include "router/api/about.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "router/api/errors.h"
#include "router/api/json_text.h"

namespace chorus::api {
namespace {

std::string text_of(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Task<> respond(Exchange& exchange, Response response) {
  co_await exchange.respond(std::move(response));
}

Json model_json(const Service& service) {
  const std::string& id = service.options().model_id;
  Json model = {{"id", id}, {"object", "model"}, {"created", service.started()}, {"owned_by", id}};
  if (service.context_max() > 0) model["max_model_len"] = service.context_max();
  return model;
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// "%2F" to "/"; what is no escape stays as it is.
std::string decode_path(std::string_view path) {
  std::string out;
  for (size_t i = 0; i < path.size(); ++i) {
    const bool escape = path[i] == '%' && i + 2 < path.size() && hex_digit(path[i + 1]) >= 0 &&
                        hex_digit(path[i + 2]) >= 0;
    out +=
        escape ? static_cast<char>(hex_digit(path[i + 1]) * 16 + hex_digit(path[i + 2])) : path[i];
    if (escape) i += 2;
  }
  return out;
}

}  // namespace

Task<> health(Service& service, Exchange& exchange) {
  const Readiness::Snapshot state = service.readiness().snapshot();
  Json body = {{"status", phase_name(state.phase)}};
  if (state.phase == Readiness::Phase::loading) {
    body["progress"] = std::round(state.progress * 1000) / 1000;
    body["what"] = state.what;
  } else if (state.phase == Readiness::Phase::failed) {
    body["what"] = state.what;
  }
  Response response;
  response.status = state.phase == Readiness::Phase::ready ? 200 : 503;
  response.body = text_of(body);
  return respond(exchange, std::move(response));
}

Task<> models(Service& service, Exchange& exchange) {
  Json body = {{"object", "list"}, {"data", Json::array({model_json(service)})}};
  Response response;
  response.body = text_of(body);
  return respond(exchange, std::move(response));
}

// The one model there is, by its own name; a slash in it may stand as it is.
Task<> model(Service& service, Exchange& exchange) {
  const std::string& id = service.options().model_id;
  constexpr std::string_view kPrefix = "/v1/models/";
  const std::string asked = decode_path(exchange.request().path.substr(kPrefix.size()));
  Response response;
  if (asked == id) {
    response.body = text_of(model_json(service));
  } else {
    response = error_response({.kind = ErrorKind::not_found,
                               .message = "there is no model " + asked + ", only " + id,
                               .param = "model"});
  }
  return respond(exchange, std::move(response));
}

Task<> info(Service& service, Exchange& exchange) {
  const ServiceOptions& options = service.options();
  const int64_t total = service.context_max();
  Json body = {
      {"model_id", options.model_id},
      {"model_sha", options.model_sha.empty() ? Json() : Json(options.model_sha)},
      {"model_pipeline_tag", "text-generation"},
      {"max_concurrent_requests", options.concurrent_requests_max},
      {"max_best_of", options.generate.best_of_max},
      {"max_stop_sequences", options.chat.generation.stop_sequences_max},
      {"max_input_tokens", nullptr},
      {"max_total_tokens", nullptr},
      {"validation_workers", options.prompt_threads},
      {"max_client_batch_size", options.concurrent_requests_max},
      {"router", "chorus-router"},
      {"version", options.version},
      {"sha", nullptr},
      {"docker_label", nullptr},
  };
  if (total > 0) {  // known once the model is
    body["max_input_tokens"] = std::min(options.input_tokens_max.value_or(total - 1), total - 1);
    body["max_total_tokens"] = total;
  }
  Response response;
  response.body = text_of(body);
  return respond(exchange, std::move(response));
}

Task<> metrics(Service& service, Exchange& exchange) {
  Response response;
  response.content_type = "text/plain; version=0.0.4; charset=utf-8";
  if (const Serving* serving = service.serving()) {
    const engine::EngineStats stats = serving->engine->stats();
    response.body = service.metrics().text(&stats);
  } else {
    response.body = service.metrics().text(nullptr);
  }
  return respond(exchange, std::move(response));
}

}  // namespace chorus::api
