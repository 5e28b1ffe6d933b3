// SentencePiece-style BPE (GGUF "llama"): characters are symbols, spaces are written as U+2581,
// two neighbours join where their joined text is a token, the one of the highest score first, and
// characters that the vocabulary lacks fall back to byte tokens.
#pragma once

#include <array>
#include <vector>

#include "router/text/merge.h"
#include "router/text/token_index.h"
#include "router/text/vocabulary_tokenizer.h"

namespace chorus::text {

class SentenceBpe final : public VocabularyTokenizer {
 public:
  // Throws FileError(corrupt) where the scores are missing, or neither a byte nor an unknown token
  // stands ready for characters that the vocabulary lacks.
  explicit SentenceBpe(const modelfile::Vocabulary& vocabulary);
  bool strips_first_space() const override { return space_prefix_; }
  bool has_byte_tokens() const override { return true; }

 private:
  void encode_text(std::string_view text, std::vector<int32_t>& ids) const override;
  void encode_piece(std::string_view piece, std::vector<int32_t>& ids) const;
  void merge_piece(std::string_view piece, std::vector<Symbol>& symbols) const;
  void read_tokens(const modelfile::Vocabulary& vocabulary);
  void rank_by_score(const modelfile::Vocabulary& vocabulary);
  void find_joining_characters();
  void index_whole_pieces();
  bool may_join_space(char32_t code) const;

  bool space_prefix_;
  int32_t unknown_;  // -1: none
  std::array<int32_t, 256> byte_ids_;
  std::vector<std::string> tokens_;  // as matched in escaped text; only normal ones
  std::vector<uint32_t> ranks_;      // by id: 0 for the highest score; equal scores are equal
  std::vector<char32_t> joining_;    // sorted: characters that some token has before U+2581
  TokenIndex index_;                 // of normal tokens
  TokenIndex whole_;                 // those that merging their own text arrives at
};

}  // namespace chorus::text
