#include "router/text/pipeline/token_model.h"

#include <variant>

#include "router/text/pipeline/bpe_model.h"
#include "router/text/pipeline/normalizer.h"
#include "router/text/pipeline/unigram_model.h"
#include "router/text/pipeline/word_models.h"
#include "router/text/unicode/unicode.h"

namespace chorus::text {
namespace {

bool has_all_bytes(const std::vector<std::string>& tokens) {
  size_t found = 0;
  for (const std::string& token : tokens) {
    if (token.empty()) continue;
    unicode::Character character = unicode::decode(token);
    found += static_cast<size_t>(character.bytes) == token.size() &&
             byte_of_printable(character.code) >= 0;
  }
  return found == 256;
}

}  // namespace

bool takes_bytes(const modelfile::TokenizerSpec& spec) {
  const auto* bpe = std::get_if<modelfile::BpeModel>(&spec.model);
  if (bpe == nullptr || spec.pre_tokenizer.empty()) return false;
  if (!std::holds_alternative<modelfile::pre_tokenizer::ByteLevel>(spec.pre_tokenizer.back())) {
    return false;
  }
  if (!bpe->continuing_subword_prefix.empty() || !bpe->end_of_word_suffix.empty()) return false;
  return (!bpe->unknown && !bpe->byte_fallback) || has_all_bytes(spec.tokens);
}

std::unique_ptr<TokenModel> make_token_model(const modelfile::TokenizerSpec& spec) {
  if (const auto* bpe = std::get_if<modelfile::BpeModel>(&spec.model)) {
    return std::make_unique<BpeModel>(spec, *bpe, takes_bytes(spec));
  }
  if (const auto* unigram = std::get_if<modelfile::UnigramModel>(&spec.model)) {
    return std::make_unique<UnigramModel>(spec, *unigram);
  }
  if (const auto* words = std::get_if<modelfile::WordPieceModel>(&spec.model)) {
    return std::make_unique<WordPieceModel>(spec, *words);
  }
  return std::make_unique<WordLevelModel>(spec, std::get<modelfile::WordLevelModel>(spec.model));
}

}  // namespace chorus::text
