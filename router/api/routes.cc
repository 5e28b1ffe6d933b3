// The table of routes. A path is matched as it was sent: no route has a character that would need
// escaping, so an escaped one is another path.
#include "router/api/routes.h"

#include <array>

#include "router/api/about.h"
#include "router/api/chat.h"

namespace chorus::api {
namespace {

constexpr std::array kRoutes = {
    Route{"POST", "/v1/chat/completions", chat_completions},
    Route{"GET", "/v1/models", models},
    Route{"GET", "/", health, Guard::open},
    Route{"GET", "/health", health, Guard::open},
    Route{"GET", "/ping", health, Guard::open},
    Route{"GET", "/info", info},
    Route{"GET", "/metrics", metrics, Guard::metrics},
};

void append_method(std::string& allow, std::string_view method) {
  if (!allow.empty()) allow += ", ";
  allow += method;
}

}  // namespace

std::span<const Route> routes() {
  return kRoutes;
}

Match find_route(std::string_view method, std::string_view path) {
  if (method == "HEAD") method = "GET";
  Match match;
  for (const Route& route : kRoutes) {
    if (route.path != path) continue;
    if (route.method == method) match.route = &route;
    append_method(match.allow, route.method);
    if (route.method == "GET") append_method(match.allow, "HEAD");
  }
  if (path == "*") match.allow = "GET, HEAD, POST";
  if (!match.allow.empty()) append_method(match.allow, "OPTIONS");
  return match;
}

}  // namespace chorus::api
