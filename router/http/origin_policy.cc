// The Fetch standard's side of the server. What is reflected (an origin from the list, a method and
// header names that are tokens) cannot break a header line.
#include "router/http/origin_policy.h"

#include <arpa/inet.h>

#include <algorithm>
#include <utility>

#include "router/api/errors.h"

namespace chorus::http {
namespace {

using api::ErrorKind;

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
}

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(),
                                            [](char x, char y) { return lower(x) == lower(y); });
}

bool is_token(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= '0' && c <= '9') || (lower(c) >= 'a' && lower(c) <= 'z') ||
           std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
  });
}

// "authorization, x-stainless-os": names, commas and blanks alone.
bool is_token_list(std::string_view text) {
  return !text.empty() && text.size() <= 4096 && std::all_of(text.begin(), text.end(), [](char c) {
    return c == ',' || c == ' ' || is_token(std::string_view(&c, 1));
  });
}

bool is_ip_address(std::string_view text) {
  const std::string address(text);
  in6_addr unused{};
  return inet_pton(AF_INET, address.c_str(), &unused) == 1 ||
         inet_pton(AF_INET6, address.c_str(), &unused) == 1;
}

// Without the port, and without the brackets of IPv6.
std::string_view name_of(std::string_view host) {
  if (host.starts_with('[')) return host.substr(1, host.find(']') - 1);
  return host.substr(0, host.rfind(':'));
}

}  // namespace

bool OriginPolicy::any_origin() const {
  return origins.empty() || std::find(origins.begin(), origins.end(), "*") != origins.end();
}

bool OriginPolicy::allows_origin(std::string_view origin) const {
  return any_origin() || std::any_of(origins.begin(), origins.end(), [&](const std::string& one) {
           return equal_ignoring_case(one, origin);
         });
}

bool OriginPolicy::allows_host(std::string_view host) const {
  const std::string_view name = name_of(host);
  if (name.empty() || is_ip_address(name) || equal_ignoring_case(name, "localhost")) return true;
  constexpr std::string_view kBelow = ".localhost";
  if (name.size() > kBelow.size() &&
      equal_ignoring_case(name.substr(name.size() - kBelow.size()), kBelow)) {
    return true;
  }
  return std::any_of(hosts.begin(), hosts.end(), [&](const std::string& one) {
    return one == "*" || equal_ignoring_case(one, name);
  });
}

std::optional<api::Response> OriginPolicy::judge(const api::Request& request) const {
  const std::string* host = request.find("host");
  if (check_host && host != nullptr && !allows_host(*host)) {
    return api::error_response(
        {.kind = ErrorKind::forbidden,
         .message = "the Host field names another machine than this server, which listens on a "
                    "loopback address; --allowed-host adds a name"});
  }
  const std::string* origin = request.find("origin");
  const std::string* method = request.find("access-control-request-method");
  if (request.method != "OPTIONS" || origin == nullptr || method == nullptr) return {};
  if (!allows_origin(*origin) || !is_token(*method)) {
    return api::error_response({.kind = ErrorKind::forbidden,
                                .message = "pages of this origin may not use the server; "
                                           "--cors-allow-origin adds one"});
  }
  api::Response response{.status = 204, .content_type = "", .body = ""};
  response.headers.push_back({"Access-Control-Allow-Methods", *method});
  const std::string* fields = request.find("access-control-request-headers");
  if (fields != nullptr && is_token_list(*fields)) {
    response.headers.push_back({"Access-Control-Allow-Headers", *fields});
  }
  response.headers.push_back({"Access-Control-Max-Age", "7200"});
  response.headers.push_back(
      {"Vary", "Access-Control-Request-Method, Access-Control-Request-Headers"});
  return response;
}

void OriginPolicy::append_fields(std::string& head, const std::string* origin) const {
  if (!any_origin()) head += "Vary: Origin\r\n";
  if (origin == nullptr || !allows_origin(*origin)) return;
  head += "Access-Control-Allow-Origin: ";
  head += any_origin() ? std::string_view("*") : std::string_view(*origin);
  head += "\r\nAccess-Control-Expose-Headers: *\r\n";
}

std::string origin_of(std::string_view raw_head) {
  constexpr std::string_view kField = "\r\norigin:";
  const auto found = std::search(raw_head.begin(), raw_head.end(), kField.begin(), kField.end(),
                                 [](char a, char b) { return lower(a) == b; });
  if (found == raw_head.end()) return {};
  std::string_view value =
      raw_head.substr(static_cast<size_t>(found - raw_head.begin()) + kField.size());
  value = value.substr(0, value.find_first_of("\r\n"));
  while (value.starts_with(' ')) value.remove_prefix(1);
  while (value.ends_with(' ')) value.remove_suffix(1);
  return std::string(value);
}

}  // namespace chorus::http
