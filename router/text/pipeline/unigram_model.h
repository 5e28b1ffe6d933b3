// Unigram: of all ways to write a piece as tokens, the one whose scores add up to the most. Found
// in one pass from left to right, in time linear in the piece.
#pragma once

#include <vector>

#include "router/text/pipeline/byte_tokens.h"
#include "router/text/pipeline/token_index.h"
#include "router/text/pipeline/token_model.h"
#include "router/text/pipeline/token_trie.h"

namespace chorus::text {

class UnigramModel final : public TokenModel {
 public:
  UnigramModel(const modelfile::TokenizerSpec& spec, const modelfile::UnigramModel& unigram);
  void encode(std::string_view piece, std::vector<int32_t>& ids) const override;
  void encode_spans(std::string_view piece, std::vector<TokenSpan>& spans) const override;

 private:
  // The best way to a place in the piece.
  struct Step {
    double score = 0;
    int32_t id = 0;
    uint32_t from = kUnreached;
  };
  static constexpr uint32_t kUnreached = ~0u;
  static constexpr int32_t kUnknown = -1;  // the id of what has no token

  void find_path(std::string_view piece, std::vector<TokenSpan>& path) const;
  void walk(std::string_view piece, std::vector<Step>& steps) const;

  const modelfile::UnigramModel& spec_;
  TokenTrie trie_;
  TokenIndex index_;
  ByteTokens byte_tokens_;
  double unknown_score_ = 0;
};

}  // namespace chorus::text
