// The `attribute=` argument of filters: "name", 0, "author.name", and "a,b" for sort.
#pragma once

#include <vector>

#include "router/text/jinja/value.h"

namespace chorus::text::jinja {

class AttributePath {
 public:
  // No argument, or None: the item itself.
  AttributePath() = default;
  explicit AttributePath(const Value& attribute);

  // What the item has there; `otherwise`, if given, where that is undefined.
  Value of(Engine& engine, const Value& item, const Value* otherwise = nullptr) const;

 private:
  std::vector<Value> parts_;
};

// One path per part between commas.
std::vector<AttributePath> attribute_paths(const Value& attributes);

// Case-insensitive filters compare this instead.
Value without_case(const Value& value);

}  // namespace chorus::text::jinja
