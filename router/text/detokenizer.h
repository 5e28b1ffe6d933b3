// Token ids to text that may be sent: whole characters only, and never a part of a stop string.
// One per sequence; not shared between threads.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "router/text/tokenizer.h"

namespace chorus::text {

// An Aho-Corasick automaton over bytes for all stop strings of a request at once.
class StopStrings {
 public:
  // No stop string is empty. `include_stop`: a match is sent too, and cuts only what follows it.
  explicit StopStrings(const std::vector<std::string>& stops, bool include_stop = false);
  ~StopStrings();
  StopStrings(StopStrings&&) noexcept;
  StopStrings& operator=(StopStrings&&) noexcept;

  struct Result {
    std::string text;      // may be sent now
    bool matched = false;  // a stop string ended here; what follows is dropped
  };
  Result push(std::string_view text);  // after a match: always empty and matched
  std::string finish();                // what was held back, when the sequence ends without a match

 private:
  struct Automaton;
  std::unique_ptr<Automaton> automaton_;  // null where there are no stop strings
};

// Bytes to valid UTF-8: an incomplete tail that could still become a character is held, bytes that
// cannot become U+FFFD.
class Utf8Stream {
 public:
  // How many U+FFFD stand for broken bytes: one per maximal subpart of a character, as Unicode
  // recommends and HF's ByteLevel does, or one per byte, as HF's ByteFallback does.
  enum class Broken : uint8_t { per_subpart, per_byte };
  explicit Utf8Stream(Broken broken = Broken::per_subpart) : broken_(broken) {}

  // What came before the stream, of which only an incomplete character at the end matters: the
  // stream may complete it, and sends it whole then. It is never replaced.
  void continue_from(std::string_view bytes);

  std::string push(std::string_view bytes);
  std::string finish();  // an incomplete tail is replaced

 private:
  std::string_view replacement(size_t broken_bytes);

  Broken broken_;
  std::string pending_;     // at most 3 bytes
  size_t from_before_ = 0;  // so many of them came before the stream
};

struct DetokenizerOptions {
  std::vector<std::string> stops = {};  // none empty
  bool include_stop = false;            // the stop string is part of the text
  bool skip_special_tokens = true;      // control tokens have no text
  // The last ids of the prompt, where the output continues its text: then no leading space is
  // dropped, and the output may complete the character that the prompt ends in the middle of.
  std::vector<int32_t> prompt_tail = {};
};

// What a sequence's tokens make visible. Stop strings match in the text that is visible, across
// tokens but never into the prompt; the match that ends first wins, the longest of those.
class Detokenizer {
 public:
  // `tokenizer` outlives this.
  Detokenizer(const Tokenizer& tokenizer, DetokenizerOptions options);

  StopStrings::Result push(int32_t id);  // ids that the tokenizer does not know have no text
  std::string finish();                  // the rest, when the sequence ends without a match

  // Of the text so far, sent or held: where the next token's text begins.
  int64_t text_bytes() const { return text_bytes_; }

 private:
  std::string_view bytes(int32_t id) const;
  std::string before_output(const std::vector<int32_t>& prompt_tail, bool skip_special_tokens);
  void drop_prompt(std::string& decoded);

  const Tokenizer* tokenizer_;
  std::unique_ptr<TokenDecoder> decoder_;  // null where tokens have bytes of their own
  std::string prompt_held_;                // text of the prompt's that the decoder still holds
  bool skip_special_tokens_;
  bool strip_next_space_;
  int64_t text_bytes_ = 0;
  Utf8Stream utf8_;
  StopStrings stops_;
};

}  // namespace chorus::text
