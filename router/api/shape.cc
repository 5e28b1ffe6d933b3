#include "router/api/shape.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

namespace chorus::api {
namespace {

struct TypeRow {
  Types type;
  std::string_view schema;
  std::string_view phrase;
};
constexpr std::array kTypeRows = {
    TypeRow{kBoolean, "boolean", "a boolean"}, TypeRow{kInteger, "integer", "an integer"},
    TypeRow{kNumber, "number", "a number"},    TypeRow{kString, "string", "a string"},
    TypeRow{kArray, "array", "an array"},      TypeRow{kObject, "object", "an object"},
};

// "a string or an array"
std::string phrase_of(Types types) {
  std::string phrase;
  for (const TypeRow& row : kTypeRows) {
    if ((types & row.type) == 0) continue;
    if (!phrase.empty()) phrase += " or ";
    phrase += row.phrase;
  }
  return phrase;
}

bool is_integer(const Json& value) {
  if (value.is_number_integer()) return true;
  if (!value.is_number_float()) return false;
  const double number = value.get<double>();
  return std::trunc(number) == number && std::abs(number) <= 9007199254740992.0;
}

Types types_of(const Json& value) {
  switch (value.type()) {
    case Json::value_t::boolean:
      return kBoolean;
    case Json::value_t::number_integer:
    case Json::value_t::number_unsigned:
    case Json::value_t::number_float:
      return is_integer(value) ? kInteger | kNumber : kNumber;
    case Json::value_t::string:
      return kString;
    case Json::value_t::array:
      return kArray;
    case Json::value_t::object:
      return kObject;
    case Json::value_t::null:
    case Json::value_t::binary:
    case Json::value_t::discarded:
      break;
  }
  return 0;
}

std::string range_of(const Shape& shape) {
  const bool low = std::isfinite(shape.min);
  const bool high = std::isfinite(shape.max);
  if (low && high && !shape.above_min)
    return fmt::format("between {} and {}", shape.min, shape.max);
  std::string range;
  if (low) range = fmt::format("{} {}", shape.above_min ? "above" : "at least", shape.min);
  if (high) range += fmt::format("{}at most {}", low ? " and " : "", shape.max);
  return range;
}

Failure check_number(const Shape& shape, double number, const Path& path) {
  const bool above = shape.above_min ? number > shape.min : number >= shape.min;
  if (above && number <= shape.max) return {};
  return invalid(path, "must be " + range_of(shape));
}

Failure check_string(const Shape& shape, const std::string& text, const Path& path) {
  if (text.size() < shape.bytes_min) return invalid(path, "must not be empty");
  if (shape.words.empty()) return {};
  if (std::find(shape.words.begin(), shape.words.end(), text) != shape.words.end()) return {};
  std::string known;
  for (size_t i = 0; i < shape.words.size(); ++i) {
    if (i > 0) known += i + 1 == shape.words.size() ? " or " : ", ";
    known += shape.words[i];
  }
  return invalid(path, "must be " + known);
}

Failure check_items(const Shape& shape, const Json& value, const Path& path) {
  if (value.size() < shape.items_min) {
    return invalid(path, shape.items_min == 1
                             ? "must hold at least one element"
                             : fmt::format("must hold at least {} elements", shape.items_min));
  }
  if (value.size() > shape.items_max) {
    return invalid(path, fmt::format("holds {} elements, at most {} are taken", value.size(),
                                     shape.items_max));
  }
  if (shape.items == nullptr) return {};
  for (size_t i = 0; i < value.size(); ++i) {
    const Path at{.parent = &path, .index = static_cast<int64_t>(i)};
    if (Failure failure = check(*shape.items, value[i], at)) return failure;
  }
  return {};
}

Failure check_properties(const Shape& shape, const Json& value, const Path& path) {
  const auto rows = shape.properties.rows();
  for (const auto& [key, entry] : value.items()) {
    const auto row = std::find_if(rows.begin(), rows.end(),
                                  [&](const Property& known) { return known.name == key; });
    const Path at{.parent = &path, .key = key};
    if (row != rows.end()) {
      if (entry.is_null()) continue;
      if (Failure failure = check(*row, entry, at)) return failure;
    } else if (shape.entries != nullptr) {
      if (Failure failure = check(*shape.entries, entry, at)) return failure;
    }
  }
  for (const Property& row : rows) {
    if (!row.required || find(value, row.name) != nullptr) continue;
    return invalid(Path{.parent = &path, .key = row.name}, "is required");
  }
  return {};
}

Json one_type(const Shape& shape, const TypeRow& row) {
  Json schema = {{"type", row.schema}};
  if (row.type == kInteger || row.type == kNumber) {
    if (std::isfinite(shape.min))
      schema[shape.above_min ? "exclusiveMinimum" : "minimum"] = shape.min;
    if (std::isfinite(shape.max)) schema["maximum"] = shape.max;
  } else if (row.type == kString) {
    if (!shape.words.empty()) schema["enum"] = shape.words;
    if (shape.bytes_min > 0) schema["minLength"] = shape.bytes_min;
  } else if (row.type == kArray) {
    if (shape.items != nullptr) schema["items"] = schema_of(*shape.items);
    if (shape.items_min > 0) schema["minItems"] = shape.items_min;
    if (shape.items_max < SIZE_MAX) schema["maxItems"] = shape.items_max;
  } else if (row.type == kObject) {
    std::vector<const Property*> rows;
    for (const Property& property : shape.properties.rows()) rows.push_back(&property);
    if (!rows.empty()) schema = schema_of(rows);
    if (shape.entries != nullptr) schema["additionalProperties"] = schema_of(*shape.entries);
  }
  return schema;
}

}  // namespace

std::span<const Property> Properties::rows() const {
  return {first_, count_};
}

std::string Path::text() const {
  std::string text = parent != nullptr ? parent->text() : std::string();
  if (index >= 0) return text + fmt::format("[{}]", index);
  if (key.empty()) return text;
  if (!text.empty()) text += '.';
  return text.append(key);
}

Error invalid(std::string param, std::string message) {
  return {
      .kind = ErrorKind::invalid_request, .message = std::move(message), .param = std::move(param)};
}

Error invalid(const Path& path, std::string_view problem) {
  std::string where = path.text();
  std::string message = fmt::format("{} {}", where.empty() ? "the body" : where, problem);
  return invalid(std::move(where), std::move(message));
}

std::string_view type_name(const Json& value) {
  if (value.is_null()) return "null";
  if (value.is_number()) return is_integer(value) ? "an integer" : "a number";
  const Types types = types_of(value);
  for (const TypeRow& row : kTypeRows) {
    if (types == row.type) return row.phrase;
  }
  return "nothing that JSON has";
}

Failure check(const Shape& shape, const Json& value, const Path& path) {
  const Types types = types_of(value);
  if (shape.types != 0 && (types & shape.types) == 0) {
    return invalid(path,
                   fmt::format("must be {}, it is {}", phrase_of(shape.types), type_name(value)));
  }
  if ((types & kNumber) != 0) return check_number(shape, value.get<double>(), path);
  if (types == kString) return check_string(shape, value.get_ref<const std::string&>(), path);
  if (types == kArray) return check_items(shape, value, path);
  if (types == kObject) return check_properties(shape, value, path);
  return {};
}

Failure check(const Property& property, const Json& value, const Path& path) {
  if (property.use == Use::ignored) return {};
  if (Failure failure = check(property.shape, value, path)) return failure;
  if (property.use == Use::used) return {};
  const Json neutral = Json::parse(property.neutral);
  for (const Json& harmless : neutral) {
    if (value == harmless) return {};
  }
  std::string problem = "is not supported";
  if (!property.help.empty()) problem += fmt::format(" ({})", property.help);
  if (!neutral.empty()) problem += fmt::format("; leave it out or set it to {}", neutral[0].dump());
  return invalid(path, problem);
}

const Json* find(const Json& object, std::string_view key) {
  for (auto entry = object.begin(); entry != object.end(); ++entry) {
    if (entry.key() == key) return entry->is_null() ? nullptr : &*entry;
  }
  return nullptr;
}

Json schema_of(const Shape& shape, bool optional) {
  Json alternatives = Json::array();
  for (const TypeRow& row : kTypeRows) {
    if ((shape.types & row.type) != 0) alternatives.push_back(one_type(shape, row));
  }
  if (alternatives.empty()) return Json::object();  // anything
  if (optional) alternatives.push_back({{"type", "null"}});
  if (alternatives.size() == 1) return alternatives[0];
  return {{"anyOf", std::move(alternatives)}};
}

Json schema_of(std::span<const Property* const> properties) {
  Json schema = {{"type", "object"}};
  Json required = Json::array();
  for (const Property* property : properties) {
    Json entry = schema_of(property->shape, !property->required);
    if (!property->help.empty()) entry["description"] = property->help;
    if (property->use == Use::refused) {
      Json values = Json::parse(property->neutral);
      values.push_back(nullptr);
      entry["enum"] = std::move(values);
    }
    schema["properties"][std::string(property->name)] = std::move(entry);
    if (property->required) required.push_back(property->name);
  }
  if (!required.empty()) schema["required"] = std::move(required);
  return schema;
}

}  // namespace chorus::api
