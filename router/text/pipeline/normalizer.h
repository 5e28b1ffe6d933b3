// The normalizers of a tokenizer, one after another over a text.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "modelfile/tokenizer_spec.h"
#include "router/text/pipeline/aligned_text.h"

namespace chorus::text {

// One normalizer. Immutable.
class NormalizerStep {
 public:
  virtual ~NormalizerStep() = default;
  virtual void apply(AlignedText& text) const = 0;
  // Whether `apply` would certainly change nothing; quick, and false where in doubt.
  virtual bool leaves_alone(std::string_view) const { return false; }
};

class Normalizer {
 public:
  // Throws modelfile::FileError(corrupt) where a pattern or a table is damaged.
  Normalizer(const std::vector<modelfile::normalizer::Step>& steps, const std::string& source);

  bool empty() const { return steps_.empty(); }
  bool leaves_alone(std::string_view text) const;
  void apply(AlignedText& text) const;

 private:
  std::vector<std::unique_ptr<NormalizerStep>> steps_;
};

// GPT-2's spelling of bytes as printable characters.
char32_t printable_byte(unsigned char byte);
// The byte that a character stands for, or -1.
int byte_of_printable(char32_t code);

}  // namespace chorus::text
