// A SentencePiece model file (tokenizer.model, spiece.model).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "modelfile/model.h"

namespace chorus::modelfile {

struct SentencePieceModel {
  enum class Kind : uint8_t { unigram = 1, bpe, word, character };
  struct Piece {
    std::string text;
    float score = 0;
    TokenKind kind = TokenKind::normal;
  };

  Kind kind = Kind::unigram;
  std::vector<Piece> pieces;  // by id
  bool byte_fallback = false;
  int32_t unknown = 0;
  std::optional<int32_t> bos, eos, padding;
  std::string charsmap;  // of the normalizer; empty for none
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;
};

// Throws FileError: corrupt.
SentencePieceModel read_sentencepiece(std::string_view bytes, const std::string& file_name);

}  // namespace chorus::modelfile
