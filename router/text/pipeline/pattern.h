// What a Split or a Replace looks for: plain text or a regular expression.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "modelfile/tokenizer_spec.h"
#include "router/text/pipeline/regex.h"

namespace chorus::text {

class Pattern {
 public:
  struct Span {
    size_t begin, end;
  };

  Pattern(const modelfile::TextPattern& pattern, const std::string& source);

  // All matches from left to right, none inside another; an empty one does not follow right after
  // another match. Throws RegexEffortError.
  void find_all(std::string_view text, std::vector<Span>& matches) const;

  // The text where the pattern is plain and not empty.
  std::optional<std::string_view> plain() const {
    if (regex_) return std::nullopt;
    return text_;
  }

 private:
  std::string text_;
  std::optional<Regex> regex_;
};

}  // namespace chorus::text
