// Text that remembers which of its bytes came from outside (messages, tools, documents). Every
// operation of the template language that makes text from text carries these ranges along, so that
// the tokenizer can refuse control tokens there.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "router/text/prompt.h"

namespace chorus::text::jinja {

// Where text comes from: the template's own (0), outside (-1), or message n - 1 (n > 0).
using Origin = int32_t;
constexpr Origin kOwn = 0;
constexpr Origin kOutside = -1;
constexpr Origin origin_of_message(int message) {
  return message + 1;
}
// Of text made from both.
constexpr Origin joined_origin(Origin a, Origin b) {
  return a == b || b == kOwn ? a : a == kOwn ? b : kOutside;
}

struct Mark {
  int64_t begin = 0;
  int64_t end = 0;
  Origin origin = kOutside;  // never kOwn
};

struct MarkedText {
  std::string bytes;
  std::vector<Mark> outside;  // sorted, disjoint; those that touch differ in origin
  bool markup = false;        // Python's Markup: joining it with plain text escapes that text
};

MarkedText marked(std::string bytes, Origin origin);  // wholly of that origin
MarkedText plain(std::string bytes);                  // the template's own

void append(MarkedText& to, std::string_view bytes);  // bytes of the template's own
void append(MarkedText& to, const MarkedText& from);
void append(MarkedText& to, const MarkedText& from, size_t begin, size_t end);
MarkedText slice(const MarkedText& from, size_t begin, size_t end);

// For operations that cannot say which byte came from where.
void mark_all(MarkedText& text, Origin origin);
Origin origin_of(const MarkedText& text);

}  // namespace chorus::text::jinja
