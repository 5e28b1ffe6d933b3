#include "router/text/jinja/builtins.h"

#include <fmt/format.h>

namespace chorus::text::jinja {

Parameters::Parameters(const Arguments& arguments, std::string_view function,
                       std::initializer_list<std::string_view> names, size_t required)
    : function_(function), values_(names.size(), nullptr) {
  if (arguments.positional.size() > names.size()) {
    fail(fmt::format("{}() takes at most {} argument(s), got {}", function, names.size(),
                     arguments.positional.size()));
  }
  for (size_t i = 0; i < arguments.positional.size(); ++i) values_[i] = &arguments.positional[i];
  for (const auto& [name, value] : arguments.named) {
    size_t at = 0;
    while (at < names.size() && names.begin()[at] != name) ++at;
    if (at == names.size()) {
      fail(fmt::format("{}() got an unexpected keyword argument '{}'", function, name));
    }
    if (values_[at] != nullptr) {
      fail(fmt::format("{}() got multiple values for argument '{}'", function, name));
    }
    values_[at] = &value;
  }
  for (size_t i = 0; i < required; ++i) {
    if (values_[i] == nullptr) {
      fail(fmt::format("{}() missing required argument '{}'", function, names.begin()[i]));
    }
  }
}

int64_t Parameters::integer(size_t i, int64_t otherwise) const {
  if (!has(i)) return otherwise;
  const Value& value = *values_[i];
  if (value.is(Kind::undefined)) fail_undefined(value);
  if (!value.is_integral()) {
    fail(fmt::format("{}(): '{}' object cannot be interpreted as an integer", function_,
                     type_name(value)));
  }
  return value.as_integer();
}

bool Parameters::flag(size_t i, bool otherwise) const {
  return has(i) ? truthy(*values_[i]) : otherwise;
}

const MarkedText& Parameters::text(size_t i, const MarkedText& otherwise) const {
  if (!has(i)) return otherwise;
  const Value& value = *values_[i];
  if (value.is(Kind::undefined)) fail_undefined(value);
  if (!value.is(Kind::string)) {
    fail(fmt::format("{}() argument must be str, not {}", function_, type_name(value)));
  }
  return value.text();
}

}  // namespace chorus::text::jinja
