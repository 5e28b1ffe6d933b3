// Beast 1.81 takes, among others, `Transfer-Encoding: xchunked` and `chunked, gzip` with an empty
// body, two Host fields, and folded lines; behind a proxy each is a way to smuggle a request. So
// the head is read here first, strictly, and what Beast reads afterwards has passed.
#include "router/http/head_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

namespace chorus::http {
namespace {

using api::Error;
using api::ErrorKind;
using Refusal = std::optional<Error>;

Error bad(std::string message) {
  return {.kind = ErrorKind::invalid_request, .message = std::move(message)};
}

bool is_token_char(char c) {
  if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')) return true;
  return c != '\0' && std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
}

bool is_token(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), is_token_char);
}

// Visible ASCII but what no URI contains bare; bytes above 0x7F must come escaped.
bool is_target_char(char c) {
  if (c <= ' ' || c >= 0x7F) return false;
  return std::string_view("\"<>\\^`{|}#").find(c) == std::string_view::npos;
}

bool is_value_char(char c) {  // bytes above 0x7F are obs-text: let through, never interpreted
  const auto byte = static_cast<unsigned char>(c);
  return byte == '\t' || (byte >= 0x20 && byte != 0x7F);
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  }
  return out;
}

std::string_view trim(std::string_view text) {
  const auto blank = [](char c) { return c == ' ' || c == '\t'; };
  while (!text.empty() && blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && blank(text.back())) text.remove_suffix(1);
  return text;
}

// The elements of a comma-separated list, empty ones included.
std::vector<std::string_view> split_list(std::string_view text) {
  std::vector<std::string_view> out;
  for (;;) {
    const size_t comma = text.find(',');
    out.push_back(trim(text.substr(0, comma)));
    if (comma == text.npos) return out;
    text.remove_prefix(comma + 1);
  }
}

bool escapes_are_whole(std::string_view target) {
  const auto hex = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
  };
  for (size_t i = 0; i < target.size(); ++i) {
    if (target[i] != '%') continue;
    if (i + 2 >= target.size() || !hex(target[i + 1]) || !hex(target[i + 2])) return false;
  }
  return true;
}

// uri-host [":" port], loosely: enough that it cannot be mistaken for anything else.
bool is_host(std::string_view host) {
  std::string_view port;
  if (host.starts_with('[')) {
    const size_t end = host.find(']');
    if (end == host.npos) return false;
    const std::string_view address = host.substr(1, end - 1);
    const bool hex = !address.empty() && address.find_first_not_of("0123456789abcdefABCDEF:.v") ==
                                             std::string_view::npos;
    if (!hex) return false;
    port = host.substr(end + 1);
  } else {
    const size_t colon = host.find(':');
    const std::string_view name = host.substr(0, colon);
    if (!std::all_of(name.begin(), name.end(), [](char c) {
          return is_target_char(c) && std::string_view("/?@[],").find(c) == std::string_view::npos;
        })) {
      return false;
    }
    if (colon != host.npos) port = host.substr(colon);
  }
  if (port.empty()) return true;
  return port[0] == ':' && port.find_first_not_of("0123456789", 1) == port.npos && port.size() <= 6;
}

// ---- the request line ----

Refusal read_version(std::string_view text, Head& head) {
  const bool form = text.size() == 8 && text.starts_with("HTTP/") && text[6] == '.' &&
                    text[5] >= '0' && text[5] <= '9' && text[7] >= '0' && text[7] <= '9';
  if (!form) return bad("the request line must end in HTTP/1.1");
  if (text[5] != '1') {
    return Error{.kind = ErrorKind::http_version,
                 .message = "this port speaks HTTP/1.1 and HTTP/1.0"};
  }
  head.version_minor = text[7] == '0' ? 0 : 1;  // a later 1.x is spoken to as 1.1
  return {};
}

Refusal read_target(std::string_view target, Head& head) {
  if (target.empty()) return bad("the request target is empty");
  if (!std::all_of(target.begin(), target.end(), is_target_char)) {
    return bad("the request target holds a character that no URI has");
  }
  if (!escapes_are_whole(target)) return bad("the request target holds an incomplete % escape");
  if (target == "*") {
    if (head.method != "OPTIONS") return bad("the target * is for OPTIONS");
    head.path = target;
    return {};
  }
  if (!target.starts_with('/')) {  // absolute form: what proxies are sent, and servers must take
    const std::string scheme = lower(target.substr(0, 8));
    const size_t skip = scheme.starts_with("http://") ? 7 : scheme == "https://" ? 8 : 0;
    if (skip == 0) return bad("the request target must be a path or an absolute http URI");
    const size_t authority_end = target.find_first_of("/?", skip);
    const std::string_view authority = target.substr(skip, authority_end - skip);
    if (authority.empty() || !is_host(authority))
      return bad("the request target's host is not one");
    target = authority_end == target.npos ? std::string_view() : target.substr(authority_end);
  }
  const size_t question = target.find('?');
  head.path = target.substr(0, question);
  if (head.path.empty()) head.path = "/";
  if (question != target.npos) head.query = target.substr(question + 1);
  return {};
}

Refusal read_request_line(std::string_view line, const HeadLimits& limits, Head& head) {
  const size_t first = line.find(' ');
  const size_t last = line.rfind(' ');
  if (first == line.npos || first == last) {
    return bad("the request line must be: method, space, target, space, HTTP/1.1");
  }
  const std::string_view method = line.substr(0, first);
  if (!is_token(method) || method.size() > 32) return bad("the request's method is not a token");
  head.method = method;
  const std::string_view target = line.substr(first + 1, last - first - 1);
  if (target.size() > limits.target_bytes) {
    return Error{
        .kind = ErrorKind::head_too_large,
        .message = fmt::format("the request target is longer than {} bytes", limits.target_bytes)};
  }
  // The version first: HTTP/2's preface is "PRI * HTTP/2.0".
  if (Refusal refusal = read_version(line.substr(last + 1), head)) return refusal;
  return read_target(target, head);
}

// ---- fields ----

Refusal read_field(std::string_view line, Head& head) {
  if (line.starts_with(' ') || line.starts_with('\t')) {
    return bad("folded header fields are not taken");
  }
  const size_t colon = line.find(':');
  if (colon == line.npos) return bad("a header field has no colon");
  if (!is_token(line.substr(0, colon))) {
    return bad("a header field's name is not a token (no space may stand before the colon)");
  }
  const std::string_view value = trim(line.substr(colon + 1));
  if (!std::all_of(value.begin(), value.end(), is_value_char)) {
    return bad("a header field's value holds a control character");
  }
  head.fields.push_back({lower(line.substr(0, colon)), std::string(value)});
  return {};
}

std::vector<std::string_view> values_of(const Head& head, std::string_view name) {
  std::vector<std::string_view> values;
  for (const api::HeaderField& field : head.fields) {
    if (field.name == name) values.push_back(field.value);
  }
  return values;
}

// All elements of a list field, over all its lines; empty elements say nothing.
std::vector<std::string> list_of(const Head& head, std::string_view name) {
  std::vector<std::string> out;
  for (std::string_view value : values_of(head, name)) {
    for (std::string_view element : split_list(value)) {
      if (!element.empty()) out.push_back(lower(element));
    }
  }
  return out;
}

// ---- framing (RFC 9112, section 6) ----

Refusal read_transfer_encoding(const std::vector<std::string_view>& values, Head& head) {
  if (head.version_minor == 0) return bad("HTTP/1.0 has no Transfer-Encoding");
  if (!values_of(head, "content-length").empty()) {
    return bad("Transfer-Encoding and Content-Length do not go together");
  }
  if (values.size() > 1) return bad("there is more than one Transfer-Encoding field");
  const std::vector<std::string_view> codings = split_list(values[0]);
  bool known = true;
  size_t chunked = 0;
  for (std::string_view coding : codings) {
    const std::string name = lower(coding);
    if (name == "chunked") ++chunked;
    constexpr std::array<std::string_view, 6> kCodings = {"chunked", "gzip",     "x-gzip",
                                                          "deflate", "compress", "x-compress"};
    known = known && std::find(kCodings.begin(), kCodings.end(), name) != kCodings.end();
  }
  if (codings.size() == 1 && codings[0].empty()) return bad("Transfer-Encoding is empty");
  if (!known) {
    return Error{.kind = ErrorKind::not_implemented,
                 .message = "of the transfer codings only chunked is known here"};
  }
  if (chunked != 1 || lower(codings.back()) != "chunked") {
    return bad("chunked must be the last transfer coding, and once");
  }
  if (codings.size() > 1) {
    return Error{.kind = ErrorKind::not_implemented,
                 .message = "of the transfer codings only chunked is known here"};
  }
  head.framing = Framing::chunked;
  return {};
}

Refusal read_content_length(const std::vector<std::string_view>& values, Head& head) {
  std::optional<uint64_t> length;
  for (std::string_view value : values) {
    for (std::string_view element : split_list(value)) {
      if (element.empty() || element.find_first_not_of("0123456789") != element.npos ||
          element.size() > 18) {
        return bad("Content-Length must be a decimal number");
      }
      uint64_t number = 0;
      for (char c : element) number = number * 10 + static_cast<uint64_t>(c - '0');
      if (length && *length != number) return bad("the Content-Length fields differ");
      length = number;
    }
  }
  // RFC 9110 allows "5, 5" to be read as 5; whoever sends it has joined two messages' heads.
  if (values.size() > 1 || values[0].find(',') != values[0].npos) {
    return bad("there is more than one Content-Length");
  }
  head.framing = Framing::length;
  head.content_length = *length;
  return {};
}

Refusal read_framing(Head& head) {
  if (auto values = values_of(head, "transfer-encoding"); !values.empty()) {
    return read_transfer_encoding(values, head);
  }
  if (auto values = values_of(head, "content-length"); !values.empty()) {
    return read_content_length(values, head);
  }
  return {};
}

Refusal check_host(const Head& head) {
  const std::vector<std::string_view> hosts = values_of(head, "host");
  if (hosts.size() > 1) return bad("there is more than one Host field");
  if (hosts.empty()) {
    if (head.version_minor == 0) return {};
    return bad("the Host field is missing");
  }
  if (!is_host(hosts[0])) return bad("the Host field is not a host");
  return {};
}

Refusal read_connection(Head& head) {
  const std::vector<std::string> options = list_of(head, "connection");
  const auto has = [&](std::string_view option) {
    return std::find(options.begin(), options.end(), option) != options.end();
  };
  head.keep_alive = head.version_minor == 0 ? has("keep-alive") : true;
  if (has("close")) head.keep_alive = false;
  const std::vector<std::string_view> expect = values_of(head, "expect");
  if (expect.empty() || head.version_minor == 0) return {};  // 1.0 knows no Expect: ignored
  if (expect.size() > 1 || lower(expect[0]) != "100-continue") {
    return Error{.kind = ErrorKind::expectation,
                 .message = "of all expectations only 100-continue is met"};
  }
  head.expect_continue = head.framing != Framing::none;
  return {};
}

}  // namespace

HeadScan scan_head(std::string_view bytes, const HeadLimits& limits) {
  const std::string_view seen = bytes.substr(0, limits.head_bytes);
  if (!seen.empty() && !is_token_char(seen[0])) {
    return {.head_bytes = 0, .error = bad("this is not an HTTP request")};
  }
  for (size_t at = seen.find_first_of("\r\n"); at != seen.npos;
       at = seen.find_first_of("\r\n", at)) {
    if (seen[at] == '\n') return {.head_bytes = 0, .error = bad("a line ends without CR")};
    if (at + 1 == seen.size()) break;
    if (seen[at + 1] != '\n') return {.head_bytes = 0, .error = bad("a CR is not followed by LF")};
    if (seen.substr(at).starts_with("\r\n\r\n")) return {.head_bytes = at + 4, .error = {}};
    at += 2;
  }
  if (bytes.size() < limits.head_bytes) return {};
  return {.head_bytes = 0,
          .error = Error{.kind = ErrorKind::head_too_large,
                         .message = fmt::format("the request's head is longer than {} bytes",
                                                limits.head_bytes)}};
}

tl::expected<Head, Error> check_head(std::string_view raw, const HeadLimits& limits) {
  Head head;
  size_t line_end = raw.find("\r\n");
  if (line_end == raw.npos) return tl::unexpected(bad("this is not an HTTP request"));
  Refusal refusal = read_request_line(raw.substr(0, line_end), limits, head);
  raw.remove_prefix(line_end + 2);
  while (!refusal && !raw.empty() && !raw.starts_with("\r\n")) {
    line_end = raw.find("\r\n");
    if (line_end == raw.npos) return tl::unexpected(bad("the head is not complete"));
    if (head.fields.size() == limits.fields) {
      refusal =
          Error{.kind = ErrorKind::head_too_large,
                .message = fmt::format("there are more than {} header fields", limits.fields)};
      break;
    }
    refusal = read_field(raw.substr(0, line_end), head);
    raw.remove_prefix(line_end + 2);
  }
  for (Refusal (*next)(Head&) :
       {+[](Head& h) { return check_host(h); }, read_framing, read_connection}) {
    if (refusal) break;
    refusal = next(head);
  }
  if (refusal) return tl::unexpected(std::move(*refusal));
  return head;
}

}  // namespace chorus::http
