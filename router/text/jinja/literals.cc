#include "router/text/jinja/literals.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "router/text/jinja/codepoints.h"
#include "router/text/jinja/value.h"

namespace chorus::text::jinja {
namespace {

int digit_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return 99;
}

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

// `count` hexadecimal digits at `at`.
char32_t hex(std::string_view body, size_t& at, int count) {
  char32_t code_point = 0;
  for (int i = 0; i < count; ++i, ++at) {
    if (at >= body.size() || digit_value(body[at]) > 15) fail("truncated escape in a string");
    code_point = code_point * 16 + static_cast<char32_t>(digit_value(body[at]));
  }
  if (code_point > 0x10FFFF) fail("illegal Unicode character in a string");
  return code_point;
}

bool is_surrogate(char32_t c) {
  return c >= 0xD800 && c <= 0xDFFF;
}

// Octal escapes: one to three digits.
char32_t octal(std::string_view body, size_t& at) {
  char32_t code_point = 0;
  for (int i = 0; i < 3 && at < body.size() && body[at] >= '0' && body[at] <= '7'; ++i, ++at) {
    code_point = code_point * 8 + static_cast<char32_t>(body[at] - '0');
  }
  return code_point;
}

// Digits of `base` from `at`, underscores allowed between them.
size_t digits(std::string_view source, size_t at, int base) {
  while (at < source.size()) {
    if (digit_value(source[at]) < base) {
      ++at;
    } else if (source[at] == '_' && at + 1 < source.size() && digit_value(source[at + 1]) < base) {
      at += 2;
    } else {
      break;
    }
  }
  return at;
}

size_t decimal_digits(std::string_view source, size_t at) {
  if (at >= source.size() || !is_digit(source[at])) return at;
  return digits(source, at, 10);
}

int base_of(std::string_view literal) {
  if (literal.size() < 2 || literal[0] != '0') return 10;
  const char letter = static_cast<char>(literal[1] | 0x20);
  return letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 10;
}

std::string without_underscores(std::string_view literal) {
  std::string text(literal);
  text.erase(std::remove(text.begin(), text.end(), '_'), text.end());
  return text;
}

}  // namespace

std::string unescape(std::string_view body) {
  static constexpr std::string_view kLetters = "\\'\"abfnrtv";
  static constexpr std::string_view kMeanings = "\\'\"\a\b\f\n\r\t\v";
  std::string out;
  for (size_t at = 0; at < body.size();) {
    if (body[at] != '\\' || at + 1 == body.size()) {
      out.push_back(body[at++]);
      continue;
    }
    const char letter = body[at + 1];
    if (const size_t known = kLetters.find(letter); known != std::string_view::npos) {
      out.push_back(kMeanings[known]);
      at += 2;
    } else if (letter == '\n') {
      at += 2;
    } else if (letter >= '0' && letter <= '7') {
      encode(octal(body, ++at), out);
    } else if (letter == 'x' || letter == 'u' || letter == 'U') {
      at += 2;
      const char32_t code_point = hex(body, at, letter == 'x' ? 2 : letter == 'u' ? 4 : 8);
      if (is_surrogate(code_point)) fail("a lone surrogate in a string");
      encode(code_point, out);
    } else if (letter == 'N') {
      fail("\\N{...} escapes are not supported");
    } else {
      out.push_back(body[at++]);
    }
  }
  return out;
}

size_t float_length(std::string_view source) {
  const size_t whole = decimal_digits(source, 0);
  if (whole == 0) return 0;
  size_t end = whole;
  if (end < source.size() && source[end] == '.') {
    const size_t fraction = decimal_digits(source, end + 1);
    if (fraction > end + 1) end = fraction;
  }
  if (end < source.size() && (source[end] == 'e' || source[end] == 'E')) {
    size_t exponent = end + 1;
    if (exponent < source.size() && (source[exponent] == '+' || source[exponent] == '-')) {
      ++exponent;
    }
    const size_t after = decimal_digits(source, exponent);
    if (after > exponent) end = after;
  }
  return end > whole ? end : 0;
}

size_t integer_length(std::string_view source) {
  if (source.empty() || !is_digit(source[0])) return 0;
  const int base = base_of(source);
  if (base != 10) {
    const size_t first = source.size() > 2 && source[2] == '_' ? 3 : 2;
    const size_t end = digits(source, first, base);
    if (end > first) return end;
  }
  return source[0] == '0' ? digits(source, 0, 1) : digits(source, 0, 10);
}

double parse_float(std::string_view literal) {
  const std::string text = without_underscores(literal);
  double value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (parsed.ec == std::errc::result_out_of_range) {
    return text.find("e-") != std::string::npos || text.find("E-") != std::string::npos ? 0.0
                                                                                        : HUGE_VAL;
  }
  return value;
}

Wide parse_integer(std::string_view literal) {
  const std::string text = without_underscores(literal);
  const int base = base_of(text);
  return parse_wide(std::string_view(text).substr(base == 10 ? 0 : 2), base).value();
}

}  // namespace chorus::text::jinja
