// The whole way of a chat request, from bytes on a socket to bytes on a socket, over a fake engine.
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <thread>

#include "router/api/service.h"
#include "router/http/server.h"
#include "tests/router/api/fake_model.h"
#include "tests/router/http/client.h"

namespace chorus {
namespace {

using api_test::FakeEngine;
using api_test::WordTokenizer;
using http_test::Answer;
using http_test::Client;
using nlohmann::json;

struct Setup {
  explicit Setup(FakeEngine::Script script, http::Limits limits = {})
      : service({.model_id = "tiny", .version = "1"}),
        server({.address = "127.0.0.1", .port = 0, .threads = 2, .limits = limits},
               service.entry()),
        engine(std::make_unique<FakeEngine>(std::move(script))) {
    service.serve(api_test::serving_with(*engine));
  }
  ~Setup() {
    server.drain(std::chrono::milliseconds(0));
    engine.reset();
  }

  api::Service service;
  http::Server server;
  std::unique_ptr<FakeEngine> engine;
};

std::string chat(const std::string& more = "", const std::string& fields = "") {
  const std::string body =
      R"({"model": "tiny", "messages": [{"role": "user", "content": "Hi"}])" + more + "}";
  return "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" +
         fields + "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

constexpr int32_t kHello = WordTokenizer::kHello, kWorld = WordTokenizer::kWorld,
                  kEnd = WordTokenizer::kEnd;

TEST_CASE("a chat completion comes back whole") {
  Setup setup({.tokens = {kHello, kWorld, kEnd}});
  Client client(setup.server.port());
  client.send(chat("", "X-Request-Id: abc-1\r\n"));
  const auto answer = client.read();
  REQUIRE(answer);
  CHECK(answer->status == 200);
  CHECK(answer->field("content-type") == "application/json");
  CHECK(answer->field("x-request-id") == "abc-1");
  const json body = json::parse(answer->body);
  CHECK(body["choices"][0]["message"]["content"] == "Hello world");
  CHECK(body["choices"][0]["finish_reason"] == "stop");
  CHECK(body["usage"]["completion_tokens"] == 3);
}

TEST_CASE("a stream comes as server-sent events that end in DONE") {
  Setup setup({.tokens = {kHello, kWorld, kEnd}});
  Client client(setup.server.port());
  client.send(chat(R"(, "stream": true)"));
  const auto answer = client.read();
  REQUIRE(answer);
  CHECK(answer->status == 200);
  CHECK(answer->field("content-type") == "text/event-stream");
  CHECK(answer->field("cache-control") == "no-cache");
  CHECK(answer->field("x-accel-buffering") == "no");
  CHECK(answer->complete);
  CHECK(answer->body.find("\"content\":\"Hello\"") != std::string::npos);
  CHECK(answer->body.ends_with("data: [DONE]\n\n"));
  client.send(chat());  // the connection goes on
  CHECK(client.read()->status == 200);
}

TEST_CASE("a client that leaves while it waits for a whole answer cancels its request") {
  Setup setup({.tokens = {kHello}, .held = true});
  {
    Client client(setup.server.port());
    client.send(chat());
    client.close();
  }
  CHECK(setup.engine->wait_idle());
  CHECK(setup.engine->made() == 0);
}

TEST_CASE("a client that leaves in mid-stream cancels its request") {
  Setup setup({.tokens = {}, .endless = true, .context = 1'000'000});
  const bool reset = GENERATE(false, true);
  Client client(setup.server.port());
  client.send(chat(R"(, "stream": true)"));
  REQUIRE(client.wait_for("Hello"));
  if (reset) {
    client.reset();
  } else {
    client.close();
  }
  CHECK(setup.engine->wait_idle());
}

TEST_CASE("a client that leaves behind a pipelined request is noticed too") {
  Setup setup({.tokens = {kHello}, .held = true});
  {
    Client client(setup.server.port());
    client.send(chat() + "GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
    client.close();
  }
  CHECK(setup.engine->wait_idle());
}

TEST_CASE("a client that does not read pauses its sequence, and wakes it by reading on") {
  Setup setup({.tokens = {}, .endless = true, .context = 20'000});
  Client client(setup.server.port(), 4096);
  client.send(chat(R"(, "stream": true, "max_tokens": 19000)"));
  const int64_t made = setup.engine->wait_paused();
  CHECK(made < 19000);
  const auto answer = client.read();
  REQUIRE(answer);
  CHECK(answer->complete);
  CHECK(setup.engine->wakes() > 0);
  size_t count = 0;
  for (size_t at = answer->body.find("\"Hello\""); at != std::string::npos;
       at = answer->body.find("\"Hello\"", at + 1)) {
    ++count;
  }
  CHECK(count == 19000);
}

TEST_CASE("draining lets a running stream end and then closes its connection") {
  auto setup = std::make_unique<Setup>(FakeEngine::Script{.tokens = {kHello, kEnd}, .held = true});
  Client idle(setup->server.port());
  Client client(setup->server.port());
  client.send(chat(R"(, "stream": true)"));
  while (setup->engine->last().prompt.empty()) std::this_thread::yield();
  std::thread drain([&] { setup->server.drain(std::chrono::seconds(20)); });
  CHECK(idle.at_end());
  setup->engine->release();
  const auto answer = client.read();
  REQUIRE(answer);
  CHECK(answer->body.ends_with("data: [DONE]\n\n"));
  CHECK(client.at_end());
  drain.join();
}

TEST_CASE("draining cuts what does not end in time") {
  Setup setup({.tokens = {}, .held = true});
  Client client(setup.server.port());
  client.send(chat());
  while (setup.engine->last().prompt.empty()) std::this_thread::yield();
  std::thread drain([&] { setup.server.drain(std::chrono::milliseconds(50)); });
  CHECK(client.at_end());
  drain.join();
  CHECK(setup.engine->wait_idle());
}

}  // namespace
}  // namespace chorus
