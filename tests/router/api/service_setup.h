// The whole API over a fake engine, without a socket.
#pragma once

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "router/api/service.h"
#include "tests/router/api/fake_exchange.h"
#include "tests/router/api/fake_model.h"

namespace chorus::api_test {

using nlohmann::json;

struct Setup {
  explicit Setup(FakeEngine::Script script = {.tokens = {WordTokenizer::kHello,
                                                         WordTokenizer::kWorld,
                                                         WordTokenizer::kEnd}})
      : service({.model_id = "tiny", .version = "1.2"}), engine(std::move(script)) {}
  Setup& serve(api::Serving serving) {
    service.serve(std::move(serving));
    return *this;
  }
  Setup& serve() { return serve(api_test::serving_with(engine)); }

  FakeExchange post(const std::string& path, const json& body) {
    return run({.method = "POST",
                .path = path,
                .query = "",
                .fields = {{"content-type", "application/json"}},
                .body = body.dump(),
                .id = "r"});
  }
  FakeExchange ask(const std::string& method, const std::string& path) {
    return run({.method = method, .path = path, .query = "", .fields = {}, .body = "", .id = "r"});
  }
  FakeExchange chat(const std::string& fields = "", const std::string& content = "Hi") {
    json messages = {{{"role", "user"}, {"content", content}}};
    return run(
        {.method = "POST",
         .path = "/v1/chat/completions",
         .query = "",
         .fields = {{"content-type", "application/json; charset=utf-8"}},
         .body = "{\"messages\": " + messages.dump() + (fields.empty() ? "" : ", ") + fields + "}",
         .id = "r"});
  }
  FakeExchange run(api::Request request) {
    FakeExchange exchange(std::move(request));
    api_test::answer(context, service.entry(), exchange);
    CHECK(exchange.answers == 1);
    return exchange;
  }

  boost::asio::io_context context;
  api::Service service;
  FakeEngine engine;
};

}  // namespace chorus::api_test
