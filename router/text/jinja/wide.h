// Integers of 128 bits, for the few that 64 do not hold: 2^64 - 1 as the limit in a tool's schema,
// products on the way to a quotient. Python's have no end; beyond 128 bits ours are an error.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace chorus::text::jinja {

__extension__ using Wide = __int128;
__extension__ using UnsignedWide = unsigned __int128;

constexpr const char* kTooWide = "integers beyond 128 bits are not supported";

std::string wide_text(Wide number);

// The digits as an integer; nothing where one is no digit of that base. Throws Failure beyond 128
// bits.
std::optional<Wide> parse_wide(std::string_view digits, int base);

// Towards zero. Throws Failure beyond 128 bits.
Wide wide_of(double value);

}  // namespace chorus::text::jinja
