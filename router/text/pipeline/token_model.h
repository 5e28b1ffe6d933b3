// The model of a tokenizer: a piece of text to token ids. Immutable, so any thread may use it.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "modelfile/tokenizer_spec.h"

namespace chorus::text {

struct TokenSpan {
  int32_t id;
  uint32_t begin, end;  // its bytes in the piece
};

class TokenModel {
 public:
  virtual ~TokenModel() = default;

  // `piece` is not empty. Characters without a token become byte tokens or the unknown token, or
  // are dropped, as the reference does it.
  virtual void encode(std::string_view piece, std::vector<int32_t>& ids) const = 0;
  virtual void encode_spans(std::string_view piece, std::vector<TokenSpan>& spans) const = 0;
};

// Whether a spec's model may be given a text's own bytes instead of their printable spelling, which
// a last ByteLevel pre-tokenizer would write: it is a plain BPE.
bool takes_bytes(const modelfile::TokenizerSpec& spec);

// `spec` outlives the model. Throws modelfile::FileError(corrupt) where the tables do not fit.
std::unique_ptr<TokenModel> make_token_model(const modelfile::TokenizerSpec& spec);

}  // namespace chorus::text
