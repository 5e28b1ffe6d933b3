// Range bookkeeping of MarkedText. Marks of one origin that touch are merged, so text that is
// wholly from one message has one mark however often it was cut and joined.
#include "router/text/jinja/marked.h"

#include <algorithm>

namespace chorus::text::jinja {

MarkedText plain(std::string bytes) {
  MarkedText text;
  text.bytes = std::move(bytes);
  return text;
}

MarkedText marked(std::string bytes, Origin origin) {
  MarkedText text = plain(std::move(bytes));
  mark_all(text, origin);
  return text;
}

void append(MarkedText& to, std::string_view bytes) {
  to.bytes.append(bytes);
}

void append(MarkedText& to, const MarkedText& from) {
  append(to, from, 0, from.bytes.size());
}

void append(MarkedText& to, const MarkedText& from, size_t begin, size_t end) {
  if (begin >= end) return;  // within a mark it would leave an empty one
  const auto first = static_cast<int64_t>(begin);
  const auto last = static_cast<int64_t>(end);
  const auto shift = static_cast<int64_t>(to.bytes.size()) - first;
  to.bytes.append(from.bytes, begin, end - begin);
  auto range =
      std::upper_bound(from.outside.begin(), from.outside.end(), first,
                       [](int64_t at, const Mark& candidate) { return at < candidate.end; });
  for (; range != from.outside.end() && range->begin < last; ++range) {
    const Mark moved{std::max(range->begin, first) + shift, std::min(range->end, last) + shift,
                     range->origin};
    if (!to.outside.empty() && to.outside.back().end == moved.begin &&
        to.outside.back().origin == moved.origin) {
      to.outside.back().end = moved.end;
    } else {
      to.outside.push_back(moved);
    }
  }
}

MarkedText slice(const MarkedText& from, size_t begin, size_t end) {
  MarkedText text;
  text.markup = from.markup;
  append(text, from, begin, end);
  return text;
}

void mark_all(MarkedText& text, Origin origin) {
  text.outside.clear();
  if (origin == kOwn || text.bytes.empty()) return;
  text.outside.push_back({0, static_cast<int64_t>(text.bytes.size()), origin});
}

Origin origin_of(const MarkedText& text) {
  Origin origin = kOwn;
  for (const Mark& mark : text.outside) origin = joined_origin(origin, mark.origin);
  return origin;
}

}  // namespace chorus::text::jinja
