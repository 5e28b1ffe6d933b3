// Filters, tests, methods and globals: tables from name to function. To add one, write the function
// and its row.
#pragma once

#include <initializer_list>
#include <string_view>
#include <utility>

#include "router/text/jinja/value.h"

namespace chorus::text::jinja {

// `input` is what stands before the bar, before `is`, or before the dot.
using Builtin = Value (*)(Engine& engine, const Value& input, const Arguments& arguments);
using BuiltinRow = std::pair<std::string_view, Builtin>;

// Null where there is none of that name.
Builtin find_filter(std::string_view name);
Builtin find_test(std::string_view name);
Builtin find_method(Kind kind, std::string_view name);

// What every template sees: range, dict, namespace, cycler, joiner, raise_exception, strftime_now.
std::vector<std::pair<std::string_view, Value>> make_globals(int64_t now);

// Binds arguments to parameters as a Python call does; Failure names the function and what is
// missing, unknown or too many.
class Parameters {
 public:
  Parameters(const Arguments& arguments, std::string_view function,
             std::initializer_list<std::string_view> names, size_t required = 0);
  bool has(size_t i) const { return values_[i] != nullptr; }
  const Value& operator[](size_t i) const { return *values_[i]; }

  // With the default where the argument is absent; Failure where it has the wrong type.
  int64_t integer(size_t i, int64_t otherwise) const;
  bool flag(size_t i, bool otherwise) const;
  const MarkedText& text(size_t i, const MarkedText& otherwise) const;

 private:
  std::string_view function_;
  std::vector<const Value*> values_;
};

}  // namespace chorus::text::jinja
