// Text to token ids and back to bytes, exactly as the reference tokenizers do it. Made once from a
// model's vocabulary; immutable afterwards, so any thread may use it.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "modelfile/model.h"
#include "router/text/prompt.h"

namespace chorus::text {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // `prompt.text` must be valid UTF-8. `add_special` adds what the model wants around plain text
  // (BOS); chat prompts pass false, the template wrote it. Never fails: characters without a token
  // become byte tokens or the unknown token, or are dropped, as the reference does it.
  virtual std::vector<int32_t> encode(const Prompt& prompt, bool add_special) const = 0;

  // The bytes that a token stands for in generated text: possibly part of a character; empty for
  // control tokens. Valid for 0 <= id < size(). The view lives as long as the tokenizer.
  virtual std::string_view bytes(int32_t id) const = 0;
  // The token's own text, control tokens included ("<|im_end|>"), for logprobs and messages.
  virtual std::string_view text(int32_t id) const = 0;
  virtual bool is_control(int32_t id) const = 0;
  virtual int32_t size() const = 0;

  // All ids that end a turn: the file's eos, eot, eom, and control tokens known by their text
  // (<|im_end|>, <|eot_id|>, <end_of_turn>, ...), since many files name a wrong eos. Sorted.
  virtual const std::vector<int32_t>& end_ids() const = 0;
  virtual std::string_view bos_text() const = 0;  // for templates; empty where there is none
  virtual std::string_view eos_text() const = 0;
  // The decoder drops one space at the very start of a text (Llama 2 style vocabularies).
  virtual bool strips_first_space() const = 0;
  // Characters without a token of their own are spelled by tokens of one byte: what of those is no
  // UTF-8 is shown as one U+FFFD a byte.
  virtual bool has_byte_tokens() const { return false; }
};

// Throws modelfile::FileError(unsupported, corrupt) naming what it cannot read.
std::unique_ptr<Tokenizer> make_tokenizer(const modelfile::Vocabulary& vocabulary);

}  // namespace chorus::text
