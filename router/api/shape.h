// What may stand in a request's body, as data. The tables of shapes are read twice: requests are
// checked against them, and /openapi.json is made of them, so the two cannot differ.
//
// Null is the same as absent wherever a property is optional. Properties that no table names are
// ignored, as OpenAI's clients expect.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "router/api/errors.h"
#include "router/api/json_text.h"

namespace chorus::api {

using Failure = std::optional<Error>;

// Which types a value may have; 0: any.
using Types = uint8_t;
inline constexpr Types kBoolean = 1;
inline constexpr Types kInteger = 2;  // JSON has one kind of number: 10.0 is an integer too
inline constexpr Types kNumber = 4;
inline constexpr Types kString = 8;
inline constexpr Types kArray = 16;
inline constexpr Types kObject = 32;

enum class Use : uint8_t {
  used,
  refused,  // not built: only the values in `neutral` are let in
  ignored,  // changes nothing in the answer
};

struct Property;

class Properties {
 public:
  constexpr Properties() = default;
  template <size_t Count>
  constexpr Properties(const Property (&rows)[Count]) : first_(rows), count_(Count) {}
  std::span<const Property> rows() const;

 private:
  const Property* first_ = nullptr;
  size_t count_ = 0;
};

struct Shape {
  Types types = 0;
  double min = -std::numeric_limits<double>::infinity();  // of numbers
  double max = std::numeric_limits<double>::infinity();
  bool above_min = false;                        // `min` itself is refused
  size_t items_min = 0, items_max = SIZE_MAX;    // of arrays
  size_t bytes_min = 0;                          // of strings
  std::span<const std::string_view> words = {};  // the strings there are; empty: any
  const Shape* items = nullptr;                  // of arrays
  const Shape* entries = nullptr;                // of objects: the values of all other keys
  Properties properties = {};                    // of objects
};

struct Property {
  std::string_view name;
  Shape shape = {};
  std::string_view help = {};
  bool required = false;
  Use use = Use::used;
  std::string_view neutral = {};  // with `refused`: a JSON array
};

// Where a value stands: "messages[0].content". The text is only made for an error.
struct Path {
  const Path* parent = nullptr;
  std::string_view key = {};
  int64_t index = -1;

  std::string text() const;
};

Error invalid(std::string param, std::string message);
Error invalid(const Path& path, std::string_view problem);  // "<path> <problem>"

std::string_view type_name(const Json& value);  // "an array"

// Whether `value` has the shape; else what is wrong, and where.
Failure check(const Shape& shape, const Json& value, const Path& path);
// The same of a property that is present; refuses what is not built.
Failure check(const Property& property, const Json& value, const Path& path);

// The value of a key, or nullptr where it is absent or null.
const Json* find(const Json& object, std::string_view key);

// As JSON Schema (2020-12). Optional values may be null.
Json schema_of(const Shape& shape, bool optional = false);
Json schema_of(std::span<const Property* const> properties);

}  // namespace chorus::api
