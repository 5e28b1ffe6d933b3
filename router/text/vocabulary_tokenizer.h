// What both kinds of tokenizer share: the tables about tokens, and the way from a prompt to pieces
// of plain text between its added tokens.
#pragma once

#include <string>
#include <vector>

#include "router/text/added_tokens.h"
#include "router/text/tokenizer.h"

namespace chorus::text {

class VocabularyTokenizer : public Tokenizer {
 public:
  std::vector<int32_t> encode(const Prompt& prompt, bool add_special) const final;
  std::string_view bytes(int32_t id) const final { return bytes_[id]; }
  std::string_view text(int32_t id) const final { return vocabulary_.tokens[id]; }
  bool is_control(int32_t id) const final;
  int32_t size() const final { return static_cast<int32_t>(vocabulary_.tokens.size()); }
  const std::vector<int32_t>& end_ids() const final { return end_ids_; }
  std::string_view bos_text() const final { return text_of(vocabulary_.bos); }
  std::string_view eos_text() const final { return text_of(vocabulary_.eos); }

 protected:
  // Throws FileError(corrupt) where the lists do not fit together.
  explicit VocabularyTokenizer(const modelfile::Vocabulary& vocabulary);

  // Appends the ids of text that holds no added token.
  virtual void encode_text(std::string_view text, std::vector<int32_t>& ids) const = 0;

  modelfile::TokenKind kind(int32_t id) const { return vocabulary_.kinds[id]; }
  // What normal tokens and byte tokens stand for; the constructor has set all others.
  void set_bytes(int32_t id, std::string bytes) { bytes_[id] = std::move(bytes); }

 private:
  std::string_view text_of(std::optional<int32_t> id) const {
    return id ? text(*id) : std::string_view();
  }

  modelfile::Vocabulary vocabulary_;  // without merges and scores
  std::vector<std::string> bytes_;
  std::vector<int32_t> end_ids_;
  AddedTokens added_;
};

}  // namespace chorus::text
