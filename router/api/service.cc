// Construction, the hand-over of the model, and the way from a request to its route.
#include "router/api/service.h"

#include <algorithm>
#include <cassert>
#include <chrono>
#include <utility>

#include "router/api/errors.h"
#include "router/api/routes.h"

namespace chorus::api {
namespace {

int64_t seconds_now() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

// Whatever the file's eos says, ids that the tokenizer or generation_config.json knows end a turn.
std::vector<bool> end_ids_of(const Serving& serving) {
  std::vector<bool> ends(static_cast<size_t>(serving.tokenizer->size()));
  const auto add = [&](const std::vector<int32_t>& ids) {
    for (int32_t id : ids) {
      if (id >= 0 && static_cast<size_t>(id) < ends.size()) ends[static_cast<size_t>(id)] = true;
    }
  };
  add(serving.tokenizer->end_ids());
  add(serving.defaults.eos);
  return ends;
}

Response unknown_path(const Request& request) {
  return error_response({.kind = ErrorKind::not_found,
                         .message = "there is no route " + request.method + " " + request.path});
}

// Says nothing of the key that was sent, not even how long it was.
Response unauthorized(bool brought) {
  Response response =
      error_response({.kind = ErrorKind::unauthorized,
                      .message = brought ? "the API key is not one of this server's"
                                         : "an API key is needed: Authorization: Bearer KEY"});
  response.headers.push_back({"WWW-Authenticate", "Bearer"});
  return response;
}

Response too_many() {
  Response response = error_response(
      {.kind = ErrorKind::unavailable, .message = "there are too many connections: try again"});
  response.headers.push_back({"Retry-After", "1"});
  return response;
}

Response other_methods(const Request& request, std::string allow) {
  Response response;
  if (request.method == "OPTIONS") {
    response.status = 204;
    response.content_type = "";
  } else {
    response = error_response(
        {.kind = ErrorKind::method_not_allowed, .message = request.path + " takes " + allow});
  }
  response.headers.push_back({"Allow", std::move(allow)});
  return response;
}

}  // namespace

Service::Service(ServiceOptions options)
    : options_(std::move(options)),
      fingerprint_("chorus-" + options_.version),
      started_(seconds_now()),
      prompt_pool_(static_cast<size_t>(std::max(1, options_.prompt_threads))) {}

Service::~Service() {
  prompt_pool_.join();
}

void Service::serve(Serving serving) {
  assert(owned_serving_ == nullptr && serving.tokenizer && serving.engine != nullptr);
  serving.end_ids = end_ids_of(serving);
  owned_serving_ = std::make_unique<Serving>(std::move(serving));
  serving_.store(owned_serving_.get(), std::memory_order_release);
  readiness_.ready();
}

int64_t Service::context_max() const {
  const Serving* model = serving();
  if (model == nullptr) return 0;
  const int64_t context = model->engine->context_max();
  return std::min(context, options_.total_tokens_max.value_or(context));
}

Task<> Service::handle(Exchange& exchange) {
  const Request& request = exchange.request();
  Match match = find_route(request.method, known_path(request.path));
  if (request.caller.empty() && needs_key(match.route)) {
    Response response = unauthorized(false);
    co_await exchange.respond(std::move(response));
    co_return;
  }
  if (match.route != nullptr) {
    co_await match.route->answer(*this, exchange);
    co_return;
  }
  Response response =
      match.allow.empty() ? unknown_path(request) : other_methods(request, std::move(match.allow));
  co_await exchange.respond(std::move(response));
}

// The path in the table of routes that a path of this server's own stands for.
std::string_view Service::known_path(std::string_view path) const {
  if (path == options_.predict_route) return "/vertex";
  if (path == options_.health_route) return "/health";
  return path;
}

// What no route answers is guarded too: without a key nothing is learnt but health.
bool Service::needs_key(const Route* route) const {
  if (options_.keys == nullptr) return false;
  if (route == nullptr) return true;
  switch (route->guard) {
    case Guard::open:
      return false;
    case Guard::metrics:
      return options_.metrics_need_key;
    case Guard::key:
      break;
  }
  return true;
}

Gate Service::gate() {
  return [this](Request& request) -> std::optional<Response> {
    const Route* route = find_route(request.method, known_path(request.path)).route;
    if (request.spare && (route == nullptr || route->guard == Guard::key)) return too_many();
    if (options_.keys == nullptr) return {};
    if (auto name = options_.keys->name_of(request)) {
      request.caller = std::move(*name);
      return {};
    }
    if (!needs_key(route)) return {};
    const bool brought = request.find("authorization") != nullptr ||
                         request.find("x-api-key") != nullptr || request.find("api-key") != nullptr;
    return unauthorized(brought);
  };
}

EntryPoint Service::entry() {
  return [this](Exchange& exchange) { return handle(exchange); };
}

}  // namespace chorus::api
