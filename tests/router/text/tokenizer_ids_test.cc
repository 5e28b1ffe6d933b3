// Token ids against Hugging Face's `tokenizers`, from golden files that tests/reference/
// tokenizer_ids.py made. Needs the model files in the cache folder; says so where one is missing.
#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

#include "router/text/tokenizer.h"

namespace chorus::text {
namespace {

using Ids = std::vector<int32_t>;
using nlohmann::json;

std::filesystem::path cache_folder() {
  const char* xdg = std::getenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  auto base = xdg != nullptr && *xdg != '\0' ? std::filesystem::path(xdg)
                                             : std::filesystem::path(home ? home : "") / ".cache";
  return base / "chorus";
}

json golden(const std::string& model) {
  std::ifstream file(CHORUS_SOURCE_DIR "/tests/reference/tokenizer_ids_" + model + ".json");
  REQUIRE(file);
  return json::parse(file);
}

std::unique_ptr<Tokenizer> tokenizer_of(const json& cases) {
  auto path = cache_folder() / cases["file"].get<std::string>();
  if (!std::filesystem::exists(path)) {
    std::cout << "chorus-skip: " << path << " is not there\n";
    return nullptr;
  }
  return load_tokenizer(path);
}

Prompt template_text(const std::string& text) {
  return {text, {}};
}
Prompt outside_text(const std::string& text) {
  return {text, {{0, static_cast<int64_t>(text.size())}}};
}

std::string repeated(const json& entry) {
  std::string text;
  for (int i = 0; i < entry["count"]; ++i) text += entry["unit"].get<std::string>();
  return text;
}

Ids from_runs(const json& runs) {
  Ids ids;
  for (const json& run : runs) ids.insert(ids.end(), run[1].get<size_t>(), run[0].get<int32_t>());
  return ids;
}

void check_case(const Tokenizer& tokenizer, const json& entry) {
  if (entry.contains("unit")) {
    INFO("a run of " << entry["unit"]);
    CHECK(tokenizer.encode(outside_text(repeated(entry)), false) == from_runs(entry["runs"]));
    return;
  }
  INFO("the text " << entry["text"].dump(-1, ' ', true));
  auto text = entry["text"].get<std::string>();
  auto plain = entry["plain"].get<Ids>();
  CHECK(tokenizer.encode(outside_text(text), false) == plain);
  auto written = entry.contains("template") ? entry["template"].get<Ids>() : plain;
  CHECK(tokenizer.encode(template_text(text), false) == written);
}

void check_model(const std::string& model) {
  json cases = golden(model);
  auto tokenizer = tokenizer_of(cases);
  if (!tokenizer) return;
  CHECK(cases["cases"].size() >= 200);
  for (const json& entry : cases["cases"]) check_case(*tokenizer, entry);
}

TEST_CASE("SmolLM2's token ids are those of the reference tokenizer") {
  check_model("smollm2");
}
TEST_CASE("Qwen2.5-Coder's token ids are those of the reference tokenizer") {
  check_model("qwen2.5-coder");
}
TEST_CASE("Gemma 3's token ids are those of the reference tokenizer") {
  check_model("gemma-3");
}

}  // namespace
}  // namespace chorus::text
