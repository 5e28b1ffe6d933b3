// Health is what the process knows about itself: no generation is made to find out.
#include "router/api/about.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "router/api/json_text.h"

namespace chorus::api {
namespace {

std::string text_of(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Task<> respond(Exchange& exchange, Response response) {
  co_await exchange.respond(std::move(response));
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
  const std::string& id = service.options().model_id;
  Json model = {{"id", id}, {"object", "model"}, {"created", service.started()}, {"owned_by", id}};
  Json body = {{"object", "list"}, {"data", Json::array({std::move(model)})}};
  Response response;
  response.body = text_of(body);
  return respond(exchange, std::move(response));
}

Task<> info(Service& service, Exchange& exchange) {
  const ServiceOptions& options = service.options();
  const int64_t total = service.context_max();
  Json body = {
      {"model_id", options.model_id},
      {"model_sha", nullptr},
      {"model_pipeline_tag", "text-generation"},
      {"max_concurrent_requests", options.concurrent_requests_max},
      {"max_best_of", 1},
      {"max_stop_sequences", options.chat.stop_sequences_max},
      {"max_input_tokens", nullptr},
      {"max_total_tokens", nullptr},
      {"validation_workers", options.prompt_threads},
      {"max_client_batch_size", 1},
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
