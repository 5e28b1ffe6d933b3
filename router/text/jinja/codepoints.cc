#include "router/text/jinja/codepoints.h"

#include <algorithm>
#include <cstring>

namespace chorus::text::jinja {
namespace {

bool continues(unsigned char byte) {
  return (byte & 0xC0) == 0x80;
}

// Length of the well-formed sequence at `at`, 0 where there is none.
size_t sequence_length(std::string_view bytes, size_t at) {
  const auto byte = [&](size_t i) -> unsigned char {
    return at + i < bytes.size() ? static_cast<unsigned char>(bytes[at + i]) : 0;
  };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return continues(byte(1)) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {
    const bool second = continues(byte(1)) && !(lead == 0xE0 && byte(1) < 0xA0) &&
                        !(lead == 0xED && byte(1) > 0x9F);
    return second && continues(byte(2)) ? 3 : 0;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    const bool second = continues(byte(1)) && !(lead == 0xF0 && byte(1) < 0x90) &&
                        !(lead == 0xF4 && byte(1) > 0x8F);
    return second && continues(byte(2)) && continues(byte(3)) ? 4 : 0;
  }
  return 0;
}

bool in_set(char32_t code_point, const std::u32string* set) {
  return set == nullptr ? is_space(code_point) : set->find(code_point) != std::u32string::npos;
}

}  // namespace

bool is_utf8(std::string_view bytes) {
  for (size_t at = 0; at < bytes.size();) {
    const size_t length = sequence_length(bytes, at);
    if (length == 0) return false;
    at += length;
  }
  return true;
}

size_t code_point_count(std::string_view bytes) {
  return static_cast<size_t>(std::count_if(bytes.begin(), bytes.end(), [](char byte) {
    return !continues(static_cast<unsigned char>(byte));
  }));
}

size_t byte_offset(std::string_view bytes, size_t index) {
  size_t at = 0;
  for (; at < bytes.size(); ++at) {
    if (continues(static_cast<unsigned char>(bytes[at]))) continue;
    if (index == 0) return at;
    --index;
  }
  return at;
}

char32_t decode(std::string_view bytes, size_t& at) {
  const auto byte = [&](size_t i) {
    return static_cast<char32_t>(static_cast<unsigned char>(bytes[at + i]));
  };
  const size_t length = std::max<size_t>(sequence_length(bytes, at), 1);
  char32_t code_point = byte(0);
  if (length == 2) code_point = (byte(0) & 0x1F) << 6 | (byte(1) & 0x3F);
  if (length == 3) {
    code_point = (byte(0) & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F);
  }
  if (length == 4) {
    code_point =
        (byte(0) & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F);
  }
  at += length;
  return code_point;
}

size_t find_text(std::string_view text, std::string_view wanted, size_t from) {
  if (from > text.size()) return std::string_view::npos;
  const void* found = memmem(text.data() + from, text.size() - from, wanted.data(), wanted.size());
  if (found == nullptr) return std::string_view::npos;
  return static_cast<size_t>(static_cast<const char*>(found) - text.data());
}

size_t previous(std::string_view bytes, size_t end) {
  size_t at = end - 1;
  while (at > 0 && end - at < 4 && continues(static_cast<unsigned char>(bytes[at]))) --at;
  return at;
}

void encode(char32_t code_point, std::string& to) {
  const auto push = [&](char32_t byte) { to.push_back(static_cast<char>(byte)); };
  if (code_point < 0x80) {
    push(code_point);
  } else if (code_point < 0x800) {
    push(0xC0 | code_point >> 6);
    push(0x80 | (code_point & 0x3F));
  } else if (code_point < 0x10000) {
    push(0xE0 | code_point >> 12);
    push(0x80 | (code_point >> 6 & 0x3F));
    push(0x80 | (code_point & 0x3F));
  } else {
    push(0xF0 | code_point >> 18);
    push(0x80 | (code_point >> 12 & 0x3F));
    push(0x80 | (code_point >> 6 & 0x3F));
    push(0x80 | (code_point & 0x3F));
  }
}

bool is_space(char32_t c) {
  return (c >= 9 && c <= 13) || (c >= 28 && c <= 32) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

size_t strip_left(std::string_view bytes, const std::u32string* set) {
  size_t at = 0;
  while (at < bytes.size()) {
    size_t next = at;
    if (!in_set(decode(bytes, next), set)) break;
    at = next;
  }
  return at;
}

size_t strip_right(std::string_view bytes, size_t begin, const std::u32string* set) {
  size_t end = bytes.size();
  while (end > begin) {
    const size_t start = previous(bytes, end);
    size_t at = start;
    if (!in_set(decode(bytes, at), set)) break;
    end = start;
  }
  return end;
}

std::u32string decode_all(std::string_view bytes) {
  std::u32string code_points;
  for (size_t at = 0; at < bytes.size();) code_points.push_back(decode(bytes, at));
  return code_points;
}

std::string encode_all(std::u32string_view code_points) {
  std::string bytes;
  for (const char32_t code_point : code_points) encode(code_point, bytes);
  return bytes;
}

}  // namespace chorus::text::jinja
