#include "modelfile/tokenizer_json.h"

#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>
#include <set>

#include "modelfile/error.h"
#include "tests/modelfile/refusal.h"

namespace chorus::modelfile {
namespace {

using nlohmann::json;
using test::Refusal;
using test::refusal;
using Kind = FileError::Kind;

json byte_level(bool use_regex) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", use_regex}};
}

json sequence(const char* list, const std::vector<json>& members) {
  return {{"type", "Sequence"}, {list, members}};
}

json added(int id, const char* text, bool special) {
  return {{"id", id},        {"content", text}, {"special", special},  {"normalized", false},
          {"lstrip", false}, {"rstrip", false}, {"single_word", false}};
}

// SmolLM2's pipeline over a tiny vocabulary.
json byte_level_file() {
  return {{"added_tokens", {added(5, "<s>", true), added(6, "</s>", true), added(7, "<x>", false)}},
          {"normalizer", nullptr},
          {"pre_tokenizer",
           sequence("pretokenizers",
                    {{{"type", "Digits"}, {"individual_digits", true}}, byte_level(true)})},
          {"post_processor", nullptr},
          {"decoder", byte_level(true)},
          {"model",
           {{"type", "BPE"},
            {"ignore_merges", false},
            {"vocab", {{"a", 0}, {"b", 1}, {"c", 2}, {"ab", 3}, {"abc", 4}}},
            {"merges", {"a b", "ab c"}}}}};
}

const json kMark = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\u2581"}};

TokenizerSpec read(const json& tokenizer, const json& settings = nullptr) {
  TokenizerSources sources{.tokenizer = JsonFile(tokenizer.dump(), "tokenizer.json"),
                           .settings = std::nullopt};
  if (!settings.is_null()) sources.settings = JsonFile(settings.dump(), "tokenizer_config.json");
  return read_tokenizer(sources);
}

// The file with one value replaced, by JSON pointer.
json with(json file, const char* place, const json& value) {
  file[json::json_pointer(place)] = value;
  return file;
}

Refusal refusal_of(const json& tokenizer, const json& settings = nullptr) {
  return refusal([&] { read(tokenizer, settings); });
}

}  // namespace

TEST_CASE("a byte-level tokenizer.json is read into its parts", "[modelfile]") {
  const TokenizerSpec spec = read(byte_level_file());
  CHECK(spec.tokens == std::vector<std::string>{"a", "b", "c", "ab", "abc"});
  REQUIRE(spec.added.size() == 3);
  CHECK(spec.added[0].content == "<s>");
  CHECK(spec.added[0].id == 5);
  CHECK(spec.added[0].special);
  CHECK_FALSE(spec.added[2].special);
  CHECK(spec.embedding_rows == 8);
  REQUIRE(spec.pre_tokenizer.size() == 2);
  CHECK(std::get<pre_tokenizer::Digits>(spec.pre_tokenizer[0]).individual);
  CHECK_FALSE(std::get<pre_tokenizer::ByteLevel>(spec.pre_tokenizer[1]).add_prefix_space);
  CHECK(std::holds_alternative<decoder::ByteLevel>(spec.decoder.at(0)));
  const auto& bpe = std::get<BpeModel>(spec.model);
  REQUIRE(bpe.merges.size() == 2);
  CHECK(bpe.merges[1].left == 3);
  CHECK(bpe.merges[1].right == 2);
  CHECK(bpe.merges[1].joined == 4);
  CHECK(bpe.merges[1].rank == 1);
  CHECK(spec.before.empty());
  CHECK_FALSE(spec.bos.has_value());
}

TEST_CASE("merges may be pairs instead of strings", "[modelfile]") {
  const json pairs = json::array({{"a", "b"}, {"ab", "c"}});
  const TokenizerSpec spec = read(with(byte_level_file(), "/model/merges", pairs));
  CHECK(std::get<BpeModel>(spec.model).merges.size() == 2);
  const json versioned = json::array({"#version: 0.2", "a b"});
  CHECK(std::get<BpeModel>(read(with(byte_level_file(), "/model/merges", versioned)).model)
            .merges.at(0)
            .rank == 0);
}

TEST_CASE("components of a Sequence are its members, also of one inside another", "[modelfile]") {
  const json nfc = {{"type", "NFC"}};
  json nested = sequence("normalizers", {nfc, sequence("normalizers", {kMark, nfc})});
  CHECK(read(with(byte_level_file(), "/normalizer", nested)).normalizer.size() == 3);
  for (int i = 0; i < 40; ++i) nested = sequence("normalizers", {nested});
  CHECK(refusal_of(with(byte_level_file(), "/normalizer", nested)).names("too deep"));
}

TEST_CASE("what is not known is refused by its name and place", "[modelfile]") {
  const json plain = byte_level_file();
  const auto unknown = [&](const char* place, const json& value) {
    const Refusal answer = refusal_of(with(plain, place, value));
    CHECK(answer.kind == Kind::unsupported);
    CHECK(answer.names("tokenizer.json: "));
    return answer;
  };
  CHECK(unknown("/model/type", "Fancy").names("model Fancy"));
  CHECK(unknown("/normalizer", {{"type", "Fancy"}}).names("normalizer (Fancy)"));
  CHECK(unknown("/pre_tokenizer/pretokenizers/1", {{"type", "Fancy"}})
            .names("pre_tokenizer.pretokenizers[1] (Fancy)"));
  CHECK(unknown("/decoder", {{"type", "Fancy"}}).names("decoder (Fancy)"));
  CHECK(unknown("/post_processor", {{"type", "Fancy"}}).names("post_processor (Fancy)"));
  const json split = {{"type", "Split"}, {"pattern", {{"String", "x"}}}, {"behavior", "Eaten"}};
  CHECK(unknown("/pre_tokenizer", split).names("behavior Eaten"));
}

TEST_CASE("an added token has all of its attributes", "[modelfile]") {
  json file = byte_level_file();
  for (const char* attribute : {"lstrip", "rstrip", "single_word", "normalized"}) {
    file["added_tokens"][2][attribute] = true;
  }
  const AddedToken token = read(file).added.at(2);
  CHECK((token.left_strip && token.right_strip && token.single_word && token.normalized));
}

TEST_CASE("added tokens get the ids that the reference gives them", "[modelfile]") {
  json file = byte_level_file();
  file["added_tokens"] = {added(9, "<s>", true), added(77, "ab", false), added(3, "<x>", true)};
  const TokenizerSpec spec = read(file);
  REQUIRE(spec.added.size() == 3);
  CHECK(spec.added[0].content == "ab");  // the model's token of this text
  CHECK(spec.added[0].id == 3);
  CHECK(spec.added[1].content == "<s>");
  CHECK(spec.added[1].id == 5);
  CHECK(spec.added[2].content == "<x>");
  CHECK(spec.added[2].id == 6);
}

json template_of(const std::vector<const char*>& before, const std::vector<const char*>& after) {
  json single = json::array();
  for (const char* text : before) single.push_back({{"SpecialToken", {{"id", text}}}});
  single.push_back({{"Sequence", {{"id", "A"}, {"type_id", 0}}}});
  for (const char* text : after) single.push_back({{"SpecialToken", {{"id", text}}}});
  return {{"type", "TemplateProcessing"},
          {"single", single},
          {"special_tokens",
           {{"<s>", {{"id", "<s>"}, {"ids", {5}}}}, {"</s>", {{"id", "</s>"}, {"ids", {6, 7}}}}}}};
}

TEST_CASE("a template may put several tokens on each side", "[modelfile]") {
  const json around = template_of({"<s>", "<s>"}, {"</s>"});
  const TokenizerSpec spec = read(with(byte_level_file(), "/post_processor",
                                       sequence("processors", {byte_level(true), around})));
  CHECK(spec.before == std::vector<int32_t>{5, 5});
  CHECK(spec.after == std::vector<int32_t>{6, 7});
  CHECK(spec.trim_offsets.has_value());
  const json bert = {{"type", "BertProcessing"}, {"cls", {"<s>", 5}}, {"sep", {"</s>", 6}}};
  const TokenizerSpec other = read(with(byte_level_file(), "/post_processor", bert));
  CHECK(other.before == std::vector<int32_t>{5});
  CHECK(other.after == std::vector<int32_t>{6});
  const json twice = {{"type", "TemplateProcessing"}, {"single", "$A $A"}};
  CHECK(refusal_of(with(byte_level_file(), "/post_processor", twice)).names("twice"));
}

TEST_CASE("tokenizer_config.json names the special tokens and has flags", "[modelfile]") {
  const json file = with(byte_level_file(), "/post_processor", template_of({"<s>"}, {}));
  const TokenizerSpec spec =
      read(file, {{"bos_token", "<s>"}, {"eos_token", {{"content", "</s>"}}}});
  CHECK(spec.bos == 5);
  CHECK(spec.eos == 6);
  CHECK(spec.before == std::vector<int32_t>{5});
  const json flags = {{"bos_token", "<s>"},
                      {"eos_token", "</s>"},
                      {"tokenizer_class", "LlamaTokenizerFast"},
                      {"add_bos_token", false},
                      {"add_eos_token", true}};
  CHECK(read(file, flags).before.empty());
  CHECK(read(file, flags).after == std::vector<int32_t>{6});
  CHECK_FALSE(read(file, {{"bos_token", "<none>"}}).bos.has_value());
  CHECK(refusal_of(file, {{"bos_token", 3}}).names("bos_token"));
}

TEST_CASE("a named token of the model becomes an added one", "[modelfile]") {
  const TokenizerSpec spec = read(byte_level_file(), {{"unk_token", "abc"}});
  REQUIRE(spec.added.size() == 4);
  CHECK(spec.added[0].content == "abc");
  CHECK(spec.added[0].id == 4);
  CHECK(spec.added[0].special);
  CHECK(spec.unknown == 4);
}

TEST_CASE("tokenizer_config.json has the last word about added tokens", "[modelfile]") {
  json decoder = {{"7", added(7, "<x>", true)}, {"8", added(8, "<late>", true)}};
  const TokenizerSpec spec = read(byte_level_file(), {{"added_tokens_decoder", decoder}});
  CHECK(spec.added.at(2).special);
  CHECK(spec.added.at(3).content == "<late>");
  CHECK(spec.added.at(3).id == 8);
  decoder = {{"-1", added(1, "<x>", true)}};
  CHECK(refusal_of(byte_level_file(), {{"added_tokens_decoder", decoder}}).names("decoder"));
}

TEST_CASE("clean_up_tokenization_spaces is for others than BPE", "[modelfile]") {
  const json settings = {{"clean_up_tokenization_spaces", true}};
  CHECK_FALSE(read(byte_level_file(), settings).clean_up_spaces);
  json words = byte_level_file();
  words["model"] = {{"type", "WordLevel"}, {"vocab", {{"a", 0}}}, {"unk_token", "a"}};
  CHECK(read(words, settings).clean_up_spaces);
}

TEST_CASE("the embedding may have more rows than there are tokens", "[modelfile]") {
  TokenizerSources sources{.tokenizer = JsonFile(byte_level_file().dump(), "tokenizer.json"),
                           .settings = std::nullopt};
  sources.model_vocabulary = 12;
  sources.eos = {5, 4, 5};
  const TokenizerSpec spec = read_tokenizer(sources);
  CHECK(spec.embedding_rows == 12);
  CHECK(spec.eos == 5);
  CHECK(spec.end_of_turn == std::vector<int32_t>{4, 5});
  sources.eos = {12};
  CHECK(refusal([&] { read_tokenizer(sources); }).names("no token 12"));
  sources.eos = {};
  sources.model_vocabulary = int64_t{1} << 40;
  CHECK(refusal([&] { read_tokenizer(sources); }).names("1099511627776 rows"));
}

TEST_CASE("a damaged tokenizer.json is refused", "[modelfile]") {
  const json plain = byte_level_file();
  CHECK(refusal_of(with(plain, "/model/vocab/a", 2147483646)).names("ids below 2147483647"));
  CHECK(refusal_of(with(plain, "/model/vocab/a", -1)).names("token id"));
  CHECK(refusal_of(with(plain, "/model/vocab/a", 1)).names("two tokens with the id 1"));
  CHECK(refusal_of(with(plain, "/model/vocab", json::array())).names("model.vocab"));
  CHECK(refusal_of(with(plain, "/model/merges/0", "a")).names("not a pair"));
  CHECK(refusal_of(with(plain, "/model/merges/0", "a b c")).names("not a pair"));
  CHECK(refusal_of(with(plain, "/model/merges/0", "a x")).names("no tokens"));
  CHECK(refusal_of(with(plain, "/model/merges", 1)).names("model.merges"));
  CHECK(refusal_of(with(plain, "/added_tokens/0/id", "4")).names("added_tokens"));
  CHECK(refusal_of(with(plain, "/added_tokens", 1)).names("added_tokens is not a list"));
  CHECK(refusal_of(with(plain, "/model", "BPE")).kind == Kind::corrupt);
  CHECK(refusal_of(
            with(plain, "/normalizer", {{"type", "Precompiled"}, {"precompiled_charsmap", "?"}}))
            .names("base64"));
}

TEST_CASE("a tokenizer.json with any one value replaced is refused or read", "[modelfile]") {
  const json settings = {{"bos_token", {{"content", "<s>"}}},
                         {"added_tokens_decoder", {{"7", added(7, "<x>", true)}}},
                         {"tokenizer_class", "LlamaTokenizer"}};
  const json wrong = {nullptr,
                      1,
                      -1,
                      1e300,
                      true,
                      "x",
                      json::array(),
                      json::object(),
                      json::array({1, "y"}),
                      {{"type", "Sequence"}},
                      {{"type", 3}}};
  json tokenizer = byte_level_file();
  tokenizer["post_processor"] = template_of({"<s>"}, {});
  const json whole = {{"tokenizer", tokenizer}, {"settings", settings}};
  CHECK(read(tokenizer, settings).before.size() == 1);
  // Every node, inner ones included: the pointers of the leaves and of all above them.
  std::set<std::string> places;
  const json leaves = whole.flatten();
  for (const auto& leaf : leaves.items()) {
    json::json_pointer place(leaf.key());
    for (; !place.parent_pointer().empty(); place = place.parent_pointer()) {
      places.insert(place.to_string());
    }
  }
  int refused = 0;
  for (const std::string& place : places) {
    for (const json& value : wrong) {
      const json damaged = with(whole, place.c_str(), value);
      INFO(place << " = " << value);
      try {
        read(damaged["tokenizer"], damaged["settings"]);
      } catch (const FileError&) {
        ++refused;
      }
    }
  }
  CHECK(refused > 0);
}

}  // namespace chorus::modelfile
