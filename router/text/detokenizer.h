// Token bytes to text that may be sent: whole characters only, and never a part of a stop string.
// One per sequence; not shared between threads.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace chorus::text {

// An Aho-Corasick automaton over bytes for all stop strings of a request at once.
class StopStrings {
 public:
  explicit StopStrings(const std::vector<std::string>& stops);  // none empty
  ~StopStrings();
  StopStrings(StopStrings&&) noexcept;
  StopStrings& operator=(StopStrings&&) noexcept;

  struct Result {
    std::string text;      // may be sent now; all that came before a match, without it
    bool matched = false;  // a stop string ended here; what follows is dropped
  };
  Result push(std::string_view text);  // after a match: always empty and matched
  std::string finish();                // what was held back, when the sequence ends without a match

 private:
  struct Automaton;
  std::unique_ptr<Automaton> automaton_;
};

// Bytes to valid UTF-8: an incomplete tail that could still become a character is held, bytes that
// cannot become U+FFFD (one per maximal subpart, as Unicode recommends and HF's ByteLevel does).
class Utf8Stream {
 public:
  std::string push(std::string_view bytes);
  std::string finish();  // an incomplete tail becomes one U+FFFD

 private:
  std::string pending_;  // at most 3 bytes
};

// Both in one: what a sequence's tokens make visible.
class Detokenizer {
 public:
  Detokenizer(const std::vector<std::string>& stops, bool strip_first_space);
  StopStrings::Result push(std::string_view token_bytes);
  std::string finish();

 private:
  Utf8Stream utf8_;
  StopStrings stops_;
  bool strip_next_space_;
};

}  // namespace chorus::text
