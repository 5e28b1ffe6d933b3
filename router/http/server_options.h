// How a server listens, and what holds for each of its connections.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "router/api/exchange.h"
#include "router/http/limits.h"
#include "router/http/origin_policy.h"
#include "router/http/tls.h"

namespace chorus::http {

struct ServerOptions {
  std::string address = "0.0.0.0";  // or a host name
  uint16_t port = 3000;             // 0: any free one
  int threads = 2;
  Limits limits = {};
  api::Gate gate = {};  // empty: every request passes
  OriginPolicy browsers = {};
  std::shared_ptr<Certificate> certificate = nullptr;  // nullptr: in the clear
  // Beyond these, `spare` more are taken, whose requests say so (api::Request::spare), and then
  // none until one ends.
  size_t connections_max = 10'000;
  size_t spare_connections = 64;
};

}  // namespace chorus::http
