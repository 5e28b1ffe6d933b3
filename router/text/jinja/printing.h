// Values as text: Python's str() and repr(), and JSON as json.dumps writes it.
#pragma once

#include <string>

#include "router/text/jinja/value.h"

namespace chorus::text::jinja {

// Containers that hold any text from outside are marked as a whole.
MarkedText str(const Value& value);
MarkedText repr(const Value& value);
std::string float_repr(double value);

struct JsonStyle {
  bool ensure_ascii = false;
  bool sort_keys = false;
  bool indented = false;
  std::string indent;
  std::string item_separator = ", ";
  std::string key_separator = ": ";
};

// Failure for what JSON cannot hold (undefined, generators, functions).
MarkedText json(const Value& value, const JsonStyle& style);

}  // namespace chorus::text::jinja
