// Cuts text into the pieces that byte-level BPE merges within, as the regular expressions of the
// reference tokenizers do, by hand-written scanners: a general regex engine spends most of the
// time of a whole encode on this step, and Debian's knows Unicode 14 only.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace chorus::text {

// Where the piece that starts at `at` ends; at < text.size(), and the result is greater than `at`.
// Lookaheads see the end of `text` as the end of everything.
using Scanner = size_t (*)(std::string_view text, size_t at);

struct PreTokenizer {
  Scanner scan = nullptr;
  bool digits_apart = false;   // each \p{N} is a piece, and ends the text before it
  bool nfc = false;            // normalised before cutting
  bool ignore_merges = false;  // a piece that is in the vocabulary wins before merging

  // The piece at `at`. `limit` is scratch that the caller starts at 0 for each text.
  size_t next(std::string_view text, size_t at, size_t& limit) const;
};

// By the name in the model's file (tokenizer.ggml.pre); nullptr where it is not known.
const PreTokenizer* find_pre_tokenizer(std::string_view name);
std::vector<std::string> pre_tokenizer_names();  // sorted, for messages

}  // namespace chorus::text
