// What can be wrong with a request, and the one place where that becomes a status and a body.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "router/api/exchange.h"

namespace chorus::api {

// DESIGN.md, "Statuses and exit codes", is the table behind it.
enum class ErrorKind : uint8_t {
  invalid_request,     // 400: not JSON, wrong type or range, not supported
  context_length,      // 400: the prompt does not fit the model
  unauthorized,        // 401: no API key, or none of ours
  forbidden,           // 403
  not_found,           // 404
  method_not_allowed,  // 405
  timeout,             // 408
  too_large,           // 413
  unsupported_media,   // 415
  expectation,         // 417
  template_refused,    // 422: well-formed, but the model's template refuses it
  overloaded,          // 429 with Retry-After
  head_too_large,      // 431
  internal,            // 500
  not_implemented,     // 501
  unavailable,         // 503: loading, draining, shards lost
  http_version,        // 505
};

struct Error {
  ErrorKind kind = ErrorKind::invalid_request;
  std::string message;
  std::string param = {};  // the field of the body, where there is one
};

int status_of(ErrorKind kind);
std::string_view failure_label(ErrorKind kind);  // for tgi_request_failure{err}
// {"error":{"message","type","param","code"}}, as OpenAI's clients expect it.
std::string error_body(const Error& error);
Response error_response(const Error& error);

}  // namespace chorus::api
