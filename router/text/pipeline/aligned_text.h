// A text that is being rewritten, and for each of its bytes, where asked for, which bytes of the
// original it came from. The rules by which an added or replaced character inherits its origin are
// those of Hugging Face's tokenizers, so that offsets come out the same.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "router/text/unicode/unicode.h"

namespace chorus::text {

struct Origin {
  uint32_t begin = 0, end = 0;
};

struct AlignedText {
  std::string text;
  std::vector<Origin> origin;  // one a byte, or empty: not asked for

  bool tracked() const { return !origin.empty(); }
};

// A part of an original text; tracked, each byte belongs to its whole character. `begin` is where
// the part begins in the original.
AlignedText align(std::string_view part, size_t begin, bool tracked);

// Writes a rewritten text: code points are put one after another, each with what it replaces.
class Rewrite {
 public:
  explicit Rewrite(AlignedText& text) : source_(text) { made_.text.reserve(text.text.size()); }

  // Leaves out characters of the source, `bytes` long, before the first one is put.
  void skip(size_t bytes) { at_ += bytes; }
  void put(char32_t code, int32_t change);
  // The same characters again; `bytes` ends at a character.
  void keep(size_t bytes);
  // Replaces the source by what was put.
  void finish() { source_ = std::move(made_); }

  size_t at() const { return at_; }  // bytes of the source that are dealt with

 private:
  AlignedText& source_;
  AlignedText made_;
  size_t at_ = 0;
};

// Replaces a whole text by code points that say what they replace, from `skipped` bytes on.
void rewrite(AlignedText& text, const std::vector<unicode::Changed>& codes, size_t skipped = 0);

}  // namespace chorus::text
