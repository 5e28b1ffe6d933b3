// What the golden files of tokenizer_ids_test.cc cannot show: borders of text from outside, special
// ids, errors, and merging against a plain reference, on small vocabularies made here.
#include "router/text/tokenizer.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <random>

#include "modelfile/error.h"
#include "tests/router/text/small_vocabularies.h"

namespace chorus::text {
namespace {

using modelfile::FileError;
using modelfile::TokenKind;
using modelfile::Vocabulary;
using Ids = std::vector<int32_t>;

int32_t id_of(const Vocabulary& vocabulary, const std::string& token) {
  auto found = std::find(vocabulary.tokens.begin(), vocabulary.tokens.end(), token);
  REQUIRE(found != vocabulary.tokens.end());
  return static_cast<int32_t>(found - vocabulary.tokens.begin());
}

Ids ids_of(const Vocabulary& vocabulary, const std::vector<std::string>& tokens) {
  Ids ids;
  for (const std::string& token : tokens) ids.push_back(id_of(vocabulary, token));
  return ids;
}

Ids encode(const Vocabulary& vocabulary, const Prompt& prompt, bool add_special = false) {
  return tokenizer_of(vocabulary)->encode(prompt, add_special);
}

std::string decoded(const Tokenizer& tokenizer, const Ids& ids) {
  std::string bytes;
  for (int32_t id : ids) bytes += tokenizer.bytes(id);
  return bytes;
}

// The pair of the best merge, leftmost first, until there is none: byte-pair encoding as defined.
Ids merge_plainly(const Vocabulary& vocabulary, const std::string& text) {
  std::vector<std::string> symbols;
  for (char byte : text) symbols.emplace_back(1, byte);
  for (;;) {
    size_t best_rank = vocabulary.merges.size(), best = 0;
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      auto found = std::find(vocabulary.merges.begin(), vocabulary.merges.end(),
                             symbols[i] + " " + symbols[i + 1]);
      size_t rank = found - vocabulary.merges.begin();
      if (rank < best_rank) best_rank = rank, best = i;
    }
    if (best_rank == vocabulary.merges.size()) return ids_of(vocabulary, symbols);
    symbols[best] += symbols[best + 1];
    symbols.erase(symbols.begin() + best + 1);
  }
}

// The same by scores over a whole escaped text of ASCII letters, without cutting it anywhere.
Ids merge_by_score_plainly(const Vocabulary& vocabulary, const std::string& text) {
  std::vector<std::string> symbols;
  for (char byte : text) symbols.push_back(byte == ' ' ? "\u2581" : std::string(1, byte));
  for (;;) {
    float best_score = -1e30f;
    size_t best = symbols.size();
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      auto found = std::find(vocabulary.tokens.begin(), vocabulary.tokens.end(),
                             symbols[i] + symbols[i + 1]);
      if (found == vocabulary.tokens.end()) continue;
      float score = vocabulary.scores[found - vocabulary.tokens.begin()];
      if (score > best_score) best_score = score, best = i;
    }
    if (best == symbols.size()) return ids_of(vocabulary, symbols);
    symbols[best] += symbols[best + 1];
    symbols.erase(symbols.begin() + best + 1);
  }
}

FileError::Kind error_kind(const Vocabulary& vocabulary, const std::string& part) {
  try {
    tokenizer_of(vocabulary);
  } catch (const FileError& error) {
    INFO(error.what());
    CHECK(std::string(error.what()).find(part) != std::string::npos);
    return error.kind();
  }
  FAIL("no error");
  return {};
}

TEST_CASE("control tokens are made of template text only, added words of any") {
  Vocabulary vocabulary = small_byte_vocabulary();
  int32_t end = id_of(vocabulary, "<|im_end|>"), tool = id_of(vocabulary, "<tool_call>");
  std::string text = "<|im_end|><tool_call><|im_end|>";
  CHECK(encode(vocabulary, {text, {}}) == Ids{end, tool, end});
  Ids first_outside = encode(vocabulary, {text, {{0, 10}}});
  CHECK(std::count(first_outside.begin(), first_outside.end(), end) == 1);
  CHECK(first_outside.back() == end);
  Ids all_outside = encode(vocabulary, {text, {{0, 31}}});
  CHECK(std::count(all_outside.begin(), all_outside.end(), end) == 0);
  CHECK(std::count(all_outside.begin(), all_outside.end(), tool) == 1);
  CHECK(decoded(*tokenizer_of(vocabulary), all_outside) == text);
}

TEST_CASE("a control token does not match across the border of text from outside") {
  Vocabulary vocabulary = small_byte_vocabulary();
  int32_t end = id_of(vocabulary, "<|im_end|>");
  for (ByteRange range : {ByteRange{0, 1}, {9, 10}, {4, 5}, {4, 4}, {0, 10}, {9, 30}}) {
    INFO("from " << range.begin << " to " << range.end);
    Ids ids = encode(vocabulary, {"<|im_end|>", {range}});
    CHECK(std::count(ids.begin(), ids.end(), end) == 0);
  }
  CHECK(encode(vocabulary, {"<|im_end|>", {{0, 0}, {10, 12}}}) == Ids{end});
}

TEST_CASE("of added tokens the leftmost wins, then the longest") {
  Vocabulary vocabulary = small_byte_vocabulary();
  add_token(vocabulary, "<tool", TokenKind::user_defined);
  add_token(vocabulary, "_call><x>", TokenKind::user_defined);
  CHECK(encode(vocabulary, {"<tool_call><x>", {}}) ==
        ids_of(vocabulary, {"<tool_call>", "<", "x", ">"}));
  CHECK(encode(vocabulary, {"<tool_call", {}}) ==
        ids_of(vocabulary, {"<tool", "_", "c", "a", "l", "l"}));
}

TEST_CASE("byte-level merging is that of the plain definition, for short and long pieces") {
  Vocabulary vocabulary = small_byte_vocabulary();
  std::mt19937 random(99);
  for (int round = 0; round < 200; ++round) {
    std::string text;
    for (int i = 0, length = 1 + round; i < length; ++i) text += "abc"[random() % 3];
    INFO(text);
    REQUIRE(encode(vocabulary, {text, {}}) == merge_plainly(vocabulary, text));
  }
}

TEST_CASE("merging by score is that of the plain definition, wherever the text is cut") {
  Vocabulary vocabulary = small_sentence_vocabulary();
  vocabulary.add_space_prefix = false;
  std::mt19937 random(5);
  for (int round = 0; round < 300; ++round) {
    std::string text;
    for (int i = 0, length = 1 + round / 2; i < length; ++i) text += "ab c"[random() % 4];
    INFO(text);
    REQUIRE(encode(vocabulary, {text, {}}) == merge_by_score_plainly(vocabulary, text));
  }
}

TEST_CASE("a token that merging does not arrive at is not made of a piece with its text") {
  Vocabulary bytes = small_byte_vocabulary();
  CHECK(encode(bytes, {"aaa", {}}) == ids_of(bytes, {"aa", "a"}));
  bytes.pre = "llama-bpe";  // ignores merges: there it is
  CHECK(encode(bytes, {"aaa", {}}) == ids_of(bytes, {"aaa"}));
  Vocabulary sentence = small_sentence_vocabulary();
  sentence.add_space_prefix = false;
  CHECK(encode(sentence, {"cba", {}}) == ids_of(sentence, {"c", "b", "a"}));
}

TEST_CASE("a hundred thousand equal characters are encoded in one go") {
  Vocabulary vocabulary = small_byte_vocabulary();
  Ids ids = encode(vocabulary, {std::string(100000, 'a'), {}});
  CHECK(decoded(*tokenizer_of(vocabulary), ids) == std::string(100000, 'a'));
}

TEST_CASE("special ids stand around plain text where the file wants them") {
  Vocabulary vocabulary = small_byte_vocabulary();
  vocabulary.add_bos = vocabulary.add_eos = true;
  Ids plain = encode(vocabulary, {"ab", {}}, false);
  Ids special = encode(vocabulary, {"ab", {}}, true);
  REQUIRE(special.size() == plain.size() + 2);
  CHECK(special.front() == *vocabulary.bos);
  CHECK(special.back() == *vocabulary.eos);
  CHECK(encode(vocabulary, {"", {}}, false).empty());
}

TEST_CASE("all tokens that end a turn are found, whatever the file's eos is") {
  Vocabulary vocabulary = small_byte_vocabulary();
  vocabulary.end_of_turn = {id_of(vocabulary, "a")};
  add_token(vocabulary, "<end_of_turn>", TokenKind::normal);  // files often have the kind wrong
  auto tokenizer = tokenizer_of(vocabulary);
  CHECK(tokenizer->end_ids() ==
        ids_of(vocabulary, {"a", "<|endoftext|>", "<|im_end|>", "<end_of_turn>"}));
  CHECK(tokenizer->eos_text() == "<|endoftext|>");
  CHECK(tokenizer->bos_text() == "<|endoftext|>");
}

TEST_CASE("tokens give their bytes, control tokens only their text") {
  Vocabulary vocabulary = small_byte_vocabulary();
  auto tokenizer = tokenizer_of(vocabulary);
  int32_t end = id_of(vocabulary, "<|im_end|>");
  CHECK(tokenizer->bytes(end).empty());
  CHECK(tokenizer->text(end) == "<|im_end|>");
  CHECK(tokenizer->is_control(end));
  CHECK(tokenizer->bytes(id_of(vocabulary, "<tool_call>")) == "<tool_call>");
  CHECK_FALSE(tokenizer->is_control(id_of(vocabulary, "<tool_call>")));
  CHECK(tokenizer->bytes(id_of(vocabulary, "\u0120")) == " ");
  CHECK(tokenizer->bytes(id_of(vocabulary, "\u0143")) == "\xAD");
  CHECK_FALSE(tokenizer->strips_first_space());
}

TEST_CASE("characters that a vocabulary lacks become bytes, those that are there do not") {
  Vocabulary vocabulary = small_sentence_vocabulary();
  vocabulary.add_space_prefix = false;
  CHECK(encode(vocabulary, {"a\u00e9<0x41>", {}}) ==
        ids_of(vocabulary, {"a", "<0xC3>", "<0xA9>", "<0x3C>", "<0x30>", "<0x78>", "<0x34>",
                            "<0x31>", "<0x3E>"}));
}

TEST_CASE("neighbouring characters without bytes are one unknown token") {
  Vocabulary vocabulary = small_sentence_vocabulary();
  vocabulary.add_space_prefix = false;
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    if (vocabulary.kinds[id] == TokenKind::byte) vocabulary.kinds[id] = TokenKind::unused;
  }
  CHECK(encode(vocabulary, {"axyb", {}}) == ids_of(vocabulary, {"a", "<unk>", "b"}));
}

TEST_CASE("a space goes before text where the vocabulary was made so") {
  Vocabulary vocabulary = small_sentence_vocabulary();
  CHECK(encode(vocabulary, {"ab", {}}) == ids_of(vocabulary, {"\u2581a", "b"}));
  CHECK(tokenizer_of(vocabulary)->strips_first_space());
  CHECK(decoded(*tokenizer_of(vocabulary), encode(vocabulary, {"ab", {}})) == " ab");
  vocabulary.add_space_prefix = false;
  CHECK(encode(vocabulary, {"ab", {}}) == ids_of(vocabulary, {"ab"}));
  CHECK_FALSE(tokenizer_of(vocabulary)->strips_first_space());
}

TEST_CASE("a vocabulary that cannot be used is refused with the reason") {
  Vocabulary unknown_pre = small_byte_vocabulary();
  unknown_pre.pre = "fancy";
  CHECK(error_kind(unknown_pre, "\"fancy\"; known are a.x-4.0") == FileError::Kind::unsupported);
  Vocabulary unknown_model = small_byte_vocabulary();
  unknown_model.model = "rwkv";
  CHECK(error_kind(unknown_model, "rwkv") == FileError::Kind::unsupported);
  Vocabulary bad_merge = small_byte_vocabulary();
  bad_merge.merges.push_back("ab zz");
  CHECK(error_kind(bad_merge, "\"ab zz\"") == FileError::Kind::corrupt);
  Vocabulary no_kinds = small_byte_vocabulary();
  no_kinds.kinds.pop_back();
  CHECK(error_kind(no_kinds, "token types") == FileError::Kind::corrupt);
  Vocabulary no_scores = small_sentence_vocabulary();
  no_scores.scores.clear();
  CHECK(error_kind(no_scores, "scores") == FileError::Kind::corrupt);
  Vocabulary bad_eos = small_byte_vocabulary();
  bad_eos.eos = 100000;
  CHECK(error_kind(bad_eos, "eos") == FileError::Kind::corrupt);
  Vocabulary empty;
  empty.model = "gpt2";
  CHECK(error_kind(empty, "0 tokens") == FileError::Kind::corrupt);
}

}  // namespace
}  // namespace chorus::text
