// What a connection does apart from refusing bad heads: order, limits, patience, closing.
#include "router/http/session.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <thread>

#include "process/exit_codes.h"
#include "router/http/server.h"
#include "tests/router/http/client.h"
#include "tests/router/http/echo.h"

namespace chorus {
namespace {

using http_test::Client;
using nlohmann::json;
using std::chrono::milliseconds;

http::Server serve(http::Limits limits = {}, api::EntryPoint entry = http_test::echo) {
  return http::Server({.address = "127.0.0.1", .port = 0, .threads = 2, .limits = limits},
                      std::move(entry));
}

std::string get(const std::string& path, const std::string& lines = "") {
  return "GET " + path + " HTTP/1.1\r\nHost: x\r\n" + lines + "\r\n";
}
std::string post(const std::string& lines, const std::string& body = "") {
  return "POST /a HTTP/1.1\r\nHost: x\r\n" + lines + "\r\n" + body;
}

TEST_CASE("pipelined requests are answered in their order") {
  auto server = serve();
  Client client(server.port());
  std::string all;
  for (int i = 0; i < 50; ++i) {
    all += i % 2 == 0 ? get("/" + std::to_string(i))
                      : "POST /" + std::to_string(i) +
                            " HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc";
  }
  client.send(all);
  for (int i = 0; i < 50; ++i) {
    const json body = json::parse(client.read()->body);
    CHECK(body["path"] == "/" + std::to_string(i));
    CHECK(body["body"] == (i % 2 == 0 ? "" : "abc"));
  }
}

TEST_CASE("a connection is kept, and closed when the client asks for it") {
  auto server = serve();
  Client client(server.port());
  client.send(get("/1"));
  CHECK(client.read()->field("connection").empty());
  client.send(get("/2", "Connection: foo, Close\r\n"));
  CHECK(client.read()->field("connection") == "close");
  CHECK(client.at_end());
}

TEST_CASE("HTTP/1.0 closes after one answer unless it asks to be kept") {
  auto server = serve();
  Client plain(server.port());
  plain.send("GET /a HTTP/1.0\r\n\r\n");
  CHECK(plain.read()->status == 200);
  CHECK(plain.at_end());
  Client kept(server.port());
  kept.send("GET /a HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
  CHECK(kept.read()->field("connection") == "keep-alive");
  kept.send("GET /a HTTP/1.0\r\n\r\n");
  CHECK(kept.read()->status == 200);
}

TEST_CASE("HEAD has the length of GET's body and no body") {
  auto server = serve();
  Client client(server.port());
  client.send("HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n" + get("/b"));
  const auto head = client.read(true);
  CHECK(head->status == 200);
  CHECK(std::stoi(head->field("content-length")) > 10);
  CHECK(json::parse(client.read()->body)["path"] == "/b");
}

TEST_CASE("the query is cut from the path, and an absolute target too") {
  auto server = serve();
  Client client(server.port());
  client.send("GET http://other:80/p/q?a=%20b HTTP/1.1\r\nHost: other\r\n\r\n");
  const json body = json::parse(client.read()->body);
  CHECK(body["path"] == "/p/q");
  CHECK(body["query"] == "a=%20b");
}

TEST_CASE("a body that is announced too large is refused before it is sent") {
  auto server = serve({.body_bytes = 1000});
  Client client(server.port());
  client.send(post("Content-Length: 1001\r\nExpect: 100-continue\r\n"));
  const auto answer = client.read();
  CHECK(answer->status == 413);
  CHECK(json::parse(answer->body)["error"]["code"] == "request_too_large");
  CHECK(client.at_end());
}

TEST_CASE("a chunked body that grows too large is refused, and the answer arrives") {
  auto server = serve({.body_bytes = 100'000});
  Client client(server.port());
  std::string body;
  for (int i = 0; i < 20; ++i) body += "2710\r\n" + std::string(10'000, 'x') + "\r\n";
  client.send(post("Transfer-Encoding: chunked\r\n", body));
  CHECK(client.read()->status == 413);
  CHECK(client.at_end());
}

TEST_CASE("a body of exactly the limit is taken") {
  auto server = serve({.body_bytes = 1000});
  Client client(server.port());
  client.send(post("Content-Length: 1000\r\n", std::string(1000, 'x')));
  CHECK(client.read()->status == 200);
  client.send(
      post("Transfer-Encoding: chunked\r\n", "3e8\r\n" + std::string(1000, 'x') + "\r\n0\r\n\r\n"));
  CHECK(json::parse(client.read()->body)["body"].get<std::string>().size() == 1000);
}

TEST_CASE("100-continue is sent to who waits for it, and only then") {
  auto server = serve();
  Client client(server.port());
  client.send(post("Content-Length: 5\r\nExpect: 100-continue\r\n"));
  CHECK(client.read()->status == 100);
  client.send("hello");
  CHECK(json::parse(client.read()->body)["body"] == "hello");
  client.send(post("Content-Length: 5\r\nExpect: 100-continue\r\n", "hello"));
  CHECK(client.read()->status == 200);
}

TEST_CASE("a head that is too large, has too many fields or too long a target is refused") {
  auto server = serve();
  std::string many;
  for (int i = 0; i < 101; ++i) many += "X: y\r\n";
  const std::string request =
      GENERATE_COPY(get("/a", many), get("/a", "X: " + std::string(40'000, 'y') + "\r\n"),
                    get("/" + std::string(9'000, 'a')));
  Client client(server.port());
  client.send(request + get("/canary"));
  CHECK(client.read()->status == 431);
  CHECK(client.at_end());
}

TEST_CASE("a head that trickles in has one time for all its bytes") {
  auto server = serve({.head_time = milliseconds(200)});
  Client client(server.port());
  const auto start = std::chrono::steady_clock::now();
  std::thread trickle([&] {
    for (int i = 0; i < 100; ++i) {
      client.send("G");
      std::this_thread::sleep_for(milliseconds(20));
    }
  });
  CHECK(client.at_end());
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(2));
  trickle.join();
}

TEST_CASE("a body that comes too slowly ends the connection") {
  auto server = serve({.body_grace = milliseconds(100)});
  Client client(server.port());
  client.send(post("Content-Length: 500\r\n", "a"));
  CHECK(client.at_end());
}

TEST_CASE("an idle connection is closed after its time") {
  auto server = serve({.idle_time = milliseconds(50)});
  Client client(server.port());
  client.send(get("/a"));
  CHECK(client.read()->status == 200);
  CHECK(client.at_end());
}

TEST_CASE("a body that is cut short gets no answer") {
  auto server = serve();
  Client client(server.port());
  client.send(post("Content-Length: 50\r\n", "half"));
  client.end_sending();
  CHECK(client.at_end());
}

TEST_CASE("requests that came before the client's end are still answered") {
  auto server = serve();
  Client client(server.port());
  client.send(get("/1") + get("/2"));
  client.end_sending();
  CHECK(json::parse(client.read()->body)["path"] == "/1");
  CHECK(json::parse(client.read()->body)["path"] == "/2");
  CHECK(client.at_end());
}

TEST_CASE("a harmless x-request-id comes back, another is replaced") {
  auto server = serve();
  Client client(server.port());
  client.send(get("/a", "X-Request-ID: req-7.b\r\n"));
  CHECK(client.read()->field("x-request-id") == "req-7.b");
  client.send(get("/a", "X-Request-ID: <script>\r\n"));
  const std::string made = client.read()->field("x-request-id");
  CHECK(made.size() == 32);
  client.send(get("/a"));
  CHECK(client.read()->field("x-request-id") != made);
}

api::Task<> throws(api::Exchange& exchange) {
  if (exchange.request().path == "/fault") throw std::runtime_error("secret detail");
  co_await http_test::echo(exchange);
}

TEST_CASE("a fault in one request answers 500 without internals and leaves the rest alone") {
  auto server = serve({}, throws);
  Client client(server.port());
  client.send(get("/fault", "X-Request-Id: f1\r\n") + get("/a"));
  const auto answer = client.read();
  CHECK(answer->status == 500);
  CHECK(answer->body.find("secret") == std::string::npos);
  CHECK(answer->body.find("f1") != std::string::npos);
  CHECK(client.read()->status == 200);
}

api::Task<> streams_then_throws(api::Exchange& exchange) {
  co_await exchange.start_stream();
  co_await exchange.write("data: 1\n\n");
  throw std::runtime_error("broken");
}

TEST_CASE("a fault in mid-stream ends it without the last chunk") {
  auto server = serve({}, streams_then_throws);
  Client client(server.port());
  client.send(get("/a"));
  const auto answer = client.read();
  CHECK(answer->body == "data: 1\n\n");
  CHECK_FALSE(answer->complete);
  CHECK(client.at_end());
}

api::Task<> streams(api::Exchange& exchange) {
  co_await exchange.start_stream();
  co_await exchange.write("a");
  co_await exchange.write("");
  co_await exchange.write("b");
}

TEST_CASE("HTTP/1.0 gets a stream without chunks, up to the end of the connection") {
  auto server = serve({}, streams);
  Client client(server.port());
  client.send("GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  const auto answer = client.read();
  CHECK(answer->field("transfer-encoding").empty());
  CHECK(answer->field("connection") == "close");
  CHECK(answer->body == "ab");
}

TEST_CASE("a port in use is named with the system's reason") {
  auto server = serve();
  const uint16_t port = server.port();
  CHECK_THROWS_WITH(
      http::Server({.address = "127.0.0.1", .port = port}, http_test::echo),
      Catch::Contains("127.0.0.1:" + std::to_string(port)) && Catch::Contains("in use"));
  CHECK_THROWS_AS(http::Server({.address = "192.0.2.1", .port = 0}, http_test::echo),
                  process::StartError);
}

TEST_CASE("many connections at once are served by several threads") {
  auto server = serve();
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 200; ++i) clients.push_back(std::make_unique<Client>(server.port()));
  for (auto& client : clients) client->send(get("/a"));
  for (auto& client : clients) CHECK(client->read()->status == 200);
}

}  // namespace
}  // namespace chorus
