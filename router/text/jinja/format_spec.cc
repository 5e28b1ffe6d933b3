#include "router/text/jinja/format_spec.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "router/text/jinja/codepoints.h"
#include "router/text/jinja/printing.h"

namespace chorus::text::jinja {
namespace {

constexpr int64_t kWidthMax = 100'000;

bool is_align(char c) {
  return c == '<' || c == '>' || c == '^' || c == '=';
}

int64_t number_at(std::string_view text, size_t& at) {
  int64_t value = 0;
  for (; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at) {
    value = value * 10 + (text[at] - '0');
    if (value > kWidthMax) fail("a format's width or precision is too large");
  }
  return value;
}

std::string grouped(const std::string& digits, char separator, size_t size) {
  std::string out;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % size == 0) out.push_back(separator);
    out.push_back(digits[i]);
  }
  return out;
}

std::string in_base(UnsignedWide number, unsigned base, bool upper) {
  std::string digits;
  do {
    const auto digit = static_cast<char>(number % base);
    digits.insert(digits.begin(),
                  static_cast<char>(digit < 10 ? '0' + digit : (upper ? 'A' : 'a') + digit - 10));
    number /= base;
  } while (number > 0);
  return digits;
}

// Python's %g keeps no exponent of fewer than two digits, as C's.
std::string float_digits(double number, const FormatSpec& spec) {
  const int precision = spec.precision < 0 ? 6 : static_cast<int>(spec.precision);
  const double size = std::fabs(number);
  switch (spec.type) {
    case 'e':
      return fmt::format("{:.{}e}", size, precision);
    case 'E':
      return fmt::format("{:.{}E}", size, precision);
    case 'f':
    case 'F':
      return fmt::format("{:.{}f}", size, precision);
    case '%':
      return fmt::format("{:.{}f}%", size * 100, precision);
    case 'g':
    case 'n':
      return fmt::format("{:.{}g}", size, std::max(precision, 1));
    case 'G':
      return fmt::format("{:.{}G}", size, std::max(precision, 1));
    default:
      break;
  }
  if (spec.precision < 0) return float_repr(size);
  std::string digits = fmt::format("{:.{}g}", size, std::max(precision, 1));
  const bool bare = digits.find_first_of(".en") == std::string::npos;
  return bare ? digits + ".0" : digits;
}

std::string signed_prefix(bool negative, const FormatSpec& spec) {
  if (negative) return "-";
  return spec.sign == '+' || spec.sign == ' ' ? std::string(1, spec.sign) : "";
}

std::string padding(const FormatSpec& spec, int64_t count) {
  std::string out;
  for (int64_t i = 0; i < count; ++i) out += spec.fill;
  return out;
}

std::string laid_out(const std::string& prefix, const std::string& digits, const FormatSpec& spec) {
  const auto used = static_cast<int64_t>(prefix.size() + digits.size());
  const int64_t free = std::max<int64_t>(spec.width - used, 0);
  switch (spec.align) {
    case '<':
      return prefix + digits + padding(spec, free);
    case '^':
      return padding(spec, free / 2) + prefix + digits + padding(spec, free - free / 2);
    case '=':
      return prefix + padding(spec, free) + digits;
    default:
      return padding(spec, free) + prefix + digits;
  }
}

std::string format_integer(Wide number, const FormatSpec& spec) {
  const bool negative = number < 0;
  const UnsignedWide size =
      negative ? -static_cast<UnsignedWide>(number) : static_cast<UnsignedWide>(number);
  std::string prefix = signed_prefix(negative, spec);
  unsigned base = 10;
  switch (spec.type) {
    case 'b':
      base = 2;
      break;
    case 'o':
      base = 8;
      break;
    case 'x':
    case 'X':
      base = 16;
      break;
    default:
      break;
  }
  if (spec.alternate && base != 10) prefix += std::string("0") + spec.type;
  std::string digits = in_base(size, base, spec.type == 'X');
  if (spec.grouping != '\0') digits = grouped(digits, spec.grouping, base == 10 ? 3 : 4);
  return laid_out(prefix, digits, spec);
}

}  // namespace

FormatSpec parse_format_spec(std::string_view text) {
  FormatSpec spec;
  size_t at = 0;
  if (!text.empty()) {
    size_t second = 0;
    decode(text, second);
    if (second < text.size() && is_align(text[second])) {
      spec.fill = std::string(text.substr(0, second));
      spec.align = text[second];
      at = second + 1;
    } else if (is_align(text[0])) {
      spec.align = text[0];
      at = 1;
    }
  }
  const auto take = [&](std::string_view letters) {
    return at < text.size() && letters.find(text[at]) != std::string_view::npos ? text[at++] : '\0';
  };
  if (const char sign = take("+- ")) spec.sign = sign;
  spec.alternate = take("#") != '\0';
  if (at < text.size() && text[at] == '0' && spec.align == '\0') {
    spec.fill.assign(1, '0');
    spec.align = '=';
    ++at;
  }
  spec.width = number_at(text, at);
  spec.grouping = take(",_");
  if (take(".") != '\0') {
    const size_t begin = at;
    spec.precision = number_at(text, at);
    if (at == begin) fail("Format specifier missing precision");
  }
  spec.type = take("bcdeEfFgGnosxX%");
  if (at != text.size()) fail(fmt::format("Invalid format specifier '{}'", text));
  return spec;
}

MarkedText format_text(const MarkedText& text, const FormatSpec& spec) {
  if (spec.type != '\0' && spec.type != 's') {
    fail(fmt::format("Unknown format code '{}' for object of type 'str'", spec.type));
  }
  if (spec.align == '=' && spec.fill != "0") {
    fail("'=' alignment not allowed in string format specifier");
  }
  if (spec.sign != '-') fail("Sign not allowed in string format specifier");
  size_t end = text.bytes.size();
  if (spec.precision >= 0) end = byte_offset(text.bytes, static_cast<size_t>(spec.precision));
  const MarkedText cut = slice(text, 0, end);
  const auto size = static_cast<int64_t>(code_point_count(cut.bytes));
  const int64_t free = std::max<int64_t>(spec.width - size, 0);
  const int64_t left = spec.align == '>' ? free : spec.align == '^' ? free / 2 : 0;
  MarkedText result;
  append(result, padding(spec, left));
  append(result, cut);
  append(result, padding(spec, free - left));
  return result;
}

std::string format_number(const Value& value, const FormatSpec& spec) {
  static constexpr std::string_view kIntegerTypes = "bdoxXn";
  static constexpr std::string_view kFloatTypes = "eEfFgGn%";
  const bool no_type = spec.type == '\0';
  if (value.is_integral() && spec.type == 'c') {
    if (value.as_integer() < 0 || value.as_integer() > 0x10FFFF) fail("%c arg not in range");
    std::string text;
    encode(static_cast<char32_t>(value.as_integer()), text);
    return text;
  }
  if (value.is_whole() && (no_type || kIntegerTypes.find(spec.type) != std::string_view::npos)) {
    if (spec.precision >= 0) fail("Precision not allowed in integer format specifier");
    return format_integer(value.as_wide(), spec);
  }
  if (!no_type && kFloatTypes.find(spec.type) == std::string_view::npos) {
    fail(fmt::format("Unknown format code '{}' for object of type '{}'", spec.type,
                     type_name(value)));
  }
  const double number = value.as_real();
  std::string digits = float_digits(number, spec);
  if (spec.grouping != '\0') {
    const size_t whole = std::min(digits.find_first_of(".e%"), digits.size());
    digits = grouped(digits.substr(0, whole), spec.grouping, 3) + digits.substr(whole);
  }
  return laid_out(signed_prefix(std::signbit(number), spec), digits, spec);
}

}  // namespace chorus::text::jinja
