// Requests that two readers could cut apart differently. Each is sent on a connection of its own,
// followed at once by a canary; "/smuggled" stands where a fooled server would find a request.
// The bar: one answer per request as RFC 9112 counts them, never one to "/smuggled", and a closed
// connection where the place of the next request is not certain.
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "router/http/server.h"
#include "tests/router/http/client.h"
#include "tests/router/http/echo.h"
#include "tests/router/http/smuggling_corpus.h"

namespace chorus {
namespace {

using http_test::Client;
using http_test::SmugglingCase;

const std::string kCanary = "GET /canary HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

// All answers on the connection, in order.
std::vector<http_test::Answer> answers_to(uint16_t port, const std::string& bytes, bool in_pieces) {
  Client client(port);
  if (in_pieces) {
    for (char c : bytes) client.send(std::string_view(&c, 1));
  } else {
    client.send(bytes);
  }
  std::vector<http_test::Answer> answers;
  while (auto answer = client.read()) answers.push_back(std::move(*answer));
  return answers;
}

void check(uint16_t port, const SmugglingCase& sent, bool in_pieces) {
  INFO(sent.name << (in_pieces ? ", byte by byte" : ""));
  const auto answers = answers_to(port, sent.bytes + kCanary, in_pieces);
  for (const auto& answer : answers) CHECK(answer.body.find("\"/smuggled\"") == std::string::npos);
  REQUIRE(answers.size() == (sent.status == 200 ? 2 : 1));
  CHECK(answers[0].status == sent.status);
  const auto first = nlohmann::json::parse(answers[0].body);
  if (sent.status == 200) {
    CHECK(first["path"] == "/a");
    CHECK(first["body"] == sent.body);
    CHECK(nlohmann::json::parse(answers[1].body)["path"] == "/canary");
  } else {
    CHECK(answers[0].field("connection") == "close");
    CHECK(first["error"]["message"].get<std::string>().size() > 10);
  }
}

TEST_CASE(
    "a request that could be cut apart in two ways is refused, and nothing after it is read") {
  http::Server server({.address = "127.0.0.1", .port = 0}, http_test::echo);
  const bool in_pieces = GENERATE(false, true);
  const auto cases = http_test::smuggling_corpus();
  CHECK(cases.size() >= 120);
  for (const SmugglingCase& sent : cases) check(server.port(), sent, in_pieces);
}

}  // namespace
}  // namespace chorus
