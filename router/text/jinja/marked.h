// Text that remembers which of its bytes came from outside (messages, tools, documents). Every
// operation of the template language that makes text from text carries these ranges along, so that
// the tokenizer can refuse control tokens there.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "router/text/prompt.h"

namespace chorus::text::jinja {

struct MarkedText {
  std::string bytes;
  std::vector<ByteRange> outside;  // sorted, disjoint, not touching
  bool markup = false;             // Python's Markup: joining it with plain text escapes that text
};

MarkedText plain(std::string bytes);    // the template's own
MarkedText foreign(std::string bytes);  // wholly from outside

void append(MarkedText& to, std::string_view bytes);  // bytes of the template's own
void append(MarkedText& to, const MarkedText& from);
void append(MarkedText& to, const MarkedText& from, size_t begin, size_t end);
MarkedText slice(const MarkedText& from, size_t begin, size_t end);

// For operations that cannot say which byte came from where.
void mark_all(MarkedText& text);

}  // namespace chorus::text::jinja
