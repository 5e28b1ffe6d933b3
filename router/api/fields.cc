#include "router/api/fields.h"

#include <fmt/format.h>

#include <utility>

namespace chorus::api {

tl::expected<Json, Error> parse_body(std::string_view body) {
  auto json = parse_json(body);
  if (!json) return tl::unexpected(invalid("", std::move(json.error())));
  if (json->is_object()) return std::move(*json);
  return tl::unexpected(
      invalid("", fmt::format("the body must be a JSON object, it is {}", type_name(*json))));
}

}  // namespace chorus::api
