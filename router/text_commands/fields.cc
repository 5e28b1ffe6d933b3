#include <fmt/format.h>

#include <limits>

#include "router/text_commands/command.h"

namespace chorus::text_commands {
namespace {

const Json* find(const Json& request, const char* name) {
  const auto found = request.find(name);
  return found == request.end() || found->is_null() ? nullptr : &*found;
}

tl::unexpected<std::string> wrong(const char* name, std::string_view wanted) {
  return tl::unexpected(fmt::format("\"{}\" must be {}", name, wanted));
}

}  // namespace

Field<std::string> text_field(const Json& request, const char* name) {
  const Json* value = find(request, name);
  if (value == nullptr || !value->is_string()) return wrong(name, "a text");
  return value->get<std::string>();
}

Field<bool> flag_field(const Json& request, const char* name, bool otherwise) {
  const Json* value = find(request, name);
  if (value == nullptr) return otherwise;
  if (!value->is_boolean()) return wrong(name, "true or false");
  return value->get<bool>();
}

Field<std::vector<std::string>> texts_field(const Json& request, const char* name) {
  const Json* value = find(request, name);
  std::vector<std::string> texts;
  if (value == nullptr) return texts;
  if (value->is_string()) return std::vector{value->get<std::string>()};
  if (!value->is_array()) return wrong(name, "a list of texts");
  for (const Json& item : *value) {
    if (!item.is_string()) return wrong(name, "a list of texts");
    texts.push_back(item.get<std::string>());
  }
  return texts;
}

Field<std::vector<int32_t>> ids_field(const Json& request, const char* name) {
  const Json* value = find(request, name);
  if (value == nullptr || !value->is_array()) return wrong(name, "a list of token ids");
  std::vector<int32_t> ids;
  for (const Json& item : *value) {
    const bool fits =
        item.is_number_unsigned() && item.get<uint64_t>() <= std::numeric_limits<int32_t>::max();
    if (!fits) return wrong(name, "a list of token ids");
    ids.push_back(item.get<int32_t>());
  }
  return ids;
}

}  // namespace chorus::text_commands
