#include "router/text/pipeline/pattern.h"

#include "router/text/unicode/unicode.h"

namespace chorus::text {

Pattern::Pattern(const modelfile::TextPattern& pattern, const std::string& source)
    : text_(pattern.text) {
  if (pattern.is_regex || pattern.text.empty()) regex_.emplace(pattern.text, source);
}

void Pattern::find_all(std::string_view text, std::vector<Span>& matches) const {
  matches.clear();
  if (text.empty()) return;
  if (!regex_) {
    for (size_t at = text.find(text_); at != std::string_view::npos;) {
      matches.push_back({at, at + text_.size()});
      at = text.find(text_, at + text_.size());
    }
    return;
  }
  Regex::Budget budget(text.size());
  for (size_t from = 0; from <= text.size();) {
    Regex::Match match = regex_->search(text, from, budget);
    if (!match.found) return;
    bool empty = match.begin == match.end;
    if (empty && !matches.empty() && matches.back().end == match.end) {
      if (from >= text.size()) return;
      from += static_cast<size_t>(unicode::decode(text.substr(from)).bytes);
      continue;
    }
    matches.push_back({match.begin, match.end});
    from = match.end;
  }
}

}  // namespace chorus::text
