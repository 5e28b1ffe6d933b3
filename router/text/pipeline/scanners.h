// The regular expressions that most models cut their text with, written out by hand: a general
// engine spends most of the time of a whole encode on them. tests/router/text/scanners_test.cc
// holds them against the reference, and a scanner against the general engine.
#pragma once

#include <cstddef>
#include <string_view>

namespace chorus::text {

// Where the pattern's match at `at` ends, or `at` where it does not match there; at < text.size().
// Lookaheads see the end of `text` as the end of everything.
using Scanner = size_t (*)(std::string_view text, size_t at);

// By the pattern's text; nullptr where it is not known.
Scanner find_scanner(std::string_view pattern);

std::string_view gpt2_pattern();  // of the ByteLevel pre-tokenizer

}  // namespace chorus::text
