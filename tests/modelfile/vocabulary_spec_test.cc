#include "modelfile/vocabulary_spec.h"

#include <catch2/catch.hpp>

#include "modelfile/error.h"
#include "modelfile/pre_names.h"
#include "modelfile/score_merges.h"
#include "modelfile/turn_ends.h"
#include "tests/modelfile/refusal.h"

namespace chorus::modelfile {
namespace {

struct Token {
  std::string text;
  TokenKind kind = TokenKind::normal;
  float score = 0;
};

Vocabulary vocabulary_of(std::string model, const std::vector<Token>& tokens) {
  Vocabulary vocabulary;
  vocabulary.model = std::move(model);
  for (const Token& token : tokens) {
    vocabulary.tokens.push_back(token.text);
    vocabulary.kinds.push_back(token.kind);
    vocabulary.scores.push_back(token.score);
  }
  return vocabulary;
}

Vocabulary bytes_with(std::vector<Token> more, std::string pre = "gpt-2") {
  std::vector<Token> tokens = {{"a"}, {"b"}, {"ab"}};
  tokens.insert(tokens.end(), more.begin(), more.end());
  Vocabulary vocabulary = vocabulary_of("gpt2", tokens);
  vocabulary.pre = std::move(pre);
  vocabulary.merges = {"a b"};
  return vocabulary;
}

const AddedToken* added(const TokenizerSpec& spec, std::string_view text) {
  for (const AddedToken& token : spec.added) {
    if (token.content == text) return &token;
  }
  return nullptr;
}

std::vector<std::string> merges_as_text(const std::vector<BpeMerge>& merges,
                                        const std::vector<RankedPiece>& pieces) {
  std::vector<std::string> texts(merges.size());
  for (const BpeMerge& merge : merges) {
    texts[merge.rank] = std::string(pieces[static_cast<size_t>(merge.left)].text) + "+" +
                        std::string(pieces[static_cast<size_t>(merge.right)].text);
  }
  return texts;
}

TEST_CASE("the name of a pre-tokenizer stands for the family's whole pipeline") {
  const TokenizerSpec qwen = spec_of(bytes_with({}, "qwen2"), "f");
  REQUIRE(qwen.normalizer.size() == 1);  // NFC, which the file does not carry
  CHECK(std::get<normalizer::Unicode>(qwen.normalizer[0]).form == normalizer::Form::nfc);
  REQUIRE(qwen.pre_tokenizer.size() == 2);
  CHECK(std::holds_alternative<pre_tokenizer::Split>(qwen.pre_tokenizer[0]));
  CHECK_FALSE(std::get<pre_tokenizer::ByteLevel>(qwen.pre_tokenizer[1]).use_regex);
  CHECK_FALSE(std::get<BpeModel>(qwen.model).ignore_merges);
  CHECK(std::get<BpeModel>(spec_of(bytes_with({}, "llama-bpe"), "f").model).ignore_merges);
}

TEST_CASE("an unknown pre-tokenizer is refused with the names that are known") {
  const test::Refusal refused = test::refusal([] { spec_of(bytes_with({}, "martian"), "m.gguf"); });
  CHECK(refused.kind == FileError::Kind::unsupported);
  for (const char* part : {"m.gguf", "martian", "qwen2", "llama-bpe", "tokenizer.ggml.pre"}) {
    CHECK(refused.names(part));
  }
  CHECK(test::refusal([] { spec_of(bytes_with({}, ""), "m.gguf"); }).names("tokenizer.json"));
  Vocabulary other = bytes_with({});
  other.model = "rwkv";
  CHECK(test::refusal([&] { spec_of(other, "m.gguf"); }).names("gemma4"));
}

TEST_CASE("fillers of the embedding are no tokens, and turn ends are control tokens") {
  const TokenizerSpec spec = spec_of(bytes_with({{"[PAD3]", TokenKind::user_defined},
                                                 {"[PAD3]x", TokenKind::user_defined},
                                                 {"<|im_end|>", TokenKind::normal},
                                                 {"<tool>", TokenKind::user_defined}}),
                                     "f");
  CHECK(added(spec, "[PAD3]") == nullptr);
  CHECK(spec.tokens[3].empty());
  REQUIRE(added(spec, "[PAD3]x") != nullptr);
  REQUIRE(added(spec, "<|im_end|>") != nullptr);
  CHECK(added(spec, "<|im_end|>")->special);
  CHECK_FALSE(added(spec, "<tool>")->special);
  CHECK(spec.end_of_turn == std::vector<int32_t>{5});
  CHECK(spec.embedding_rows == 7);
}

TEST_CASE("a harmony vocabulary's messages end without ending the turn") {
  const auto special = [](int32_t id, const char* text) {
    AddedToken token;
    token.id = id;
    token.content = text;
    token.special = true;
    return token;
  };
  CHECK(turn_ends({special(1, "<|end|>"), special(2, "<|user|>")}) == std::vector<int32_t>{1});
  CHECK(turn_ends({special(1, "<|end|>"), special(2, "<|return|>"), special(3, "<|call|>")}) ==
        std::vector<int32_t>{2, 3});
}

TEST_CASE("merges implied by scores are ranked as Hugging Face's converter ranks them") {
  const std::vector<RankedPiece> pieces = {{0, "a", -1},  {1, "b", -2},   {2, "ab", -5},
                                           {3, "ba", -4}, {4, "aba", -3}, {5, "é", -9},
                                           {6, "éa", -4}};
  using enum MergeOrder;
  using Texts = std::vector<std::string>;
  const auto merges = [&](MergeOrder order) {
    return merges_as_text(implied_merges(pieces, order), pieces);
  };
  CHECK(merges(best_score) == Texts{"ab+a", "a+ba", "b+a", "é+a", "a+b"});
  CHECK(merges(best_score_then_id) == Texts{"a+ba", "ab+a", "b+a", "é+a", "a+b"});
  CHECK(merges(lowest_id) == Texts{"a+b", "b+a", "a+ba", "ab+a", "é+a"});
  CHECK(merges(token_rank) == Texts{"a+b", "b+a", "a+ba", "ab+a", "é+a"});
}

TEST_CASE("a SentencePiece vocabulary marks spaces, and control tokens never come from merging") {
  Vocabulary vocabulary = vocabulary_of("llama", {{"<unk>", TokenKind::unknown},
                                                  {"</s>", TokenKind::control},
                                                  {"<0x0A>", TokenKind::byte},
                                                  {"</", TokenKind::normal, -1},
                                                  {"s>", TokenKind::normal, -2}});
  const TokenizerSpec spec = spec_of(vocabulary, "f");
  CHECK(spec.normalizer.size() == 2);
  CHECK(spec.decoder.size() == 4);
  CHECK(spec.unknown == 0);
  CHECK(std::get<BpeModel>(spec.model).merges.empty());
  CHECK(spec.end_of_turn == std::vector<int32_t>{1});
  vocabulary.add_space_prefix = false;
  CHECK(spec_of(vocabulary, "f").normalizer.size() == 1);
  CHECK(spec_of(vocabulary, "f").decoder.size() == 3);
  vocabulary.scores.clear();
  CHECK(test::refusal([&] { spec_of(vocabulary, "f"); }).names("scores"));
}

TEST_CASE("Gemma's runs of spaces are merged before all else") {
  Vocabulary vocabulary = vocabulary_of("llama", {{"  ", TokenKind::user_defined},
                                                  {"\n\n", TokenKind::user_defined},
                                                  {"\u2581a", TokenKind::normal, 0},
                                                  {"\u2581", TokenKind::normal, -1},
                                                  {"a", TokenKind::normal, -2}});
  vocabulary.architecture = "gemma3";
  const TokenizerSpec spec = spec_of(vocabulary, "f");
  CHECK(spec.tokens[0] == "\u2581\u2581");
  CHECK(added(spec, "  ") == nullptr);
  CHECK(added(spec, "\n\n") != nullptr);
  const auto& merges = std::get<BpeModel>(spec.model).merges;
  REQUIRE(merges.size() == 2);
  CHECK(merges[0].joined == 0);
  CHECK(merges[1].joined == 2);
}

TEST_CASE("Phi-3's control tokens eat the white space behind them") {
  Vocabulary vocabulary = vocabulary_of("llama", {{"<unk>", TokenKind::unknown},
                                                  {"<s>", TokenKind::control},
                                                  {"<|user|>", TokenKind::control}});
  CHECK_FALSE(added(spec_of(vocabulary, "f"), "<|user|>")->right_strip);
  vocabulary.model_name = "Phi-3 mini";
  CHECK(added(spec_of(vocabulary, "f"), "<|user|>")->right_strip);
  CHECK_FALSE(added(spec_of(vocabulary, "f"), "<s>")->right_strip);
}

TEST_CASE("a WordPiece vocabulary gets its spelling back") {
  Vocabulary vocabulary = vocabulary_of("bert", {{"[UNK]", TokenKind::control},
                                                 {"\u2581word", TokenKind::normal},
                                                 {"ing", TokenKind::normal}});
  vocabulary.unknown = 0;
  const TokenizerSpec spec = spec_of(vocabulary, "f");
  CHECK(spec.tokens == std::vector<std::string>{"", "word", "##ing"});
  CHECK(std::get<WordPieceModel>(spec.model).unknown == 0);
}

TEST_CASE("a Unigram vocabulary scores only what it may match") {
  Vocabulary vocabulary = vocabulary_of("t5", {{"</s>", TokenKind::control, 5},
                                               {"<unk>", TokenKind::unknown, -7},
                                               {"\u2581a", TokenKind::normal, -3},
                                               {"[PAD3]", TokenKind::unused, -1000}});
  const TokenizerSpec spec = spec_of(vocabulary, "f");
  const auto& unigram = std::get<UnigramModel>(spec.model);
  CHECK(unigram.scores == std::vector<double>{0, 0, -3, 0});
  CHECK(unigram.unknown == 1);
}

TEST_CASE("a merge of tokens that are not there is named") {
  Vocabulary vocabulary = bytes_with({});
  vocabulary.merges.push_back("b c");
  CHECK(test::refusal([&] { spec_of(vocabulary, "f"); }).names("merge 1"));
  vocabulary.merges.back() = "bc";
  CHECK(test::refusal([&] { spec_of(vocabulary, "f"); }).names("space"));
}

}  // namespace
}  // namespace chorus::modelfile
