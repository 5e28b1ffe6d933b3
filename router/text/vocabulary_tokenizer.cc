// End ids: a file's eos is often the base model's, so every control token whose text is known to
// end a turn or a text ends generation as well.
#include "router/text/vocabulary_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "modelfile/error.h"

namespace chorus::text {
namespace {

using modelfile::FileError;
using modelfile::TokenKind;
using modelfile::Vocabulary;

constexpr std::array<std::string_view, 18> kEndTexts = {
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<|endoftext|>",
    "<end_of_turn>",
    "</s>",
    "<eos>",
    "<|end_of_text|>",
    "<|eot|>",
    "<|return|>",
    "<|call|>",
    "<EOT>",
    "<|END_OF_TURN_TOKEN|>",
    "<|end_of_turn|>",
    "<|endofturn|>",
    "<end_of_utterance>",
    "<｜end▁of▁sentence｜>",
};

const Vocabulary& checked(const Vocabulary& vocabulary) {
  auto fail = [](const std::string& why) {
    throw FileError(FileError::Kind::corrupt, "the vocabulary " + why);
  };
  size_t count = vocabulary.tokens.size();
  if (count == 0 || count > (1u << 30)) fail(fmt::format("has {} tokens", count));
  if (vocabulary.kinds.size() != count) {
    fail(fmt::format("has {} tokens but {} token types", count, vocabulary.kinds.size()));
  }
  if (!vocabulary.scores.empty() && vocabulary.scores.size() != count) {
    fail(fmt::format("has {} tokens but {} scores", count, vocabulary.scores.size()));
  }
  auto check_id = [&](std::optional<int32_t> id, const char* what) {
    if (id && (*id < 0 || static_cast<size_t>(*id) >= count)) {
      fail(fmt::format("has {} tokens, so its {} token cannot be {}", count, what, *id));
    }
  };
  check_id(vocabulary.bos, "bos");
  check_id(vocabulary.eos, "eos");
  check_id(vocabulary.unknown, "unknown");
  for (int32_t id : vocabulary.end_of_turn) check_id(id, "end-of-turn");
  return vocabulary;
}

// All but the lists that only the derived class reads while it is made.
Vocabulary kept_part(const Vocabulary& vocabulary) {
  Vocabulary kept;
  kept.tokens = vocabulary.tokens;
  kept.kinds = vocabulary.kinds;
  kept.bos = vocabulary.bos;
  kept.eos = vocabulary.eos;
  kept.add_bos = vocabulary.add_bos;
  kept.add_eos = vocabulary.add_eos;
  return kept;
}

std::vector<AddedTokens::Token> added_tokens(const Vocabulary& vocabulary) {
  std::vector<AddedTokens::Token> added;
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    TokenKind kind = vocabulary.kinds[id];
    bool control = kind == TokenKind::control || kind == TokenKind::unknown;
    if ((control || kind == TokenKind::user_defined) && !vocabulary.tokens[id].empty()) {
      added.push_back({vocabulary.tokens[id], static_cast<int32_t>(id), control});
    }
  }
  return added;
}

std::vector<int32_t> find_end_ids(const Vocabulary& vocabulary) {
  std::vector<int32_t> ends = vocabulary.end_of_turn;
  if (vocabulary.eos) ends.push_back(*vocabulary.eos);
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    bool known =
        std::find(kEndTexts.begin(), kEndTexts.end(), vocabulary.tokens[id]) != kEndTexts.end();
    if (known && vocabulary.kinds[id] == TokenKind::control) {
      ends.push_back(static_cast<int32_t>(id));
    }
  }
  std::sort(ends.begin(), ends.end());
  ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
  return ends;
}

}  // namespace

VocabularyTokenizer::VocabularyTokenizer(const Vocabulary& vocabulary)
    : vocabulary_(kept_part(checked(vocabulary))),
      bytes_(vocabulary.tokens.size()),
      end_ids_(find_end_ids(vocabulary)),
      added_(added_tokens(vocabulary_)) {
  for (size_t id = 0; id < bytes_.size(); ++id) {
    if (vocabulary_.kinds[id] == TokenKind::user_defined) bytes_[id] = vocabulary_.tokens[id];
  }
}

bool VocabularyTokenizer::is_control(int32_t id) const {
  return kind(id) == TokenKind::control || kind(id) == TokenKind::unknown;
}

std::vector<int32_t> VocabularyTokenizer::encode(const Prompt& prompt, bool add_special) const {
  std::vector<int32_t> ids;
  ids.reserve(prompt.text.size() / 3 + 2);
  if (add_special && vocabulary_.add_bos && vocabulary_.bos) ids.push_back(*vocabulary_.bos);
  std::string_view text = prompt.text;
  size_t range = 0;
  for (size_t at = 0; at < text.size();) {
    AddedTokens::Match match = added_.find(text, at, prompt.from_outside, range);
    if (match.begin > at) encode_text(text.substr(at, match.begin - at), ids);
    if (match.id >= 0) ids.push_back(match.id);
    at = match.end;
  }
  if (add_special && vocabulary_.add_eos && vocabulary_.eos) ids.push_back(*vocabulary_.eos);
  return ids;
}

}  // namespace chorus::text
