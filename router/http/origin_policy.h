// What browsers ask of a server, and what protects it from pages that they show. Pure.
//
// CORS: a page of an allowed origin may read our answers; never with credentials (cookies), so that
// "any origin" gives a page nothing that its own server could not fetch. A key travels in a header
// that the page's script sets, which is allowed.
// Host: a server on a loopback address is reached by pages through a name that resolves to
// 127.0.0.1 (DNS rebinding), where the browser sees one origin and CORS does not count. Such a
// request carries the foreign name in Host.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "router/api/exchange.h"

namespace chorus::http {

struct OriginPolicy {
  std::vector<std::string> origins = {};  // "https://chat.example.org"; empty, or "*" in it: any
  bool check_host = false;
  std::vector<std::string> hosts = {};  // names beside localhost that Host may hold

  bool any_origin() const;
  bool allows_origin(std::string_view origin) const;
  bool allows_host(std::string_view host) const;  // "name:port"

  // The answer to a preflight, or to a request whose Host is foreign.
  std::optional<api::Response> judge(const api::Request& request) const;
  // Adds the header lines that every answer needs. `origin`: the request's, nullptr: none.
  void append_fields(std::string& head, const std::string* origin) const;
};

// The Origin field of a head that is refused and may be malformed; empty where there is none.
std::string origin_of(std::string_view raw_head);

}  // namespace chorus::http
