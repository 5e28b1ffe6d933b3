// Which entry answers which method and path.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "router/api/service.h"

namespace chorus::api {

struct Route {
  std::string_view method;
  std::string_view path;
  Task<> (*answer)(Service&, Exchange&);
};

std::span<const Route> routes();

struct Match {
  const Route* route = nullptr;
  std::string allow;  // the path's methods; empty where nobody knows the path
};
// HEAD finds GET's route.
Match find_route(std::string_view method, std::string_view path);

}  // namespace chorus::api
