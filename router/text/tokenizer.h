// Text to token ids and back, exactly as the reference tokenizers do it. Made once from a model's
// files; immutable afterwards, so any thread may use it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "modelfile/tokenizer_spec.h"
#include "router/text/prompt.h"

namespace chorus::text {

struct Encoding {
  std::vector<int32_t> ids;
  // Bytes of the input that each id came from; {0, 0} for ids that were put around it.
  std::vector<ByteRange> offsets;
};

// What the tokens of one sequence make visible, for decoders that look at a token's neighbours too.
// Not shared between threads.
class TokenDecoder {
 public:
  virtual ~TokenDecoder() = default;
  // Bytes to append to the text, perhaps none yet; ids that do not exist have none.
  virtual std::string push(int32_t id) = 0;
  virtual std::string finish() = 0;  // what was held back
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // `prompt.text` must be valid UTF-8. `add_special` adds what the model wants around plain text
  // (BOS); chat prompts pass false, the template wrote it. Characters without a token become byte
  // tokens or the unknown token, or are dropped, as the reference does it. Throws RegexEffortError
  // (a std::runtime_error) where a pattern in the model's file takes too long on this text.
  virtual std::vector<int32_t> encode(const Prompt& prompt, bool add_special) const = 0;
  virtual Encoding encode_with_offsets(const Prompt& prompt, bool add_special) const = 0;

  // The bytes that a token stands for in generated text: possibly part of a character; empty for
  // control tokens. Valid for 0 <= id < size(). The view lives as long as the tokenizer. Where
  // decodes_by_token() is false, they are what the token adds in the midst of a text.
  virtual std::string_view bytes(int32_t id) const = 0;
  // The token's own text, control tokens included ("<|im_end|>"), for logprobs and messages.
  virtual std::string_view text(int32_t id) const = 0;
  virtual bool is_control(int32_t id) const = 0;
  // What a control token shows in text that special tokens are not left out of.
  virtual std::string_view control_bytes(int32_t id) const { return text(id); }
  virtual int32_t size() const = 0;

  // All ids that end a turn: the file's eos, eot, eom, and control tokens known by their text
  // (<|im_end|>, <|eot_id|>, <end_of_turn>, ...), since many files name a wrong eos. Sorted.
  virtual const std::vector<int32_t>& end_ids() const = 0;
  virtual std::string_view bos_text() const = 0;  // for templates; empty where there is none
  virtual std::string_view eos_text() const = 0;

  // A text is the bytes of its tokens one after another, but for strips_first_space(). Otherwise
  // only a decoder knows it.
  virtual bool decodes_by_token() const { return true; }
  virtual std::unique_ptr<TokenDecoder> make_decoder(bool skip_special_tokens) const;
  // The decoder drops one space at the very start of a text (Llama 2 style vocabularies).
  virtual bool strips_first_space() const = 0;
  // Characters without a token of their own are spelled by tokens of one byte: what of those is no
  // UTF-8 is shown as one U+FFFD a byte.
  virtual bool has_byte_tokens() const { return false; }
};

// Throws modelfile::FileError(unsupported, corrupt) naming what it cannot read.
std::unique_ptr<Tokenizer> make_tokenizer(modelfile::TokenizerSpec spec);

// From a model's folder, a GGUF file or a tokenizer.json. Throws modelfile::FileError.
std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& path);

}  // namespace chorus::text
