// Which entry answers which method and path.
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

struct Route {
  std::string_view method;
  std::string_view path;
  Task<> (*answer)(Service&, Exchange&);
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
