// Text on its way to the tokenizer: which of its bytes the model's author wrote (the template) and
// which came from outside. Control tokens are only ever made from the former, so that a user
// cannot forge a turn by typing <|im_end|>.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace chorus::text {

struct ByteRange {
  int64_t begin = 0;
  int64_t end = 0;
};

struct Prompt {
  std::string text;
  std::vector<ByteRange> from_outside;  // sorted, disjoint; control tokens do not match across them
};

}  // namespace chorus::text
