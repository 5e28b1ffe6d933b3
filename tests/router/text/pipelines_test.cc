// Whole pipelines against Hugging Face's `tokenizers`: each component with each of its settings,
// over small models of every kind (tests/reference/pipelines.py made the golden file).
#include <catch2/catch.hpp>
#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>

#include "modelfile/error.h"
#include "modelfile/tokenizer_json.h"
#include "router/text/detokenizer.h"
#include "router/text/pipeline/regex.h"
#include "router/text/pipeline/scanners.h"
#include "router/text/tokenizer.h"

namespace chorus::text {
namespace {

using Ids = std::vector<int32_t>;
using nlohmann::json;

json golden() {
  std::ifstream file(CHORUS_SOURCE_DIR "/tests/reference/pipelines_golden.json");
  REQUIRE(file);
  return json::parse(file);
}

std::unique_ptr<Tokenizer> tokenizer_from(const json& file) {
  return make_tokenizer(modelfile::read_tokenizer(
      {.tokenizer = modelfile::JsonFile(file.dump(), "given.json"), .settings = std::nullopt}));
}

std::string decoded(const Tokenizer& tokenizer, const Ids& ids, bool skip) {
  Detokenizer detokenizer(tokenizer, {.skip_special_tokens = skip});
  std::string text;
  for (int32_t id : ids) text += detokenizer.push(id).text;
  return text + detokenizer.finish();
}

void check_answer(const Tokenizer& tokenizer, const std::string& text, const json& expected) {
  Encoding encoding = tokenizer.encode_with_offsets({text, {}}, false);
  CHECK(encoding.ids == expected["ids"].get<Ids>());
  CHECK(tokenizer.encode({text, {}}, false) == encoding.ids);
  std::vector<int64_t> offsets;
  for (const ByteRange& range : encoding.offsets) {
    offsets.insert(offsets.end(), {range.begin, range.end});
  }
  CHECK(offsets == expected["offsets"].get<std::vector<int64_t>>());
  Ids special = tokenizer.encode({text, {}}, true);
  CHECK(special == expected["special_ids"].get<Ids>());
  CHECK(decoded(tokenizer, special, true) == expected["decoded"].get<std::string>());
  CHECK(decoded(tokenizer, special, false) == expected["plain"].get<std::string>());
}

TEST_CASE("every component of a tokenizer.json does what the reference's does") {
  const json cases = golden();
  const auto texts = cases["texts"].get<std::vector<std::string>>();
  CHECK(cases["pipelines"].size() >= 250);
  for (const json& entry : cases["pipelines"]) {
    json file = entry["file"];
    INFO(entry["model"] << " in " << file.dump(-1, ' ', true));
    file["model"] = cases["models"][entry["model"].get<std::string>()];
    auto tokenizer = tokenizer_from(file);
    for (size_t i = 0; i < texts.size(); ++i) {
      INFO("the text " << json(texts[i]).dump(-1, ' ', true));
      check_answer(*tokenizer, texts[i], entry["answers"][i]);
    }
  }
}

json pipeline(const json& model) {
  json file = {{"normalizer", nullptr}, {"pre_tokenizer", nullptr}, {"decoder", nullptr}};
  file["model"] = model;
  return file;
}

json with_split(json file, const char* pattern) {
  file["pre_tokenizer"] = {
      {"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}};
  return file;
}

TEST_CASE("a megabyte of one character is encoded in a second by every kind of model") {
  const json models = golden()["models"];
  for (const auto& [name, model] : models.items()) {
    auto tokenizer = tokenizer_from(pipeline(model));
    for (const char* unit : {"a", "\u2581", " ", "\u4e16", "\u0301"}) {
      INFO(name << " of " << unit);
      std::string text;
      while (text.size() < 1'000'000) text += unit;
      auto start = std::chrono::steady_clock::now();
      tokenizer->encode({text, {}}, false);
      std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
      CHECK(seconds.count() < 2);  // of a busy machine's
    }
  }
}

TEST_CASE("a pattern without end is stopped, and the error names it") {
  const json model = golden()["models"]["level"];
  for (const char* pattern : {"(a|aa)+$", "(?:a*)*b", "(a+)+\\z"}) {
    auto tokenizer = tokenizer_from(with_split(pipeline(model), pattern));
    const std::string text(100'000, 'a');
    try {
      tokenizer->encode({text + "!", {}}, false);
    } catch (const RegexEffortError& error) {
      CHECK(std::string(error.what()).find(pattern) != std::string::npos);
    }
  }
  try {
    tokenizer_from(with_split(pipeline(model), "(unclosed"));
    FAIL("no error");
  } catch (const modelfile::FileError& error) {
    CHECK(std::string(error.what()).find("given.json: the pattern \"(unclosed\"") !=
          std::string::npos);
  }
}

TEST_CASE("classes of a pattern are written out from our own tables") {
  // Letters of Unicode 15 and 16, which Debian's Oniguruma does not know.
  for (const char* letter : {"\U00031350", "\U000105C0", "\uA7DA"}) {
    std::string text = std::string("1") + letter + "2";
    for (const char* pattern :
         {"\\p{L}+", "\\w+?(?=2)", "[^\\W\\d]+", "[[:alpha:]]", "[\\p{Letter}-]"}) {
      INFO(pattern);
      Regex::Budget budget(text.size());
      Regex::Match match = Regex(pattern, "test").search(text, 1, budget);
      CHECK(match.found);
      CHECK(match.begin == 1);
    }
  }
  CHECK(with_ranges("[a-c]\\.") == "[a-c]\\.");
  CHECK(with_ranges("[\\p{Zl}-x]") == "[[\\x{2028}]\\-x]");
  CHECK(with_ranges("\\P{Zp}") == "[^\\x{2029}]");
}

}  // namespace
}  // namespace chorus::text
