// Regular expressions of tokenizer files: Oniguruma's Ruby syntax over UTF-8, as the reference
// tokenizers use it. Debian's Oniguruma knows an older Unicode, so classes (\p{L}, \w, \d,
// [[:alpha:]], ...) are written out as ranges of our own tables first. The effort of a search is
// bounded: a pattern comes from a model's file, and text from anyone.
#pragma once

#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>

namespace chorus::text {

// The pattern tries too many ways to match; the text cannot be encoded with it.
class RegexEffortError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class Regex {
 public:
  struct Match {
    size_t begin = 0, end = 0;
    bool found = false;
  };
  // Effort that is left for one text, shared by all searches in it.
  class Budget {
   public:
    explicit Budget(size_t text_bytes) : retries_left_(20'000'000 + 100 * text_bytes) {}

   private:
    friend class Regex;
    uint64_t retries_left_;
  };

  // Throws modelfile::FileError(corrupt) that names `source` where the pattern is none.
  Regex(const std::string& pattern, const std::string& source);
  ~Regex();
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;

  // The first match that begins at `from` or after; matches may be empty. Lookarounds see all of
  // `text`. Throws RegexEffortError when the budget is spent.
  Match search(std::string_view text, size_t from, Budget& budget) const;

 private:
  struct Compiled;
  std::unique_ptr<Compiled> compiled_;
};

// The pattern with its classes written out.
std::string with_ranges(std::string_view pattern);

}  // namespace chorus::text
