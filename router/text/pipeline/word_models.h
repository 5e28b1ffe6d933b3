// WordPiece: a word is written as tokens by taking the longest that fits, again and again; where
// none fits, the whole word is unknown. WordLevel: a word is a token or unknown.
#pragma once

#include <vector>

#include "router/text/pipeline/token_index.h"
#include "router/text/pipeline/token_model.h"
#include "router/text/pipeline/token_trie.h"

namespace chorus::text {

class WordPieceModel final : public TokenModel {
 public:
  WordPieceModel(const modelfile::TokenizerSpec& spec, const modelfile::WordPieceModel& words);
  void encode(std::string_view piece, std::vector<int32_t>& ids) const override;
  void encode_spans(std::string_view piece, std::vector<TokenSpan>& spans) const override;

 private:
  bool find_parts(std::string_view piece, std::vector<TokenSpan>& parts) const;

  const modelfile::WordPieceModel& spec_;
  TokenIndex whole_;        // of words
  TokenTrie first_, rest_;  // what a word may begin with, and what may follow
};

class WordLevelModel final : public TokenModel {
 public:
  WordLevelModel(const modelfile::TokenizerSpec& spec, const modelfile::WordLevelModel& words);
  void encode(std::string_view piece, std::vector<int32_t>& ids) const override;
  void encode_spans(std::string_view piece, std::vector<TokenSpan>& spans) const override;

 private:
  const modelfile::WordLevelModel& spec_;
  TokenIndex index_;
};

}  // namespace chorus::text
