// UTF-8 as Python's str sees it: lengths, indices and classes of code points.
#pragma once

#include <string>
#include <string_view>

namespace chorus::text::jinja {

bool is_utf8(std::string_view bytes);
size_t code_point_count(std::string_view bytes);

// Byte offset of code point `index`; bytes.size() where there are fewer.
size_t byte_offset(std::string_view bytes, size_t index);

// Decodes the code point at `at` and moves `at` behind it. Bytes that are no UTF-8 count one each.
char32_t decode(std::string_view bytes, size_t& at);

// Where `wanted` stands first from byte `from` on, npos where it does not. Linear time, which
// std::string::find is not: text and pattern may both come from a stranger.
size_t find_text(std::string_view text, std::string_view wanted, size_t from = 0);

// The start of the code point that ends at byte `end` (end > 0).
size_t previous(std::string_view bytes, size_t end);
void encode(char32_t code_point, std::string& to);

// str.isspace() and \s agree in Python.
bool is_space(char32_t code_point);

// Byte ranges that str.strip(), lstrip() and rstrip() leave; a null `set` means whitespace.
size_t strip_left(std::string_view bytes, const std::u32string* set);
size_t strip_right(std::string_view bytes, size_t begin, const std::u32string* set);

std::u32string decode_all(std::string_view bytes);
std::string encode_all(std::u32string_view code_points);

}  // namespace chorus::text::jinja
