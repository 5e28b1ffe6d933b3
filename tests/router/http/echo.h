// An entry point that says what it was asked, and keeps the log of a test quiet.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "router/api/exchange.h"

namespace chorus::http_test {

inline api::Task<> echo(api::Exchange& exchange) {
  const api::Request& request = exchange.request();
  nlohmann::json body;
  body["method"] = request.method;
  body["path"] = request.path;
  body["query"] = request.query;
  body["body"] = request.body;
  api::Response response;
  response.body = body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  co_await exchange.respond(std::move(response));
}

}  // namespace chorus::http_test
