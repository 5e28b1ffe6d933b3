#include "router/text/jinja/wide.h"

#include <algorithm>
#include <cmath>

#include "router/text/jinja/value.h"

namespace chorus::text::jinja {

std::string wide_text(Wide number) {
  UnsignedWide rest =
      number < 0 ? -static_cast<UnsignedWide>(number) : static_cast<UnsignedWide>(number);
  std::string digits;
  do {
    digits.push_back(static_cast<char>('0' + static_cast<int>(rest % 10)));
    rest /= 10;
  } while (rest != 0);
  if (number < 0) digits.push_back('-');
  std::reverse(digits.begin(), digits.end());
  return digits;
}

std::optional<Wide> parse_wide(std::string_view digits, int base) {
  Wide value = 0;
  bool too_wide = false;
  for (const char c : digits) {
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'z' ? c - 'a' + 10
                      : c >= 'A' && c <= 'Z' ? c - 'A' + 10
                                             : base;
    if (digit >= base) return std::nullopt;
    too_wide = too_wide || __builtin_mul_overflow(value, static_cast<Wide>(base), &value) ||
               __builtin_add_overflow(value, static_cast<Wide>(digit), &value);
  }
  if (too_wide) fail(kTooWide);
  return value;
}

Wide wide_of(double value) {
  if (!(std::fabs(value) < 0x1p127)) fail(kTooWide);
  return static_cast<Wide>(value);
}

}  // namespace chorus::text::jinja
