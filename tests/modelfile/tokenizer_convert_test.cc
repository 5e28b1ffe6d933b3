#include "modelfile/tokenizer_convert.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "modelfile/error.h"
#include "tests/modelfile/refusal.h"

namespace chorus::modelfile {
using nlohmann::json;
namespace {

SentencePieceModel small_model(SentencePieceModel::Kind kind) {
  SentencePieceModel model;
  model.kind = kind;
  model.pieces = {{"<unk>", 0, TokenKind::unknown}, {"<s>", 0, TokenKind::control},
                  {"ab", -1, TokenKind::normal},    {"a", -2, TokenKind::normal},
                  {"b", -3, TokenKind::normal},     {"x.y", 0, TokenKind::user_defined},
                  {"<0x0A>", 0, TokenKind::byte}};
  model.bos = 1;
  return model;
}

TEST_CASE("a Llama class is converted to Llama's pipeline") {
  const auto model = small_model(SentencePieceModel::Kind::bpe);
  json file = convert_sentencepiece(model, "m", {.tokenizer_class = "LlamaTokenizer"});
  CHECK(file["pre_tokenizer"]["prepend_scheme"] == "first");
  CHECK(file["model"]["merges"] == json::array({json::array({"a", "b"})}));
  CHECK(file["model"]["byte_fallback"] == true);
  CHECK(file["post_processor"]["single"][0]["SpecialToken"]["id"] == "<s>");
  CHECK(file["added_tokens"].size() == 3);
  CHECK(file["added_tokens"][2]["special"] == false);
  file = convert_sentencepiece(model, "m", {.tokenizer_class = "LlamaTokenizer", .legacy = true});
  CHECK(file["pre_tokenizer"]["prepend_scheme"] == "always");
}

TEST_CASE("any other model is converted to what SentencePiece does") {
  json file = convert_sentencepiece(small_model(SentencePieceModel::Kind::bpe), "m", {});
  CHECK(file["normalizer"]["normalizers"].size() == 4);
  CHECK(file["pre_tokenizer"]["pretokenizers"][1]["pattern"]["Regex"] == R"(x\.y)");
  CHECK(file["model"]["ignore_merges"] == true);
  file = convert_sentencepiece(small_model(SentencePieceModel::Kind::unigram), "m",
                               {.tokenizer_class = "T5Tokenizer"});
  CHECK(file["model"]["type"] == "Unigram");
  CHECK(file["model"]["vocab"].size() == 107);
  CHECK(file["model"]["vocab"][7][0] == "<extra_id_99>");
  const auto word = small_model(SentencePieceModel::Kind::word);
  CHECK(test::refusal([&] { convert_sentencepiece(word, "m", {}); }).names("word"));
}

TEST_CASE("a Unigram file stays Unigram under Llama's class") {
  const auto model = small_model(SentencePieceModel::Kind::unigram);
  const json file = convert_sentencepiece(model, "m", {.tokenizer_class = "LlamaTokenizer"});
  CHECK(file["model"]["type"] == "Unigram");
  CHECK(file == convert_sentencepiece(model, "m", {}));
}

TEST_CASE("tiktoken's ranks become merges") {
  // a, b, a space, "ab", " ab"
  json file = convert_tiktoken("YQ== 0\nYg== 1\nIA== 2\nYWI= 3\nIGFi 4\n", "t", {});
  CHECK(file["model"]["vocab"]["\u0120ab"] == 4);
  CHECK(file["model"]["merges"] ==
        json::array({json::array({"a", "b"}), json::array({"\u0120", "ab"})}));
  CHECK(file["model"]["ignore_merges"] == true);
  CHECK(test::refusal([] { convert_tiktoken("YQ== 0\n!!", "t", {}); }).names("line 2"));
  CHECK(test::refusal([] { convert_tiktoken("YQ==", "t", {}); }).names("line 1"));
}

TEST_CASE("tekken.json's special tokens come first") {
  const json tekken = {
      {"config",
       {{"pattern", "."}, {"default_num_special_tokens", 30}, {"default_vocab_size", 32}}},
      {"vocab", {{{"token_bytes", "YQ=="}}, {{"token_bytes", "Yg=="}}, {{"token_bytes", "YWI="}}}}};
  json file = convert_tekken(tekken, "t");
  CHECK(file["model"]["vocab"]["a"] == 30);
  CHECK_FALSE(file["model"]["vocab"].contains("ab"));  // beyond the vocabulary's size
  CHECK(file["added_tokens"][3]["content"] == "[INST]");
  CHECK(file["added_tokens"][29]["content"] == "<SPECIAL_29>");
  CHECK(test::refusal([] { convert_tekken(json::object(), "t"); }).names("config.pattern"));
}

TEST_CASE("vocab.json and merges.txt are byte-level BPE") {
  const json vocab = {{"a", 0}, {"b", 1}, {"ab", 2}};
  json file = convert_vocab_merges(vocab, "#version: 0.2\na b\n", "m", {});
  CHECK(file["model"]["merges"] == json::array({json::array({"a", "b"})}));
  CHECK(file["pre_tokenizer"]["use_regex"] == true);
  file = convert_vocab_merges(vocab, "a b\r\n", "m", {.tokenizer_class = "Qwen2Tokenizer"});
  CHECK(file["normalizer"]["type"] == "NFC");
  CHECK(file["pre_tokenizer"]["pretokenizers"].size() == 2);
  CHECK(test::refusal([&] { convert_vocab_merges(vocab, "ab\n", "m", {}); }).names("line 1"));
}

}  // namespace
}  // namespace chorus::modelfile
