// Requests that two readers could cut apart differently. Each is sent on a connection of its own,
// followed at once by a canary; "/smuggled" stands where a fooled server would find a request.
// The bar: one answer per request as RFC 9112 counts them, never one to "/smuggled", and a closed
// connection where the place of the next request is not certain.
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "router/http/server.h"
#include "tests/router/http/client.h"
#include "tests/router/http/echo.h"

namespace chorus {
namespace {

using http_test::Client;

struct Case {
  const char* name;
  std::string bytes;
  int status;        // of the only answer; 200: taken, and the canary is answered too
  const char* body;  // what the server must have read as the body, where taken
};

const std::string kSmuggled = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
const std::string kCanary = "GET /canary HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

// A POST with these header lines, "Host: x" before them.
std::string post(const std::string& lines, const std::string& body) {
  return "POST /a HTTP/1.1\r\nHost: x\r\n" + lines + "\r\n" + body;
}
std::string get(const std::string& lines) {
  return "GET /a HTTP/1.1\r\n" + lines + "\r\n";
}

const std::string kNul(1, '\0');
const std::string kChunkedBody = "5\r\nhello\r\n0\r\n\r\n";
const std::string kTe = "Transfer-Encoding: chunked\r\n";

std::vector<Case> transfer_codings() {
  const std::string hidden = "0\r\n\r\n" + kSmuggled;
  return {
      {"chunked", post(kTe, kChunkedBody), 200, "hello"},
      {"chunked in capitals", post("TRANSFER-ENCODING: CHUNKED\r\n", kChunkedBody), 200, "hello"},
      {"xchunked", post("Transfer-Encoding: xchunked\r\n", hidden), 501, ""},
      {"chunked, gzip", post("Transfer-Encoding: chunked, gzip\r\n", hidden), 400, ""},
      {"gzip, chunked", post("Transfer-Encoding: gzip, chunked\r\n", hidden), 501, ""},
      {"gzip", post("Transfer-Encoding: gzip\r\n", hidden), 400, ""},
      {"identity", post("Transfer-Encoding: identity\r\n", hidden), 501, ""},
      {"identity with a length",
       post("Transfer-Encoding: identity\r\nContent-Length: 0\r\n", kSmuggled), 400, ""},
      {"gzip before a length", post("Transfer-Encoding: gzip\r\nContent-Length: 5\r\n", "hello"),
       400, ""},
      {"cow", post("Transfer-Encoding: cow\r\n", hidden), 501, ""},
      {"chunked twice in a list", post("Transfer-Encoding: chunked, chunked\r\n", hidden), 400, ""},
      {"two chunked fields", post(kTe + kTe, hidden), 400, ""},
      {"gzip and chunked in two fields", post("Transfer-Encoding: gzip\r\n" + kTe, hidden), 400,
       ""},
      {"chunked and identity in two fields", post(kTe + "Transfer-Encoding: identity\r\n", hidden),
       400, ""},
      {"an empty coding", post("Transfer-Encoding:\r\n", hidden), 400, ""},
      {"chunked after an empty element", post("Transfer-Encoding: , chunked\r\n", hidden), 501, ""},
      {"chunked before an empty element", post("Transfer-Encoding: chunked,\r\n", hidden), 501, ""},
      {"chunked in quotes", post("Transfer-Encoding: \"chunked\"\r\n", hidden), 501, ""},
      {"chunked with a parameter", post("Transfer-Encoding: chunked;a=b\r\n", hidden), 501, ""},
      {"chunked behind a vertical tab",
       post("Transfer-Encoding: \x0b"
            "chunked\r\n",
            hidden),
       400, ""},
      {"chunked behind a tab", post("Transfer-Encoding:\tchunked\r\n", kChunkedBody), 200, "hello"},
      {"chunked before blanks", post("Transfer-Encoding: chunked \t \r\n", kChunkedBody), 200,
       "hello"},
      {"a space before the colon", post("Transfer-Encoding : chunked\r\n", hidden), 400, ""},
      {"a tab before the colon", post("Transfer-Encoding\t: chunked\r\n", hidden), 400, ""},
      {"an underscore for the dash",
       post("Transfer_Encoding: chunked\r\nContent-Length: 5\r\n", "hello"), 200, "hello"},
      {"a folded coding", post("Transfer-Encoding:\r\n chunked\r\n", hidden), 400, ""},
      {"a coding hidden in a fold",
       post("X: y\r\n Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "hello"), 400, ""},
      {"a coding behind a bare CR", post("X: y\rTransfer-Encoding: chunked\r\n", hidden), 400, ""},
      {"a coding behind a bare LF", post("X: y\nTransfer-Encoding: chunked\r\n", hidden), 400, ""},
      {"a coding behind NUL", post("X: y" + kNul + "Transfer-Encoding: chunked\r\n", hidden), 400,
       ""},
      {"in HTTP/1.0", "POST /a HTTP/1.0\r\nHost: x\r\n" + kTe + "\r\n" + hidden, 400, ""},
      {"chunked with a length", post(kTe + "Content-Length: 5\r\n", hidden), 400, ""},
      {"a length with chunked", post("Content-Length: 5\r\n" + kTe, hidden), 400, ""},
      {"chunked with a length of zero", post("Content-Length: 0\r\n" + kTe, hidden), 400, ""},
  };
}

std::vector<Case> lengths() {
  const auto length = [](const std::string& value) { return "Content-Length: " + value + "\r\n"; };
  return {
      {"a length", post(length("5"), "hello"), 200, "hello"},
      {"a length of zero", post(length("0"), ""), 200, ""},
      {"leading zeros", post(length("005"), "hello"), 200, "hello"},
      {"no length at all", post("", ""), 200, ""},
      {"two lengths", post(length("0") + length("5"), "hello"), 400, ""},
      {"two equal lengths", post(length("5") + length("5"), "hello"), 400, ""},
      {"a list of lengths", post(length("5, 5"), "hello"), 400, ""},
      {"a list of different lengths", post(length("0, 35"), kSmuggled), 400, ""},
      {"a signed length", post(length("+5"), "hello"), 400, ""},
      {"a negative length", post(length("-1"), kSmuggled), 400, ""},
      {"a hexadecimal length", post(length("0x5"), "hello"), 400, ""},
      {"a fractional length", post(length("5.0"), "hello"), 400, ""},
      {"a length with a blank inside", post(length("1 5"), "hello"), 400, ""},
      {"a length with an underscore", post(length("1_5"), "hello"), 400, ""},
      {"an empty length", post("Content-Length:\r\n", kSmuggled), 400, ""},
      {"a length beyond 64 bits", post(length("18446744073709551621"), "hello"), 400, ""},
      {"a length in other digits", post(length("\xD9\xA5"), "hello"), 400, ""},
      {"a length behind NUL", post("Content-Length: " + kNul + "5\r\n", "hello"), 400, ""},
      {"a space before the length's colon", post("Content-Length : 5\r\n", "hello"), 400, ""},
      {"a folded length", post("Content-Length:\r\n 5\r\n", "hello"), 400, ""},
      {"a length with a vertical tab", post("Content-Length: 5\x0b\r\n", "hello"), 400, ""},
      {"a GET with a body", get("Host: x\r\nContent-Length: 35\r\n") + kSmuggled, 200,
       "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"},
  };
}

std::vector<Case> hosts_and_lines() {
  return {
      {"a plain GET", get("Host: x\r\n"), 200, ""},
      {"no Host", get(""), 400, ""},
      {"two Hosts", get("Host: x\r\nHost: y\r\n"), 400, ""},
      {"two equal Hosts", get("Host: x\r\nHost: x\r\n"), 400, ""},
      {"an empty Host", get("Host:\r\n"), 200, ""},
      {"a Host with a path", get("Host: x/y\r\n"), 400, ""},
      {"a Host with a user", get("Host: a@x\r\n"), 400, ""},
      {"a Host list", get("Host: x, y\r\n"), 400, ""},
      {"a Host with blanks", get("Host: x y\r\n"), 400, ""},
      {"a Host with a bad port", get("Host: x:80a\r\n"), 400, ""},
      {"a Host that is IPv6", get("Host: [::1]:3000\r\n"), 200, ""},
      {"a Host that is half IPv6", get("Host: [::1\r\n"), 400, ""},
      {"a fold before the first field", "GET /a HTTP/1.1\r\n X: y\r\nHost: x\r\n\r\n", 400, ""},
      {"a folded field", get("Host: x\r\nX: a\r\n b\r\n"), 400, ""},
      {"a field without a colon", get("Host: x\r\nNonsense\r\n"), 400, ""},
      {"a field without a name", get("Host: x\r\n: y\r\n"), 400, ""},
      {"a name with a blank", get("Host: x\r\nA B: y\r\n"), 400, ""},
      {"a name with a bracket", get("Host: x\r\nA(B): y\r\n"), 400, ""},
      {"a name above ASCII", get("Host: x\r\nX\xC3\xA9: y\r\n"), 400, ""},
      {"a value with DEL", get("Host: x\r\nX: a\x7f\r\n"), 400, ""},
      {"a value with ESC", get("Host: x\r\nX: a\x1b[0m\r\n"), 400, ""},
      {"a value above ASCII", get("Host: x\r\nX: \xC3\xA9\r\n"), 200, ""},
      {"bare LF everywhere", "GET /a HTTP/1.1\nHost: x\n\n", 400, ""},
      {"bare LF at the end", "GET /a HTTP/1.1\r\nHost: x\r\n\n", 400, ""},
      {"a bare CR in the request line", "GET /a\r HTTP/1.1\r\nHost: x\r\n\r\n", 400, ""},
      {"no version", "GET /a\r\nHost: x\r\n\r\n", 400, ""},
      {"two blanks in the request line", "GET  /a HTTP/1.1\r\nHost: x\r\n\r\n", 400, ""},
      {"a blank in the target", "GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", 400, ""},
      {"a tab in the request line", "GET\t/a HTTP/1.1\r\nHost: x\r\n\r\n", 400, ""},
      {"a blank before the method", " GET /a HTTP/1.1\r\nHost: x\r\n\r\n", 400, ""},
      {"a blank behind the version", "GET /a HTTP/1.1 \r\nHost: x\r\n\r\n", 400, ""},
      {"a method that is no token", "G@T /a HTTP/1.1\r\nHost: x\r\n\r\n", 400, ""},
      {"a lower-case version", "GET /a http/1.1\r\nHost: x\r\n\r\n", 400, ""},
      {"a version of three digits", "GET /a HTTP/1.10\r\nHost: x\r\n\r\n", 400, ""},
      {"HTTP/0.9 with a version", "GET /a HTTP/0.9\r\nHost: x\r\n\r\n", 505, ""},
      {"HTTP/2.0", "GET /a HTTP/2.0\r\nHost: x\r\n\r\n", 505, ""},
      {"HTTP/2's preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, ""},
      {"the start of a TLS connection",
       std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11), 400, ""},
      {"a target with a fragment", "GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n", 400, ""},
      {"a target with NUL", "GET /a" + kNul + " HTTP/1.1\r\nHost: x\r\n\r\n", 400, ""},
      {"a target above ASCII", "GET /\xC3\xA9 HTTP/1.1\r\nHost: x\r\n\r\n", 400, ""},
      {"a target with half an escape", "GET /a%2 HTTP/1.1\r\nHost: x\r\n\r\n", 400, ""},
      {"a target with a backslash", "GET /a\\b HTTP/1.1\r\nHost: x\r\n\r\n", 400, ""},
      {"a target without a slash", "GET a HTTP/1.1\r\nHost: x\r\n\r\n", 400, ""},
      {"an absolute target", "GET http://x/a HTTP/1.1\r\nHost: x\r\n\r\n", 200, ""},
      {"an absolute target of another scheme", "GET ftp://x/a HTTP/1.1\r\nHost: x\r\n\r\n", 400,
       ""},
      {"CONNECT", "CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n", 400, ""},
      {"a GET of *", "GET * HTTP/1.1\r\nHost: x\r\n\r\n", 400, ""},
      {"an empty line before", "\r\nGET /a HTTP/1.1\r\nHost: x\r\n\r\n", 200, ""},
      {"two empty lines before", "\r\n\r\nGET /a HTTP/1.1\r\nHost: x\r\n\r\n", 400, ""},
      {"an expectation nobody knows", post("Expect: tea\r\nContent-Length: 5\r\n", "hello"), 417,
       ""},
  };
}

std::vector<Case> chunks() {
  const auto chunked = [](const std::string& body) { return post(kTe, body); };
  return {
      {"several chunks", chunked("2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"), 200, "hello"},
      {"a chunk in capitals", chunked("A\r\n0123456789\r\n0\r\n\r\n"), 200, "0123456789"},
      {"a chunk with an extension", chunked("5;a=b\r\nhello\r\n0\r\n\r\n"), 200, "hello"},
      {"a trailer", chunked("5\r\nhello\r\n0\r\nX: y\r\n\r\n"), 200, "hello"},
      {"a chunk of 0x5", chunked("0x5\r\nhello\r\n0\r\n\r\n"), 400, ""},
      {"a signed chunk", chunked("+5\r\nhello\r\n0\r\n\r\n"), 400, ""},
      {"a negative chunk", chunked("-5\r\nhello\r\n0\r\n\r\n"), 400, ""},
      {"a chunk without a size", chunked("\r\nhello\r\n0\r\n\r\n"), 400, ""},
      {"a chunk size that overflows", chunked("10000000000000005\r\nhello\r\n0\r\n\r\n"), 400, ""},
      {"a chunk that ends late", chunked("4\r\nhello\r\n0\r\n\r\n"), 400, ""},
      {"a chunk that ends early", chunked("6\r\nhello\r\n0\r\n\r\n"), 400, ""},
      {"a chunk line with bare LF", chunked("5\nhello\r\n0\r\n\r\n"), 400, ""},
      {"an extension with bare LF", chunked("5;a\nhello\r\n0\r\n\r\n"), 400, ""},
      {"an extension value with bare LF", chunked("5;a=\"\n\"\r\nhello\r\n0\r\n\r\n"), 400, ""},
      {"chunk data with bare LF", chunked("5\r\nhello\n0\r\n\r\n"), 400, ""},
      {"a last chunk with bare LF", chunked("5\r\nhello\r\n0\n\r\n"), 400, ""},
      {"a chunk size with a blank before", chunked(" 5\r\nhello\r\n0\r\n\r\n"), 400, ""},
      {"a trailer that repeats the framing", chunked("0\r\nContent-Length: 35\r\n\r\n"), 400, ""},
      {"an extension with a bare CR", chunked("5;a=\"\r\"\r\nhello\r\n0\r\n\r\n"), 400, ""},
      {"an extension with NUL", chunked("5;a=\"" + kNul + "\"\r\nhello\r\n0\r\n\r\n"), 400, ""},
      {"a trailer with bare LF", chunked("0\r\nX: y\nZ: w\r\n\r\n"), 400, ""},
      {"a trailer with a bare CR", chunked("0\r\nX: y\rZ: w\r\n\r\n"), 400, ""},
      {"a trailer with a blank before its colon", chunked("0\r\nX : y\r\n\r\n"), 400, ""},
      {"a trailer that is a request", chunked("0\r\n" + kSmuggled), 400, ""},
      {"a trailer that is folded", chunked("0\r\nX: y\r\n z\r\n\r\n"), 200, ""},
  };
}

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

void check(uint16_t port, const Case& sent, bool in_pieces) {
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
  const auto cases = GENERATE(transfer_codings(), lengths(), hosts_and_lines(), chunks());
  const bool in_pieces = GENERATE(false, true);
  for (const Case& sent : cases) check(server.port(), sent, in_pieces);
}

TEST_CASE("there are at least a hundred and twenty such requests") {
  CHECK(transfer_codings().size() + lengths().size() + hosts_and_lines().size() + chunks().size() >=
        120);
}

}  // namespace
}  // namespace chorus
