// How a server listens, and what holds for each of its connections.
#pragma once

#include <cstdint>
#include <string>

#include "router/api/exchange.h"
#include "router/http/limits.h"

namespace chorus::http {

struct ServerOptions {
  std::string address = "0.0.0.0";  // or a host name
  uint16_t port = 3000;             // 0: any free one
  int threads = 2;
  Limits limits = {};
  api::Gate gate = {};  // empty: every request passes
};

}  // namespace chorus::http
