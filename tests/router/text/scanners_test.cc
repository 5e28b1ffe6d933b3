// Where the scanners cut, against Hugging Face's `tokenizers` with the patterns as regular
// expressions (tests/reference/unicode_facts.py).
#include "router/text/pipeline/scanners.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <fstream>
#include <nlohmann/json.hpp>

#include "router/text/pipeline/pre_tokenizer.h"
#include "tests/router/text/small_vocabularies.h"

namespace chorus::text {
namespace {

using nlohmann::json;

std::vector<std::string> pieces_of(const std::string& name, std::string_view text) {
  modelfile::Vocabulary vocabulary = small_byte_vocabulary();
  vocabulary.pre = name;
  const PreTokenizer pre(modelfile::spec_of(vocabulary, "test.gguf").pre_tokenizer, true, "test");
  CHECK(pre.lone_scanner() != nullptr);
  Pieces cut;
  pre.apply(text, cut);
  std::vector<std::string> pieces;
  for (Piece piece : cut.pieces) pieces.emplace_back(cut.of(piece));
  return pieces;
}

std::vector<int> lengths_in_characters(const std::vector<std::string>& pieces) {
  std::vector<int> lengths;
  for (const std::string& piece : pieces) {
    auto starts = [](unsigned char byte) { return (byte & 0xC0) != 0x80; };
    lengths.push_back(static_cast<int>(std::count_if(piece.begin(), piece.end(), starts)));
  }
  return lengths;
}

TEST_CASE("each pre-tokenizer cuts where the reference's regular expression does") {
  std::ifstream file(CHORUS_SOURCE_DIR "/tests/reference/pretokenizer_pieces.json");
  REQUIRE(file);
  json cases = json::parse(file);
  CHECK(cases.size() >= 200);
  for (const json& entry : cases) {
    auto text = entry["text"].get<std::string>();
    for (const auto& [name, lengths] : entry.items()) {
      if (name == "text") continue;
      INFO(name << " on " << entry["text"].dump(-1, ' ', true));
      CHECK(lengths_in_characters(pieces_of(name, text)) == lengths.get<std::vector<int>>());
    }
  }
}

TEST_CASE("a space before a word belongs to the word, further spaces do not") {
  using Pieces = std::vector<std::string>;
  CHECK(pieces_of("gpt-2", "a  b ") == Pieces{"a", " ", " b", " "});
  CHECK(pieces_of("smollm", "in 1998") == Pieces{"in", " ", "1", "9", "9", "8"});
  CHECK(pieces_of("llama-bpe", "x12345\n\ny") == Pieces{"x", "123", "45", "\n\n", "y"});
  CHECK(pieces_of("gpt-4o", "HTTPServer's") == Pieces{"HTTPServer's"});
}

}  // namespace
}  // namespace chorus::text
