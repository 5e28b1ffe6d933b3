// Which entry answers which method and path, who may ask, and what /openapi.json says of it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "router/api/service.h"

namespace chorus::api {

// Who may use a route where the server has API keys. A route that says nothing needs one.
enum class Guard : uint8_t {
  key,
  open,     // health: probes bring no key
  metrics,  // open unless --metrics-need-key
};

// For the OpenAPI document. `body` and `answer` make JSON Schemas; nullptr: there is none, or it is
// no JSON.
struct Description {
  std::string_view summary;
  Json (*body)() = nullptr;
  Json (*answer)() = nullptr;
  std::string_view media_type = "application/json";  // of the answer
  bool streams = false;                              // may answer with server-sent events
  bool generates = false;                            // may answer 429 and 503
  bool native = false;                               // errors have TGI's shape
};

struct Route {
  std::string_view method;
  std::string_view path;  // one that ends in / stands for all paths that begin so
  Task<> (*answer)(Service&, Exchange&);
  Description description;
  Guard guard = Guard::key;
};

std::span<const Route> routes();

struct Match {
  const Route* route = nullptr;
  std::string allow;  // the path's methods; empty where nobody knows the path
};
// HEAD finds GET's route.
Match find_route(std::string_view method, std::string_view path);

}  // namespace chorus::api
