// Upper and lower case and the classes behind str.isalpha() and its kin, for any code point.
#pragma once

#include <string>
#include <string_view>

#include "router/text/jinja/marked.h"

namespace chorus::text::jinja {

bool is_printable(char32_t c);
bool is_alpha(char32_t c);
bool is_decimal(char32_t c);  // 0 to 9 in any script
bool is_digit(char32_t c);    // and superscripts
bool is_numeric(char32_t c);  // and fractions, Roman numerals
bool is_alphanumeric(char32_t c);
bool is_upper(char32_t c);
bool is_lower(char32_t c);
bool is_title(char32_t c);
inline bool is_cased(char32_t c) {
  return is_upper(c) || is_lower(c) || is_title(c);
}

std::u32string to_upper(char32_t c);
std::u32string to_lower(char32_t c);
std::u32string to_title(char32_t c);

enum class Casing { upper, lower, title, capitalize, swap };

// Marks are kept: each code point's replacement has its origin.
MarkedText with_case(const MarkedText& text, Casing casing);

}  // namespace chorus::text::jinja
