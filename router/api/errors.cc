// Kinds of errors as rows: status, OpenAI's type and code, and TGI's label in the metrics.
#include "router/api/errors.h"

#include <array>
#include <cassert>

#include "router/api/json_text.h"

namespace chorus::api {
namespace {

struct Row {
  ErrorKind kind;
  int status;
  std::string_view type;
  std::string_view code;  // empty: null
  std::string_view label;
};

constexpr std::string_view kRequest = "invalid_request_error";
constexpr std::array kRows = {
    Row{ErrorKind::invalid_request, 400, kRequest, "", "validation"},
    Row{ErrorKind::context_length, 400, kRequest, "context_length_exceeded", "validation"},
    Row{ErrorKind::unauthorized, 401, kRequest, "invalid_api_key", "unauthorized"},
    Row{ErrorKind::forbidden, 403, kRequest, "forbidden", "unauthorized"},
    Row{ErrorKind::not_found, 404, kRequest, "not_found", "validation"},
    Row{ErrorKind::method_not_allowed, 405, kRequest, "method_not_allowed", "validation"},
    Row{ErrorKind::timeout, 408, kRequest, "timeout", "validation"},
    Row{ErrorKind::too_large, 413, kRequest, "request_too_large", "validation"},
    Row{ErrorKind::unsupported_media, 415, kRequest, "unsupported_media_type", "validation"},
    Row{ErrorKind::expectation, 417, kRequest, "expectation_failed", "validation"},
    Row{ErrorKind::template_refused, 422, kRequest, "template_error", "template"},
    Row{ErrorKind::overloaded, 429, "rate_limit_error", "overloaded", "overloaded"},
    Row{ErrorKind::head_too_large, 431, kRequest, "head_too_large", "validation"},
    Row{ErrorKind::internal, 500, "server_error", "internal_error", "generation"},
    Row{ErrorKind::not_implemented, 501, kRequest, "not_implemented", "validation"},
    Row{ErrorKind::unavailable, 503, "server_error", "unavailable", "unavailable"},
    Row{ErrorKind::http_version, 505, kRequest, "http_version", "validation"},
};

const Row& row_of(ErrorKind kind) {
  const Row& row = kRows[static_cast<size_t>(kind)];
  assert(row.kind == kind);
  return row;
}

void append_or_null(std::string& out, std::string_view text) {
  if (text.empty()) {
    out += "null";
  } else {
    append_json_string(out, text);
  }
}

}  // namespace

int status_of(ErrorKind kind) {
  return row_of(kind).status;
}

std::string_view failure_label(ErrorKind kind) {
  return row_of(kind).label;
}

std::string error_body(const Error& error) {
  const Row& row = row_of(error.kind);
  std::string out = "{\"error\":{\"message\":";
  append_json_string(out, error.message);
  out += ",\"type\":";
  append_json_string(out, row.type);
  out += ",\"param\":";
  append_or_null(out, error.param);
  out += ",\"code\":";
  append_or_null(out, row.code);
  out += "}}";
  return out;
}

Response error_response(const Error& error) {
  return {.status = status_of(error.kind), .body = error_body(error)};
}

}  // namespace chorus::api
