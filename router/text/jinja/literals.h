// Literals inside tags: string escapes and numbers, as Python reads them.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "router/text/jinja/wide.h"

namespace chorus::text::jinja {

// Python's unicode-escape. Throws Failure.
std::string unescape(std::string_view body);

// Length of the float literal that `source` starts with, 0 where there is none.
size_t float_length(std::string_view source);
// The same for integers: decimal, 0x, 0o, 0b, with underscores.
size_t integer_length(std::string_view source);

double parse_float(std::string_view literal);
Wide parse_integer(std::string_view literal);  // throws Failure beyond 128 bits

}  // namespace chorus::text::jinja
