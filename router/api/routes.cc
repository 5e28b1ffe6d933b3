// The table of routes. A path is matched as it was sent: no route has a character that would need
// escaping, so an escaped one is another path.
#include "router/api/routes.h"

#include <array>

#include "router/api/about.h"
#include "router/api/chat.h"
#include "router/api/completions.h"
#include "router/api/generate.h"
#include "router/api/inspect.h"
#include "router/api/native_tokens.h"
#include "router/api/openapi.h"
#include "router/api/schemas.h"

namespace chorus::api {
namespace {

constexpr Description kHealth{.summary = "200 when ready, 503 with the reason until then",
                              .answer = schemas::health};
constexpr std::array kRoutes = {
    Route{"POST",
          "/v1/chat/completions",
          chat_completions,
          {.summary = "Answers a conversation",
           .body = schemas::chat_request,
           .answer = schemas::chat_completion,
           .streams = true,
           .generates = true}},
    Route{"POST",
          "/v1/completions",
          completions,
          {.summary = "Goes on with a text",
           .body = schemas::completion_request,
           .answer = schemas::completion,
           .streams = true,
           .generates = true}},
    Route{"GET",
          "/v1/models",
          models,
          {.summary = "The model that is served, as a list", .answer = schemas::model_list}},
    Route{"GET",
          "/v1/models/",
          model,
          {.summary = "The model that is served, by its name", .answer = schemas::model}},
    Route{"POST",
          "/v1/chat/render",
          render_chat,
          {.summary = "What the chat template makes of a request, without generating",
           .body = schemas::chat_request,
           .answer = schemas::rendered_chat,
           .generates = true}},
    Route{"POST",
          "/v1/tokenize",
          tokenize_text,
          {.summary = "Text or messages as token ids",
           .body = schemas::tokenize_request,
           .answer = schemas::token_ids,
           .generates = true}},
    Route{"POST",
          "/v1/detokenize",
          detokenize_ids,
          {.summary = "Token ids as text",
           .body = schemas::detokenize_request,
           .answer = schemas::detokenized,
           .generates = true}},
    Route{"POST",
          "/generate",
          generate,
          {.summary = "TGI: goes on with a text",
           .body = schemas::generate_request,
           .answer = schemas::generate_response,
           .generates = true,
           .native = true}},
    Route{"POST",
          "/generate_stream",
          generate_stream,
          {.summary = "TGI: goes on with a text, an event for each token",
           .body = schemas::generate_request,
           .media_type = "text/event-stream",
           .generates = true,
           .native = true}},
    Route{"POST",
          "/",
          generate_compat,
          {.summary = "TGI: /generate or, with stream, /generate_stream",
           .body = schemas::generate_request,
           .answer = schemas::generate_list,
           .streams = true,
           .generates = true,
           .native = true}},
    Route{"POST",
          "/tokenize",
          tokenize,
          {.summary = "TGI: a text's tokens and where they stand in it",
           .body = schemas::generate_request,
           .answer = schemas::token_list,
           .generates = true,
           .native = true}},
    Route{"POST",
          "/chat_tokenize",
          chat_tokenize,
          {.summary = "TGI: a conversation's tokens and its rendered text",
           .body = schemas::chat_request,
           .answer = schemas::chat_tokens,
           .generates = true,
           .native = true}},
    Route{"POST",
          "/invocations",
          invocations,
          {.summary = "SageMaker: takes the body of /, of chat or of plain completions",
           .body = schemas::any_object,
           .answer = schemas::anything,
           .streams = true,
           .generates = true}},
    Route{"POST",
          "/vertex",
          vertex,
          {.summary = "Vertex AI: instances to predictions",
           .body = schemas::vertex_request,
           .answer = schemas::predictions,
           .generates = true,
           .native = true}},
    Route{"GET", "/", health, kHealth, Guard::open},
    Route{"GET", "/health", health, kHealth, Guard::open},
    Route{"GET", "/ping", health, kHealth, Guard::open},
    Route{"GET", "/info", info, {.summary = "Model and limits", .answer = schemas::server_facts}},
    Route{"GET",
          "/metrics",
          metrics,
          {.summary = "Counters for Prometheus", .media_type = "text/plain"},
          Guard::metrics},
    Route{"GET",
          "/openapi.json",
          openapi_document,
          {.summary = "This document", .answer = schemas::any_object}},
    Route{"GET",
          "/api-doc/openapi.json",
          openapi_document,
          {.summary = "This document, where TGI has it", .answer = schemas::any_object}},
    Route{"GET",
          "/docs",
          docs_page,
          {.summary = "This document as a page", .media_type = "text/html"}},
};

void append_method(std::string& allow, std::string_view method) {
  if (!allow.empty()) allow += ", ";
  allow += method;
}

bool matches(const Route& route, std::string_view path) {
  if (route.path == path) return true;
  const bool prefix = route.path.size() > 1 && route.path.ends_with('/');
  return prefix && path.starts_with(route.path) && path.size() > route.path.size();
}

}  // namespace

std::span<const Route> routes() {
  return kRoutes;
}

Match find_route(std::string_view method, std::string_view path) {
  if (method == "HEAD") method = "GET";
  Match match;
  for (const Route& route : kRoutes) {
    if (!matches(route, path)) continue;
    if (route.method == method) match.route = &route;
    append_method(match.allow, route.method);
    if (route.method == "GET") append_method(match.allow, "HEAD");
  }
  if (path == "*") match.allow = "GET, HEAD, POST";
  if (!match.allow.empty()) append_method(match.allow, "OPTIONS");
  return match;
}

}  // namespace chorus::api
