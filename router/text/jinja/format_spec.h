// One number or text laid out by a Python format specification: width, precision, sign, fill.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "router/text/jinja/marked.h"
#include "router/text/jinja/value.h"

namespace chorus::text::jinja {

struct FormatSpec {
  std::string fill = " ";
  char align = '\0';  // < > ^ =
  char sign = '-';
  bool alternate = false;
  char grouping = '\0';  // , or _
  int64_t width = 0;
  int64_t precision = -1;
  char type = '\0';
};

// The part of a replacement field behind the colon. Throws Failure.
FormatSpec parse_format_spec(std::string_view text);

MarkedText format_text(const MarkedText& text, const FormatSpec& spec);
// `value` is a number; the type letters b c d e E f F g G n o x X %.
std::string format_number(const Value& value, const FormatSpec& spec);

}  // namespace chorus::text::jinja
