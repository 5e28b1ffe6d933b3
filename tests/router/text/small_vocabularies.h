// Vocabularies of a few hundred tokens for tests and fuzzing, one of each kind.
#pragma once

#include <fmt/format.h>

#include <string>
#include <vector>

#include "modelfile/model.h"
#include "modelfile/vocabulary_spec.h"
#include "router/text/tokenizer.h"

namespace chorus::text {

inline std::unique_ptr<Tokenizer> tokenizer_of(const modelfile::Vocabulary& vocabulary) {
  return make_tokenizer(modelfile::spec_of(vocabulary, "test.gguf"));
}

inline void add_token(modelfile::Vocabulary& vocabulary, const std::string& text,
                      modelfile::TokenKind kind, float score = 0) {
  vocabulary.tokens.push_back(text);
  vocabulary.kinds.push_back(kind);
  vocabulary.scores.push_back(score);
}

// All bytes in GPT-2's spelling, a few merges over a, b, c and the space, two control tokens and
// one added word. Pre-tokenizer qwen2, so that NFC has a part too.
inline modelfile::Vocabulary small_byte_vocabulary() {
  using modelfile::TokenKind;
  modelfile::Vocabulary vocabulary;
  vocabulary.model = "gpt2";
  vocabulary.pre = "qwen2";
  auto utf8 = [](int code) {
    if (code < 0x80) return std::string(1, static_cast<char>(code));
    return std::string{static_cast<char>(0xC0 | code >> 6),
                       static_cast<char>(0x80 | (code & 0x3F))};
  };
  int shifted = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    bool printable = (byte > ' ' && byte < 0x7F) || (byte > 0xA0 && byte != 0xAD);
    add_token(vocabulary, utf8(printable ? byte : shifted++), TokenKind::normal);
  }
  // "aaa" is a token that merging does not arrive at: "a a" comes first, and then "aa a" is none.
  vocabulary.merges = {"a b",       "b c",  "ab ab", "a a",  "aa aa", "\u0120 a",
                       "\u0120a b", "c ab", "ab bc", "bc a", "b b"};
  for (const std::string& merge : vocabulary.merges) {
    size_t space = merge.find(' ');
    std::string joined = merge.substr(0, space) + merge.substr(space + 1);
    bool there = false;
    for (const std::string& token : vocabulary.tokens) there = there || token == joined;
    if (!there) add_token(vocabulary, joined, TokenKind::normal);
  }
  add_token(vocabulary, "aaa", TokenKind::normal);
  add_token(vocabulary, "<|endoftext|>", TokenKind::control);
  vocabulary.bos = vocabulary.eos = static_cast<int32_t>(vocabulary.tokens.size()) - 1;
  add_token(vocabulary, "<|im_end|>", TokenKind::control);
  add_token(vocabulary, "<tool_call>", TokenKind::user_defined);
  return vocabulary;
}

// Byte tokens, a few characters and words with scores (some equal), one of them with a space
// inside, so that the text may not be cut there.
inline modelfile::Vocabulary small_sentence_vocabulary() {
  using modelfile::TokenKind;
  modelfile::Vocabulary vocabulary;
  vocabulary.model = "llama";
  vocabulary.pre = "default";
  add_token(vocabulary, "<unk>", TokenKind::unknown);
  add_token(vocabulary, "<s>", TokenKind::control);
  add_token(vocabulary, "</s>", TokenKind::control);
  for (int byte = 0; byte < 256; ++byte) {
    add_token(vocabulary, fmt::format("<0x{:02X}>", byte), TokenKind::byte);
  }
  add_token(vocabulary, "\u2581a", TokenKind::normal, -1);
  add_token(vocabulary, "ab", TokenKind::normal, -2);
  add_token(vocabulary, "a\u2581b", TokenKind::normal, -3);
  add_token(vocabulary, "a\u2581", TokenKind::normal, -2.5f);
  add_token(vocabulary, "\u2581\u2581", TokenKind::normal, -4);
  add_token(vocabulary, "\u2581c", TokenKind::normal, -5);
  add_token(vocabulary, "bc", TokenKind::normal, -5);
  add_token(vocabulary, "abc", TokenKind::normal, -6);
  add_token(vocabulary, "\u2581\u2581c", TokenKind::normal, -6);
  add_token(vocabulary, "cba", TokenKind::normal, -7);  // merging never arrives at it
  for (const char* character : {"a", "b", "c", "\u2581"}) {
    add_token(vocabulary, character, TokenKind::normal, -10);
  }
  vocabulary.unknown = 0;
  vocabulary.bos = 1;
  vocabulary.eos = 2;
  return vocabulary;
}

}  // namespace chorus::text
