// Reads the head of a request as RFC 9112 says, and refuses what it leaves to taste: two readers
// of one connection (a proxy and we) must never disagree about where a request ends. Pure: bytes
// in, facts out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <vector>

#include "router/api/errors.h"
#include "router/api/exchange.h"

namespace chorus::http {

struct HeadLimits {
  size_t head_bytes = 32 * 1024;
  size_t fields = 100;
  size_t target_bytes = 8 * 1024;
};

enum class Framing : uint8_t { none, length, chunked };

struct Head {
  std::string method;
  std::string path;  // origin form; "*" for OPTIONS *
  std::string query;
  int version_minor = 1;                 // HTTP/1.x
  std::vector<api::HeaderField> fields;  // names in lower case, values without outer blanks
  Framing framing = Framing::none;
  uint64_t content_length = 0;
  bool keep_alive = true;
  bool expect_continue = false;
};

// Where the head in `bytes` ends.
struct HeadScan {
  size_t head_bytes = 0;  // with the empty line; 0: not complete yet
  // Something that can never become a head: tells without waiting for more.
  std::optional<api::Error> error;
};
HeadScan scan_head(std::string_view bytes, const HeadLimits& limits);

// `raw` is a whole head with its empty line. After an error the connection must close: where the
// next request starts is not known.
tl::expected<Head, api::Error> check_head(std::string_view raw, const HeadLimits& limits);

}  // namespace chorus::http
