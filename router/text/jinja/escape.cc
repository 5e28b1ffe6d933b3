#include "router/text/jinja/escape.h"

#include <string_view>

namespace chorus::text::jinja {
namespace {

std::string_view entity(char c) {
  switch (c) {
    case '&':
      return "&amp;";
    case '<':
      return "&lt;";
    case '>':
      return "&gt;";
    case '\'':
      return "&#39;";
    case '"':
      return "&#34;";
    default:
      return {};
  }
}

}  // namespace

MarkedText escaped(const MarkedText& text) {
  if (text.markup) return text;
  MarkedText result;
  result.markup = true;
  size_t copied = 0;
  for (size_t i = 0; i < text.bytes.size(); ++i) {
    const std::string_view replacement = entity(text.bytes[i]);
    if (replacement.empty()) continue;
    append(result, text, copied, i);
    append(result, replacement);  // an entity alone makes no control token
    copied = i + 1;
  }
  append(result, text, copied, text.bytes.size());
  return result;
}

}  // namespace chorus::text::jinja
