// Requests in arbitrary pieces, and clients that leave at any byte.
#include "tests/router/http/feeding.h"

#include <catch2/catch.hpp>

#include "tests/router/http/smuggling_corpus.h"

namespace chorus {
namespace {

using http_test::feed;
using http_test::FeedPlan;

// Without what differs between two answers to the same request: the time and the request's id.
std::string comparable(std::string text) {
  const auto erase_behind = [&](const std::string& words, auto&& end_of) {
    for (size_t at = text.find(words); at != text.npos; at = text.find(words, at)) {
      at += words.size();
      text.erase(at, end_of(at) - at);
    }
  };
  const auto end_of_line = [&](size_t at) { return text.find('\r', at); };
  erase_behind("Date: ", end_of_line);
  erase_behind("X-Request-Id: ", end_of_line);
  erase_behind("request ",
               [&](size_t at) { return text.find_first_not_of("0123456789abcdef", at); });
  return text;
}

std::string get(const std::string& path) {
  return "GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n";
}

}  // namespace

TEST_CASE("how a request is cut into pieces changes nothing in its answer") {
  for (const auto& sent : http_test::smuggling_corpus()) {
    INFO(sent.name);
    const std::string bytes = sent.bytes + get("/s") + get("/canary");
    const auto whole = feed(bytes, {});
    CHECK(whole.ended);
    CHECK(http_test::fault_in_answers(whole.received, whole.calls, false).empty());
    for (uint32_t seed = 1; seed <= 3; ++seed) {
      const auto pieces = feed(bytes, {.seed = seed, .piece_bytes_max = seed * 7});
      CHECK(pieces.ended);
      CHECK(pieces.calls == whole.calls);
      CHECK(comparable(pieces.received) == comparable(whole.received));
    }
  }
}

// Beast aborts at the fourth byte of the first of these, if it is asked then.
TEST_CASE("chunks that come byte by byte are the body that they are at once") {
  for (const char* chunks :
       {"0\r\n\r\n", "0\r\nX: y\r\n\r\n", "000;x=\"y\"\r\n\r\n", "0\r\nh", "1\r\nh\r\n0\r\n\r\n",
        "x\r\n\r\n", "0\r\n\rX", "2\r\nhi\r\n\r\n", "3\r\n0\r\n\r\n0\r\n\r\n"}) {
    INFO(chunks);
    const std::string bytes =
        "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + std::string(chunks);
    const auto whole = feed(bytes, {}), pieces = feed(bytes, {.piece_bytes_max = 1});
    CHECK(pieces.ended);
    CHECK(pieces.calls == whole.calls);
    CHECK(comparable(pieces.received) == comparable(whole.received));
  }
}

TEST_CASE("a trailer that is too long is refused, however it comes") {
  for (const size_t length : {20'000, 70'000}) {
    INFO(length);
    const std::string bytes = get("/s") +
                              "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                              "0\r\nX: " +
                              std::string(length, 'x') + "\r\n\r\n";
    for (const size_t piece_bytes_max : {size_t{0}, size_t{3000}, size_t{60'000}}) {
      INFO(piece_bytes_max);
      const auto fed = feed(bytes, {.piece_bytes_max = piece_bytes_max});
      CHECK(fed.ended);
      CHECK(fed.calls == 1);
      CHECK(fed.received.find("HTTP/1.1 400 ") != fed.received.npos);
    }
  }
}

TEST_CASE("a client that leaves a stream at any byte ends its session") {
  const std::string request = get("/s");
  const size_t all = feed(request, {}).received.size();
  REQUIRE(all > 4000);
  for (size_t byte = 1; byte <= all; byte += byte < 700 ? 1 : 97) {
    INFO(byte);
    const auto fed = feed(request, {.leave_received = byte});
    CHECK(fed.ended);
    CHECK(fed.calls == 1);
  }
}

TEST_CASE("a client that leaves at any byte of its request ends its session, answered or not") {
  const std::string request = get("/w") +
                              "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                              "5\r\nhello\r\n0\r\nX: y\r\n\r\n";
  for (size_t byte = 0; byte <= request.size(); ++byte) {
    INFO(byte);
    const auto fed = feed(request, {.piece_bytes_max = 9, .leave_sent = byte});
    CHECK(fed.ended);
    CHECK(fed.calls <= 1);
  }
}

}  // namespace chorus
