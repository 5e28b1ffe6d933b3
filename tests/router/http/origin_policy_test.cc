#include "router/http/origin_policy.h"

#include <catch2/catch.hpp>

namespace chorus::http {

TEST_CASE("on a loopback address Host must be this machine's, whatever DNS says") {
  OriginPolicy policy{.check_host = true, .hosts = {"models.lan"}};
  for (const char* host : {"localhost", "localhost:3000", "LOCALHOST:1", "127.0.0.1:3000", "[::1]",
                           "[::1]:3000", "10.0.0.7", "app.localhost:80", "", "models.lan:3000"}) {
    INFO(host);
    CHECK(policy.allows_host(host));
  }
  for (const char* host :
       {"evil.example", "evil.example:3000", "localhost.evil.example", "127.0.0.1.evil.example",
        "evillocalhost", ".localhost", "models.lan.x", "xmodels.lan"}) {
    INFO(host);
    CHECK_FALSE(policy.allows_host(host));
  }
  api::Request request;
  request.method = "GET";
  request.fields = {{"host", "evil.example"}};
  CHECK(policy.judge(request)->status == 403);
  policy.hosts = {"*"};
  CHECK_FALSE(policy.judge(request));
  CHECK_FALSE(OriginPolicy{}.judge(request));
}

TEST_CASE("what a preflight asks for is reflected only where it cannot break a line") {
  api::Request request;
  request.method = "OPTIONS";
  request.fields = {{"origin", "https://a.example"}, {"access-control-request-method", "POST"}};
  CHECK(OriginPolicy{}.judge(request)->status == 204);
  request.fields.push_back({"access-control-request-headers", "x-a, x-b;q=1"});
  const auto answer = OriginPolicy{}.judge(request);
  for (const auto& field : answer->headers) {
    CHECK(field.name != "Access-Control-Allow-Headers");
  }
  request.fields[1].value = "PO ST";
  CHECK(OriginPolicy{}.judge(request)->status == 403);
  request.method = "POST";  // no preflight
  CHECK_FALSE(OriginPolicy{}.judge(request));
}

TEST_CASE("the origin of a refused head is found in its bytes") {
  CHECK(origin_of("GET / HTTP/1.1\r\nHost: x\r\nORIGIN:  https://a \r\nBad\r\n") == "https://a");
  CHECK(origin_of("GET / HTTP/1.1\r\nX-Origin: https://a\r\n").empty());
  CHECK(origin_of("GET / HTTP/1.1\r\nOrigin: ").empty());
  CHECK(origin_of("").empty());
}

}  // namespace chorus::http
