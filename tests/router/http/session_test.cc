// What a connection does apart from refusing bad heads: order, limits, patience, closing.
#include "router/http/session.h"

#include <atomic>
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

TEST_CASE("a head that trickles in has one time for all its bytes, and is told so") {
  auto server = serve({.head_time = milliseconds(200)});
  Client client(server.port());
  const auto start = std::chrono::steady_clock::now();
  std::thread trickle([&] {
    for (int i = 0; i < 100; ++i) {
      client.send("G");
      std::this_thread::sleep_for(milliseconds(20));
    }
  });
  const auto answer = client.read();
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(2));
  trickle.join();
  REQUIRE(answer);
  CHECK(answer->status == 408);
  CHECK(answer->field("connection") == "close");
}

TEST_CASE("a body that comes too slowly is answered 408 and ends the connection") {
  auto server = serve({.body_grace = milliseconds(100)});
  Client client(server.port());
  client.send(post("Content-Length: 500\r\n", "a"));
  const auto answer = client.read();
  REQUIRE(answer);
  CHECK(answer->status == 408);
  CHECK(json::parse(answer->body)["error"]["code"] == "timeout");
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
  std::vector<api::HeaderField> headers;
  co_await exchange.start_stream(std::move(headers));
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
  std::vector<api::HeaderField> headers;
  co_await exchange.start_stream(std::move(headers));
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

// ---- the gate ----

std::optional<api::Response> lets_b_pass(api::Request& request) {
  if (request.spare) return api::Response{.status = 503, .body = "{}"};
  if (request.path != "/b") return api::Response{.status = 401, .body = "{}"};
  request.caller = "b";
  return {};
}

TEST_CASE("the gate answers before a body is read, and keeps a connection that brings none") {
  http::Server server({.address = "127.0.0.1", .port = 0, .gate = lets_b_pass}, http_test::echo);
  Client client(server.port());
  client.send(get("/a") + get("/b"));
  CHECK(client.read()->status == 401);
  CHECK(json::parse(client.read()->body)["path"] == "/b");
  client.send(post("Content-Length: 1000\r\nExpect: 100-continue\r\n"));
  const auto refused = client.read();
  CHECK(refused->status == 401);
  CHECK(refused->field("connection") == "close");
  CHECK(client.at_end());
}

TEST_CASE("beyond the most connections some are kept for probes, and the rest waits") {
  http::Server server({.address = "127.0.0.1",
                       .port = 0,
                       .gate = lets_b_pass,
                       .connections_max = 2,
                       .spare_connections = 1},
                      http_test::echo);
  Client first(server.port()), second(server.port());
  for (Client* client : {&first, &second}) {
    client->send(get("/b"));
    CHECK(client->read()->status == 200);
  }
  Client spare(server.port());
  Client waiting(server.port());
  waiting.send(get("/b"));
  spare.send(get("/b"));
  const auto refused = spare.read();
  CHECK(refused->status == 503);
  CHECK(refused->field("connection") == "close");
  CHECK(spare.at_end());  // its place is free: the waiting one is taken, still as a spare one
  spare.close();
  CHECK(waiting.read()->status == 503);
  waiting.close();
  first.close();
  int status = 0;  // the server hears of the end a moment later
  for (int i = 0; i < 500 && status != 200; ++i) {
    Client next(server.port());
    next.send(get("/b"));
    status = next.read()->status;
  }
  CHECK(status == 200);
}

TEST_CASE("a flood of pipelined requests leaves the thread to others") {
  http::Server server({.address = "127.0.0.1", .port = 0, .threads = 1}, http_test::echo);
  std::atomic<bool> end = false;
  Client flood(server.port());
  std::thread sender([&] {
    std::string many;
    for (int i = 0; i < 200; ++i) many += get("/flood");
    while (!end) flood.send(many);
  });
  std::thread reader([&] {
    while (!end && flood.receive()) flood.buffer().clear();
  });
  for (int i = 0; i < 20; ++i) {
    Client other(server.port());
    other.send(get("/a"));
    CHECK(other.read()->status == 200);
  }
  end = true;
  sender.join();
  flood.end_sending();
  reader.join();
}

TEST_CASE("a megabyte of chunks of one byte is taken") {
  auto server = serve();
  Client client(server.port());
  std::string body;
  for (int i = 0; i < 1 << 20; ++i) body += "1\r\nx\r\n";
  client.send(post("Transfer-Encoding: chunked\r\n", body + "0\r\n\r\n"));
  CHECK(json::parse(client.read()->body)["body"].get<std::string>().size() == 1 << 20);
}

// ---- browsers ----

http::ServerOptions for_pages(std::vector<std::string> origins) {
  http::ServerOptions options{.address = "127.0.0.1", .port = 0};
  options.gate = lets_b_pass;
  options.browsers.origins = std::move(origins);
  return options;
}

TEST_CASE("a preflight needs no key, and every error tells the page's browser that it may read") {
  http::Server server(for_pages({}), http_test::echo);
  const std::string page = "Origin: https://a.example\r\n";
  Client client(server.port());
  client.send("OPTIONS /a HTTP/1.1\r\nHost: x\r\n" + page +
              "Access-Control-Request-Method: POST\r\n"
              "Access-Control-Request-Headers: authorization,content-type,x-stainless-os\r\n\r\n");
  const auto preflight = client.read();
  CHECK(preflight->status == 204);
  CHECK(preflight->field("access-control-allow-origin") == "*");
  CHECK(preflight->field("access-control-allow-methods") == "POST");
  CHECK(preflight->field("access-control-allow-headers") ==
        "authorization,content-type,x-stainless-os");
  CHECK(preflight->field("access-control-max-age") == "7200");
  CHECK(preflight->field("access-control-allow-credentials").empty());
  for (const std::string& request :
       {get("/a", page), get("/b", page), post(page + "Content-Length: 9999999\r\n"),
        get("/b", page + "X : y\r\n"), get("/" + std::string(9000, 'a'), page)}) {
    Client other(server.port());
    other.send(request);
    const auto answer = other.read();
    INFO(answer->status);
    CHECK(answer->field("access-control-allow-origin") == "*");
    CHECK(answer->field("access-control-expose-headers") == "*");
  }
  Client program(server.port());
  program.send(get("/b"));
  CHECK(program.read()->field("access-control-allow-origin").empty());
}

TEST_CASE("of listed origins alone a page may read, also where its head was refused") {
  http::Server server(for_pages({"https://a.example", "http://localhost:5173"}), http_test::echo);
  const auto answer_to = [&](const std::string& request) {
    Client client(server.port());
    client.send(request);
    return *client.read();
  };
  const std::string lines = GENERATE("", "Nonsense\r\n");
  const auto answer = answer_to(get("/b", "Origin: https://A.example\r\n" + lines));
  CHECK(answer.field("access-control-allow-origin") == "https://A.example");
  CHECK(answer.field("vary") == "Origin");
  for (const char* origin : {"https://a.example.evil", "https://b.example", "null"}) {
    const std::string page = "Origin: " + std::string(origin) + "\r\n";
    CHECK(answer_to(get("/b", page + lines)).field("access-control-allow-origin").empty());
    CHECK(answer_to("OPTIONS /b HTTP/1.1\r\nHost: x\r\n" + page +
                    "Access-Control-Request-Method: GET\r\n\r\n")
              .status == 403);
  }
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
