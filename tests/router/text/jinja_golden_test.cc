// Holds the template engine against what Python's Jinja made of the same templates:
// tests/reference/jinja_golden.json, written by jinja_golden.py.
#include <catch2/catch.hpp>
#include <fstream>

#include "router/text/chat_template.h"

namespace chorus::text {
namespace {

Json golden() {
  std::ifstream file(CHORUS_SOURCE_DIR "/tests/reference/jinja_golden.json");
  REQUIRE(file.is_open());
  return Json::parse(file);
}

// `expected`: [text], or [null, message of raise_exception or null].
void check(const std::string& source, const Json& variables, int64_t now, const Json& expected) {
  CAPTURE(source);
  const auto parsed = ChatTemplate::parse(source);
  std::string error = parsed ? "" : parsed.error().message;
  std::string text;
  bool failed = !parsed;
  if (parsed) {
    const auto prompt = parsed->render(variables, now);
    failed = !prompt;
    if (prompt) text = prompt->text;
    if (!prompt) error = prompt.error().message;
  }
  if (expected[0].is_null()) {
    CHECK(failed);
    if (!expected[1].is_null()) CHECK(error == expected[1].get<std::string>());
  } else {
    CHECK(error.empty());
    CHECK(text == expected[0].get<std::string>());
  }
}

TEST_CASE("snippets of the language render as Python's Jinja renders them") {
  const Json data = golden();
  REQUIRE(data["snippets"].size() > 1000);
  for (const Json& snippet : data["snippets"]) {
    Json expected = snippet;
    expected.erase(expected.begin());
    check(snippet[0].get<std::string>(), data["variables"], data["now"].get<int64_t>(), expected);
  }
}

TEST_CASE("chat templates of real models render as transformers renders them") {
  const Json data = golden();
  REQUIRE(data["models"].size() == 2);
  for (const Json& model : data["models"]) {
    for (const auto& [name, expected] : model["cases"].items()) {
      CAPTURE(model["name"].get<std::string>(), name);
      check(model["template"].get<std::string>(), data["conversations"][name],
            data["now"].get<int64_t>(), expected);
    }
  }
}

}  // namespace
}  // namespace chorus::text
