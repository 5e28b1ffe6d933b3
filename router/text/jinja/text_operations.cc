#include "router/text/jinja/text_operations.h"

#include <algorithm>

#include "router/text/jinja/codepoints.h"
#include "router/text/jinja/evaluator.h"

namespace chorus::text::jinja {
namespace {

constexpr auto npos = std::string::npos;

bool ends_line(char32_t c) {
  return (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 ||
         c == 0x2029;
}

class Splitter {
 public:
  Splitter(Engine& engine, const MarkedText& text) : engine_(engine), text_(text) {}

  void push(size_t begin, size_t end) {
    engine_.charge(1);
    parts_.push_back(slice(text_, begin, end));
  }

  void at_separator(const std::string& separator, int64_t limit) {
    size_t begin = 0;
    for (size_t found = 0; limit != 0; --limit, begin = found + separator.size()) {
      found = find_text(text_.bytes, separator, begin);
      if (found == npos) break;
      push(begin, found);
    }
    push(begin, text_.bytes.size());
  }

  void at_separator_from_right(const std::string& separator, int64_t limit) {
    size_t end = text_.bytes.size();
    for (; limit != 0 && end >= separator.size(); --limit) {
      const size_t found = text_.bytes.rfind(separator, end - separator.size());
      engine_.charge(backward_work(end - (found == npos ? 0 : found), separator));
      if (found == npos) break;
      push(found + separator.size(), end);
      end = found;
    }
    push(0, end);
    std::reverse(parts_.begin(), parts_.end());
  }

  void at_space(int64_t limit) {
    const std::string_view bytes = text_.bytes;
    size_t at = strip_left(bytes, nullptr);
    for (; at < bytes.size() && limit != 0; --limit) {
      size_t end = at;
      for (size_t next = at; next < bytes.size() && !is_space(decode(bytes, next));) end = next;
      push(at, end);
      at = end + strip_left(bytes.substr(end), nullptr);
    }
    if (at < bytes.size()) push(at, bytes.size());
  }

  void at_space_from_right(int64_t limit) {
    const std::string_view bytes = text_.bytes;
    size_t end = strip_right(bytes, 0, nullptr);
    for (; end > 0 && limit != 0; --limit) {
      size_t begin = end;
      while (begin > 0) {
        const size_t start = previous(bytes, begin);
        size_t at = start;
        if (is_space(decode(bytes, at))) break;
        begin = start;
      }
      push(begin, end);
      end = strip_right(bytes.substr(0, begin), 0, nullptr);
    }
    if (end > 0) push(0, end);
    std::reverse(parts_.begin(), parts_.end());
  }

  std::vector<MarkedText> parts() { return std::move(parts_); }

 private:
  Engine& engine_;
  const MarkedText& text_;
  std::vector<MarkedText> parts_;
};

// An empty `old` matches before every code point and at the end.
MarkedText interleaved(const MarkedText& text, const MarkedText& fresh, int64_t count) {
  MarkedText result;
  size_t at = 0;
  for (; count != 0; --count) {
    append(result, fresh);
    if (at == text.bytes.size()) return result;
    const size_t begin = at;
    decode(text.bytes, at);
    append(result, text, begin, at);
    if (result.bytes.size() > kOutputMax) fail("a string in the template grows too long");
  }
  append(result, text, at, text.bytes.size());
  return result;
}

}  // namespace

int64_t backward_work(size_t text_bytes, std::string_view wanted) {
  return static_cast<int64_t>(text_bytes) * static_cast<int64_t>(wanted.size()) / 256;
}

MarkedText strip(const MarkedText& text, const std::string* characters, Sides sides) {
  std::u32string set;
  if (characters != nullptr) set = decode_all(*characters);
  const std::u32string* chosen = characters == nullptr ? nullptr : &set;
  const size_t begin = sides == Sides::right ? 0 : strip_left(text.bytes, chosen);
  const size_t end =
      sides == Sides::left ? text.bytes.size() : strip_right(text.bytes, begin, chosen);
  return slice(text, begin, end);
}

MarkedText replace(Engine& engine, const MarkedText& text, const std::string& old,
                   const MarkedText& fresh, int64_t count) {
  engine.charge(static_cast<int64_t>(text.bytes.size() / 64));
  if (old.empty()) return interleaved(text, fresh, count);
  MarkedText result;
  size_t begin = 0;
  for (; count != 0; --count) {
    const size_t found = find_text(text.bytes, old, begin);
    if (found == npos) break;
    engine.charge(1);
    append(result, text, begin, found);
    append(result, fresh);
    begin = found + old.size();
    if (result.bytes.size() > kOutputMax) fail("a string in the template grows too long");
  }
  append(result, text, begin, text.bytes.size());
  return result;
}

std::vector<MarkedText> split(Engine& engine, const MarkedText& text, const std::string* separator,
                              int64_t limit, bool from_right) {
  engine.charge(static_cast<int64_t>(text.bytes.size() / 64));
  Splitter splitter(engine, text);
  if (separator == nullptr) {
    from_right ? splitter.at_space_from_right(limit) : splitter.at_space(limit);
  } else {
    if (separator->empty()) fail("empty separator");
    from_right ? splitter.at_separator_from_right(*separator, limit)
               : splitter.at_separator(*separator, limit);
  }
  return splitter.parts();
}

std::vector<MarkedText> split_lines(Engine& engine, const MarkedText& text, bool keep_ends) {
  const std::string_view bytes = text.bytes;
  Splitter splitter(engine, text);
  size_t begin = 0;
  for (size_t at = 0; at < bytes.size();) {
    const size_t end = at;
    const char32_t c = decode(bytes, at);
    if (!ends_line(c)) continue;
    if (c == '\r' && at < bytes.size() && bytes[at] == '\n') ++at;
    splitter.push(begin, keep_ends ? at : end);
    begin = at;
  }
  if (begin < bytes.size()) splitter.push(begin, bytes.size());
  return splitter.parts();
}

MarkedText padded(Engine& engine, const MarkedText& text, int64_t width, const MarkedText& fill,
                  Sides text_side) {
  if (code_point_count(fill.bytes) != 1) {
    fail("The fill character must be exactly one character long");
  }
  const auto size = static_cast<int64_t>(code_point_count(text.bytes));
  const int64_t free = std::max<int64_t>(width - size, 0);
  if (free > static_cast<int64_t>(kOutputMax)) fail("a string in the template grows too long");
  engine.charge(free / 16);
  // Python puts the odd blank to the left where the width is odd, else to the right.
  int64_t left = text_side == Sides::left ? 0 : free;
  if (text_side == Sides::both) left = free / 2 + (free & width & 1);
  MarkedText result;
  result.markup = text.markup;
  for (int64_t i = 0; i < left; ++i) append(result, fill);
  append(result, text);
  for (int64_t i = left; i < free; ++i) append(result, fill);
  return result;
}

}  // namespace chorus::text::jinja
