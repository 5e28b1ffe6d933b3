#include "router/api/openapi.h"

#include <fmt/format.h>

#include <array>
#include <utility>

#include "router/api/docs_page.h"
#include "router/api/errors.h"
#include "router/api/routes.h"
#include "router/api/schemas.h"

namespace chorus::api {
namespace {

struct Status {
  int code;
  std::string_view meaning;
};

// What any route may answer, since the check of the head comes before the route.
constexpr std::array kAlways = {
    Status{400, "the request is not valid; `param` names the field"},
    Status{401, "an API key is needed"},
    Status{403, "the request's Host or Origin is not this server's"},
    Status{404, "there is no such route or model"},
    Status{405, "the route has other methods"},
    Status{408, "the request came too slowly"},
    Status{413, "the body is too large"},
    Status{417, "the expectation is not known"},
    Status{431, "the head is too large"},
    Status{501, "the request's coding or method is not implemented"},
    Status{505, "the HTTP version is not spoken"},
};
constexpr std::array kOfGenerations = {
    Status{415, "the body is not JSON"},
    Status{422, "well-formed, but the template or the route's rules refuse it"},
    Status{429, "too many requests; Retry-After says when to ask again"},
    Status{500, "a fault of the server; the message holds the id to look up in its log"},
    Status{503, "not ready, draining, or the shards are gone"},
};

Json reference(std::string_view name) {
  return {{"$ref", fmt::format("#/components/schemas/{}", name)}};
}

Json json_content(Json schema) {
  return {{"application/json", {{"schema", std::move(schema)}}}};
}

// Before OpenAPI 3.2 the schema of a stream is that of each of its events.
constexpr std::string_view kEventStream = "text/event-stream";
Json event() {
  return {
      {"type", "object"}, {"properties", {{"data", {{"type", "string"}}}}}, {"required", {"data"}}};
}

Json good_answer(const Description& description) {
  Json content = Json::object();
  if (description.answer != nullptr) {
    content = json_content(description.answer());
  } else {
    const bool events = description.media_type == kEventStream;
    content[std::string(description.media_type)] = {
        {"schema", events ? event() : Json{{"type", "string"}}}};
  }
  if (description.streams) content[std::string(kEventStream)] = {{"schema", event()}};
  return {{"description", description.summary}, {"content", std::move(content)}};
}

// An empty object: goes without a key.
Json security(Guard guard) {
  const Json key = {{"key", Json::array()}};
  switch (guard) {
    case Guard::open:
      return Json::array();
    case Guard::metrics:
      return Json::array({Json::object(), key});
    case Guard::key:
      return Json::array({key});
  }
  return {};
}

Json operation(const Route& route) {
  const Description& description = route.description;
  Json out = {{"summary", description.summary},
              {"operationId", fmt::format("{} {}", route.method, route.path)}};
  if (route.path.size() > 1 && route.path.ends_with('/')) {
    out["parameters"] = Json::array(
        {{{"name", "id"}, {"in", "path"}, {"required", true}, {"schema", {{"type", "string"}}}}});
  }
  if (description.body != nullptr) {
    out["requestBody"] = {{"required", true}, {"content", json_content(description.body())}};
  }
  Json& responses = out["responses"];
  responses["200"] = good_answer(description);
  const auto add = [&](const Status& status, const Json& schema) {
    responses[fmt::format("{}", status.code)] = {{"description", status.meaning},
                                                 {"content", json_content(schema)}};
  };
  const Json either = {{"anyOf", {reference("Error"), reference("NativeError")}}};
  const Json error = description.native ? either : reference("Error");
  for (const Status& status : kAlways) add(status, error);
  if (description.generates) {
    for (const Status& status : kOfGenerations) add(status, error);
  } else if (route.guard == Guard::open) {
    responses["503"] = {{"description", "not ready yet, and why"},
                        {"content", json_content(schemas::health())}};
  }
  out["security"] = security(route.guard);
  return out;
}

Response page(std::string_view content_type, std::string body) {
  return {.content_type = std::string(content_type), .body = std::move(body)};
}

}  // namespace

std::string make_openapi_document(const std::string& version) {
  Json paths = Json::object();
  for (const Route& route : routes()) {
    std::string path(route.path);
    if (path.size() > 1 && path.ends_with('/')) path += "{id}";
    const std::string method = route.method == "GET" ? "get" : "post";
    paths[path][method] = operation(route);
  }
  const Json document = {
      {"openapi", "3.1.0"},
      {"info",
       {{"title", "Chorus"},
        {"version", version},
        {"description", "A server for large language models: OpenAI's API and TGI's."}}},
      {"paths", std::move(paths)},
      {"components",
       {{"schemas", {{"Error", schemas::openai_error()}, {"NativeError", schemas::native_error()}}},
        {"securitySchemes", {{"key", {{"type", "http"}, {"scheme", "bearer"}}}}}}}};
  return document.dump();
}

Task<> openapi_document(Service& service, Exchange& exchange) {
  co_await exchange.respond(
      page("application/json", make_openapi_document(service.options().version)));
}

Task<> docs_page(Service&, Exchange& exchange) {
  Response response = page("text/html; charset=utf-8", std::string(kDocsPage));
  // Nothing but this page's own code and what the server itself answers.
  response.headers.push_back({"Content-Security-Policy",
                              "default-src 'none'; style-src 'unsafe-inline'; script-src "
                              "'unsafe-inline'; connect-src 'self'; base-uri 'none'; "
                              "form-action 'none'; frame-ancestors 'none'"});
  response.headers.push_back({"X-Content-Type-Options", "nosniff"});
  co_await exchange.respond(std::move(response));
}

}  // namespace chorus::api
