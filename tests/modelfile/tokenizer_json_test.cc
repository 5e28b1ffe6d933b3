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

constexpr const char* kPattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

json split_at(const std::string& digits) {
  std::string pattern = kPattern;
  pattern.replace(pattern.find("DIGITS"), 6, digits);
  return {{"type", "Split"},
          {"pattern", {{"Regex", pattern}}},
          {"behavior", "Isolated"},
          {"invert", false}};
}

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
  return {{"added_tokens", {added(4, "<s>", true), added(5, "</s>", true), added(7, "<x>", false)}},
          {"normalizer", nullptr},
          {"pre_tokenizer",
           sequence("pretokenizers",
                    {{{"type", "Digits"}, {"individual_digits", true}}, byte_level(true)})},
          {"post_processor", nullptr},
          {"decoder", byte_level(true)},
          {"model",
           {{"type", "BPE"},
            {"ignore_merges", false},
            {"vocab", {{"a", 0}, {"b", 1}, {"c", 2}, {"ab", 3}, {"abc", 6}}},
            {"merges", {"a b", "ab c"}}}}};
}

const json kMark = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\u2581"}};

// Gemma's pipeline over the byte tokens and four more.
json sentence_piece_file() {
  json vocabulary = {{"\u2581", 256}, {"a", 257}, {"b", 258}, {"ab", 259}, {"\u2581ab", 260}};
  for (int byte = 0; byte < 256; ++byte) {
    char text[8];
    std::snprintf(text, sizeof(text), "<0x%02X>", byte);
    vocabulary[text] = byte;
  }
  const json unmark = {{"type", "Replace"}, {"pattern", {{"String", "\u2581"}}}, {"content", " "}};
  return {
      {"added_tokens", {added(261, "<bos>", true), added(262, "<unk>", true)}},
      {"normalizer", kMark},
      {"pre_tokenizer",
       {{"type", "Split"},
        {"pattern", {{"String", " "}}},
        {"behavior", "MergedWithPrevious"},
        {"invert", false}}},
      {"decoder", sequence("decoders", {unmark, {{"type", "ByteFallback"}}, {{"type", "Fuse"}}})},
      {"model",
       {{"type", "BPE"},
        {"byte_fallback", true},
        {"unk_token", "<unk>"},
        {"vocab", vocabulary},
        {"merges", json::array({{"a", "b"}, {"\u2581", "ab"}})}}}};
}

Vocabulary read(const json& tokenizer, const json& settings = nullptr) {
  TokenizerSources sources{.tokenizer = JsonFile(tokenizer.dump(), "tokenizer.json"),
                           .settings = std::nullopt};
  if (!settings.is_null()) sources.settings = JsonFile(settings.dump(), "tokenizer_config.json");
  return read_vocabulary(sources);
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

TEST_CASE("a byte-level tokenizer.json becomes a vocabulary", "[modelfile]") {
  const Vocabulary vocabulary = read(byte_level_file());
  CHECK(vocabulary.model == "gpt2");
  CHECK(vocabulary.pre == "smollm");
  CHECK(vocabulary.tokens ==
        std::vector<std::string>{"a", "b", "c", "ab", "<s>", "</s>", "abc", "<x>"});
  CHECK(vocabulary.kinds[0] == TokenKind::normal);
  CHECK(vocabulary.kinds[4] == TokenKind::control);
  CHECK(vocabulary.kinds[7] == TokenKind::user_defined);
  CHECK(vocabulary.merges == std::vector<std::string>{"a b", "ab c"});
  CHECK(vocabulary.scores.empty());
  CHECK_FALSE(vocabulary.add_bos);
  CHECK_FALSE(vocabulary.bos.has_value());
}

TEST_CASE("merges may be pairs instead of strings", "[modelfile]") {
  const json pairs = json::array({{"a", "b"}, {"ab", "c"}});
  CHECK(read(with(byte_level_file(), "/model/merges", pairs)).merges ==
        std::vector<std::string>{"a b", "ab c"});
}

TEST_CASE("the known pre-tokenizers get their names", "[modelfile]") {
  const auto pre_of = [](const json& file) { return read(file).pre; };
  const json plain = byte_level_file();
  CHECK(pre_of(with(plain, "/pre_tokenizer", byte_level(true))) == "gpt-2");
  const json qwen2 = sequence("pretokenizers", {split_at(R"(\p{N})"), byte_level(false)});
  CHECK(pre_of(with(with(plain, "/pre_tokenizer", qwen2), "/normalizer", {{"type", "NFC"}})) ==
        "qwen2");
  const json llama = sequence("pretokenizers", {split_at(R"(\p{N}{1,3})"), byte_level(false)});
  CHECK(pre_of(with(with(plain, "/pre_tokenizer", llama), "/model/ignore_merges", true)) ==
        "llama-bpe");
}

TEST_CASE("a pipeline that is not read yet is refused by its component", "[modelfile]") {
  const json plain = byte_level_file();
  const auto unread = [&](const char* place, const json& value) {
    const Refusal answer = refusal_of(with(plain, place, value));
    CHECK(answer.kind == Kind::unsupported);
    CHECK(answer.names("tokenizer.json: the "));
    return answer;
  };
  CHECK(unread("/model/type", "Unigram").names("model Unigram"));
  CHECK(unread("/model/dropout", 0.1).names("dropout"));
  CHECK(unread("/model/byte_fallback", true).names("byte_fallback"));
  CHECK(unread("/model/ignore_merges", true).names("ignore_merges"));
  CHECK(unread("/model/end_of_word_suffix", "</w>").names("end_of_word_suffix"));
  CHECK(unread("/normalizer", {{"type", "NFKC"}}).names("normalizer NFKC"));
  CHECK(unread("/decoder", {{"type", "WordPiece"}}).names("decoder WordPiece"));
  CHECK(unread("/pre_tokenizer/pretokenizers/1/add_prefix_space", true).names("pre_tokenizer"));
  CHECK(unread("/pre_tokenizer/pretokenizers/0/individual_digits", false).names("pre_tokenizer"));
  CHECK(unread("/pre_tokenizer/pretokenizers/0", split_at(R"(\p{N})")).names("Split + ByteLevel"));
  CHECK(unread("/pre_tokenizer", {{"type", "Metaspace"}}).names("normalizer"));
  CHECK(unread("/post_processor", {{"type", "BertProcessing"}}).names("BertProcessing"));
}

TEST_CASE("added tokens that a vocabulary cannot describe are refused", "[modelfile]") {
  const json plain = byte_level_file();
  for (const char* attribute : {"lstrip", "rstrip", "single_word"}) {
    const json file = with(plain, (std::string("/added_tokens/2/") + attribute).c_str(), true);
    CHECK(refusal_of(file).names("<x> with " + std::string(attribute)));
  }
  json qwen2 = with(plain, "/pre_tokenizer",
                    sequence("pretokenizers", {split_at(R"(\p{N})"), byte_level(false)}));
  qwen2["normalizer"] = {{"type", "NFC"}};
  CHECK(refusal_of(with(qwen2, "/added_tokens/2/normalized", true)).names("<x> with normalized"));
  CHECK(read(with(plain, "/added_tokens/2/normalized", true)).tokens.size() == 8);
}

TEST_CASE("BOS and EOS come from the template and tokenizer_config.json", "[modelfile]") {
  const json around = {{"type", "TemplateProcessing"},
                       {"single",
                        {{{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}},
                         {{"Sequence", {{"id", "A"}, {"type_id", 0}}}},
                         {{"SpecialToken", {{"id", "</s>"}, {"type_id", 0}}}}}}};
  const json file = with(byte_level_file(), "/post_processor",
                         sequence("processors", {byte_level(true), around}));
  const json settings = {{"bos_token", "<s>"}, {"eos_token", {{"content", "</s>"}}}};
  const Vocabulary vocabulary = read(file, settings);
  CHECK(vocabulary.bos == 4);
  CHECK(vocabulary.eos == 5);
  CHECK(vocabulary.add_bos);
  CHECK(vocabulary.add_eos);
  const json other = {{"bos_token", "</s>"}, {"eos_token", "</s>"}};
  CHECK(refusal_of(file, other).names("<s>, neither BOS nor EOS"));
  const json flags = {{"bos_token", "<s>"},
                      {"eos_token", "</s>"},
                      {"tokenizer_class", "LlamaTokenizerFast"},
                      {"add_eos_token", false}};
  CHECK(read(file, flags).add_bos);
  CHECK_FALSE(read(file, flags).add_eos);
  CHECK(refusal_of(file, {{"bos_token", "<none>"}}).names("tokenizer.json lacks"));
}

TEST_CASE("tokenizer_config.json has the last word about added tokens", "[modelfile]") {
  json decoder = {{"7", added(7, "<x>", true)}, {"8", added(8, "<late>", true)}};
  const Vocabulary vocabulary = read(byte_level_file(), {{"added_tokens_decoder", decoder}});
  CHECK(vocabulary.kinds[7] == TokenKind::control);
  CHECK(vocabulary.tokens.at(8) == "<late>");
  decoder = {{"-1", added(1, "<x>", true)}};
  CHECK(refusal_of(byte_level_file(), {{"added_tokens_decoder", decoder}}).names("decoder"));
}

TEST_CASE("gaps and the embedding's padding become unused tokens", "[modelfile]") {
  TokenizerSources sources{
      .tokenizer = JsonFile(with(byte_level_file(), "/model/vocab/c", 9).dump(), "tokenizer.json"),
      .settings = std::nullopt};
  sources.model_vocabulary = 12;
  sources.eos = {5, 4, 5};
  const Vocabulary vocabulary = read_vocabulary(sources);
  CHECK(vocabulary.tokens.size() == 12);
  CHECK(vocabulary.kinds[2] == TokenKind::unused);
  CHECK(vocabulary.tokens[11] == "[PAD11]");
  CHECK(vocabulary.eos == 5);
  CHECK(vocabulary.end_of_turn == std::vector<int32_t>{4, 5});
  sources.eos = {12};
  CHECK(refusal([&] { read_vocabulary(sources); }).names("no token 12"));
  sources.model_vocabulary = int64_t{1} << 40;
  CHECK(refusal([&] { read_vocabulary(sources); }).names("ids below 1099511627776"));
}

TEST_CASE("a damaged tokenizer.json is refused", "[modelfile]") {
  const json plain = byte_level_file();
  CHECK(refusal_of(with(plain, "/model/vocab/a", 2147483647)).names("ids below 2147483648"));
  CHECK(refusal_of(with(plain, "/model/vocab/a", -1)).names("token id"));
  CHECK(refusal_of(with(plain, "/model/vocab/a", 1)).names("disagree about token 1"));
  CHECK(refusal_of(with(plain, "/model/vocab", json::object())).names("model.vocab"));
  CHECK(refusal_of(with(plain, "/model/merges/0", "a")).names("not a pair"));
  CHECK(refusal_of(with(plain, "/model/merges/0", "a b c")).names("not a pair"));
  CHECK(refusal_of(with(plain, "/model/merges/0", "a x")).names("no tokens"));
  CHECK(refusal_of(with(plain, "/model/merges", 1)).names("model.merges"));
  CHECK(refusal_of(with(plain, "/added_tokens/0/id", "4")).names("added_tokens"));
  CHECK(refusal_of(with(plain, "/added_tokens/0/id", 0)).names("disagree about token 0"));
  CHECK(refusal_of(with(plain, "/added_tokens", 1)).names("added_tokens is not a list"));
  CHECK(refusal_of(with(plain, "/model", "BPE")).kind == Kind::corrupt);
}

TEST_CASE("a SentencePiece-style tokenizer.json gets scores from its merges", "[modelfile]") {
  const Vocabulary vocabulary = read(sentence_piece_file(), {{"bos_token", "<bos>"}});
  CHECK(vocabulary.model == "llama");
  CHECK(vocabulary.add_space_prefix == false);
  CHECK(vocabulary.merges.empty());
  CHECK(vocabulary.kinds[0x41] == TokenKind::byte);
  CHECK(vocabulary.unknown == 262);
  CHECK(vocabulary.kinds[262] == TokenKind::unknown);
  CHECK(vocabulary.scores[259] > vocabulary.scores[260]);
  CHECK(vocabulary.scores[260] > vocabulary.scores[257]);
}

TEST_CASE("a legacy Llama normalizer means a space in front", "[modelfile]") {
  json file = sentence_piece_file();
  const json mark = {{"type", "Prepend"}, {"prepend", "\u2581"}};
  file["normalizer"] = sequence("normalizers", {mark, kMark});
  file["pre_tokenizer"] = nullptr;
  CHECK(refusal_of(file).names("decoder"));
  file["decoder"]["decoders"].push_back(
      {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  CHECK(read(file).add_space_prefix == true);
  CHECK(refusal_of(with(file, "/model/byte_fallback", false)).names("byte_fallback"));
  CHECK(refusal_of(with(file, "/pre_tokenizer", {{"type", "Metaspace"}})).names("Metaspace"));
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
  tokenizer["post_processor"] = {
      {"type", "TemplateProcessing"},
      {"single", {{{"SpecialToken", {{"id", "<s>"}}}}, {{"Sequence", {{"id", "A"}}}}}}};
  const json whole = {{"tokenizer", tokenizer}, {"settings", settings}};
  CHECK(read(tokenizer, settings).add_bos);
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
  CHECK(refused > static_cast<int>(places.size()));
}

TEST_CASE("SmolLM2's vocabulary is the same from GGUF and from tokenizer.json", "[modelfile]") {
  const char* home = std::getenv("HOME");
  const auto path = std::filesystem::path(home == nullptr ? "" : home) /
                    ".cache/chorus/SmolLM2-135M-Instruct.Q4_1.gguf";
  if (!std::filesystem::exists(path)) {
    std::cout << "chorus-skip: " << path << " is absent\n";
    return;
  }
  const Vocabulary expected = open_model(path, false)->vocabulary();
  json file = byte_level_file();
  file["added_tokens"] = json::array();
  file["model"]["vocab"] = json::object();
  for (size_t id = 0; id < expected.tokens.size(); ++id) {
    file["model"]["vocab"][expected.tokens[id]] = id;
    if (expected.kinds[id] == TokenKind::normal) continue;
    file["added_tokens"].push_back(added(static_cast<int>(id), expected.tokens[id].c_str(),
                                         expected.kinds[id] == TokenKind::control));
  }
  file["model"]["merges"] = expected.merges;
  const Vocabulary vocabulary = read(file);
  CHECK(vocabulary.pre == expected.pre);
  CHECK(vocabulary.tokens == expected.tokens);
  CHECK(vocabulary.kinds == expected.kinds);
  CHECK(vocabulary.merges == expected.merges);
}

}  // namespace chorus::modelfile
