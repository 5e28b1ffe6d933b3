#include "router/text/jinja/attribute_path.h"

#include <algorithm>

#include "router/text/jinja/case.h"
#include "router/text/jinja/evaluator.h"

namespace chorus::text::jinja {
namespace {

std::vector<std::string> split_at(const std::string& text, char separator) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == separator) {
      parts.emplace_back();
    } else {
      parts.back().push_back(c);
    }
  }
  return parts;
}

Value path_part(const std::string& part) {
  const bool number =
      !part.empty() && part.size() < 18 &&
      std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
  return number ? Value::integer(std::stoll(part)) : Value::string(part);
}

}  // namespace

AttributePath::AttributePath(const Value& attribute) {
  if (attribute.is(Kind::none)) return;
  if (!attribute.is(Kind::string)) {
    parts_.push_back(attribute);
    return;
  }
  for (const std::string& part : split_at(attribute.bytes(), '.'))
    parts_.push_back(path_part(part));
}

Value AttributePath::of(Engine& engine, const Value& item, const Value* otherwise) const {
  engine.charge(1);
  Value value = item;
  for (const Value& part : parts_) {
    value = engine.item(value, part);
    const bool replaces = otherwise != nullptr && !otherwise->is(Kind::none);
    if (value.is(Kind::undefined) && replaces) value = *otherwise;
  }
  return value;
}

std::vector<AttributePath> attribute_paths(const Value& attributes) {
  std::vector<AttributePath> paths;
  if (!attributes.is(Kind::string)) {
    paths.emplace_back(attributes);
    return paths;
  }
  for (const std::string& part : split_at(attributes.bytes(), ',')) {
    paths.emplace_back(Value::string(part));
  }
  return paths;
}

Value without_case(const Value& value) {
  if (!value.is(Kind::string)) return value;
  return Value::string(with_case(value.text(), Casing::lower));
}

}  // namespace chorus::text::jinja
