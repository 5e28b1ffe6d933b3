// The head alone, as facts; what is refused is tested over a socket in smuggling_test.cc.
#include "router/http/head_check.h"

#include <catch2/catch.hpp>

namespace chorus {
namespace {

using http::Framing;
using http::Head;
using http::scan_head;

Head head_of(const std::string& raw) {
  auto head = http::check_head(raw, {});
  REQUIRE(head);
  return std::move(*head);
}

TEST_CASE("a head becomes method, path, query and fields with lower-case names") {
  const Head head = head_of(
      "POST /v1/x?a=b HTTP/1.1\r\nHost: h:80\r\nX-Thing:  a b \t\r\nContent-Length: 12\r\n\r\n");
  CHECK(head.method == "POST");
  CHECK(head.path == "/v1/x");
  CHECK(head.query == "a=b");
  CHECK(head.version_minor == 1);
  REQUIRE(head.fields.size() == 3);
  CHECK(head.fields[1].name == "x-thing");
  CHECK(head.fields[1].value == "a b");
  CHECK(head.framing == Framing::length);
  CHECK(head.content_length == 12);
  CHECK(head.keep_alive);
  CHECK_FALSE(head.expect_continue);
}

TEST_CASE("targets come in four forms, of which three are taken") {
  const auto path = [](const std::string& target) {
    return head_of("OPTIONS " + target + " HTTP/1.1\r\nHost: x\r\n\r\n").path;
  };
  CHECK(path("*") == "*");
  CHECK(path("http://x") == "/");
  CHECK(path("HTTPS://x:1/a/b") == "/a/b");
  CHECK(path("http://[::1]:80?q") == "/");
  CHECK(path("//a") == "//a");
  CHECK_FALSE(http::check_head("CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", {}));
}

TEST_CASE("whether the connection is kept depends on version and options") {
  const auto kept = [](const std::string& version, const std::string& lines) {
    return head_of("GET / HTTP/" + version + "\r\nHost: x\r\n" + lines + "\r\n").keep_alive;
  };
  CHECK(kept("1.1", ""));
  CHECK_FALSE(kept("1.1", "Connection: close\r\n"));
  CHECK_FALSE(kept("1.1", "Connection: upgrade, CLOSE\r\n"));
  CHECK_FALSE(kept("1.1", "Connection: a\r\nConnection: close\r\n"));
  CHECK_FALSE(kept("1.0", ""));
  CHECK(kept("1.0", "Connection: Keep-Alive\r\n"));
  CHECK(kept("1.2", ""));
}

TEST_CASE("an expectation counts only where a body follows") {
  const auto expects = [](const std::string& lines) {
    return head_of("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-Continue\r\n" + lines + "\r\n")
        .expect_continue;
  };
  CHECK(expects("Content-Length: 1\r\n"));
  CHECK(expects("Transfer-Encoding: chunked\r\n"));
  CHECK_FALSE(expects(""));
}

TEST_CASE("the end of a head is found in any cut, and nonsense before it at once") {
  const std::string raw = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
  for (size_t size = 0; size < raw.size(); ++size) {
    const http::HeadScan scan = scan_head(raw.substr(0, size), {});
    CHECK(scan.head_bytes == 0);
    CHECK_FALSE(scan.error);
  }
  CHECK(scan_head(raw + "body", {}).head_bytes == raw.size());
  CHECK(scan_head("GET /\n", {}).error);
  CHECK(scan_head("GET /\rx", {}).error);
  CHECK(scan_head("\x16\x03", {}).error);
  CHECK(scan_head(std::string(99, 'G'), {.head_bytes = 100}).error == std::nullopt);
  CHECK(scan_head(std::string(100, 'G'), {.head_bytes = 100}).error->kind ==
        api::ErrorKind::head_too_large);
}

}  // namespace
}  // namespace chorus
