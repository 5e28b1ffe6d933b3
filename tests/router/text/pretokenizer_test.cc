// Where the scanners cut, against Hugging Face's `tokenizers` with the patterns as regular
// expressions (tests/reference/unicode_facts.py).
#include "router/text/pretokenizer.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <fstream>
#include <nlohmann/json.hpp>

namespace chorus::text {
namespace {

using nlohmann::json;

std::vector<std::string> pieces_of(const std::string& name, std::string_view text) {
  const PreTokenizer* pre = find_pre_tokenizer(name);
  REQUIRE(pre != nullptr);
  std::vector<std::string> pieces;
  size_t limit = 0;
  for (size_t at = 0; at < text.size();) {
    size_t end = pre->next(text, at, limit);
    REQUIRE(end > at);
    pieces.emplace_back(text.substr(at, end - at));
    at = end;
  }
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

TEST_CASE("all names are known and sorted") {
  auto names = pre_tokenizer_names();
  CHECK(std::is_sorted(names.begin(), names.end()));
  for (const std::string& name : names) CHECK(find_pre_tokenizer(name) != nullptr);
  CHECK(find_pre_tokenizer("no such") == nullptr);
}

}  // namespace
}  // namespace chorus::text
