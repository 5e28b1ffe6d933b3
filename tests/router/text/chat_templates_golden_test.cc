// Holds the chat templates of real models, over twelve conversations, against what transformers
// makes of them: tests/reference/chat_templates.json, written by chat_templates.py.
#include <catch2/catch.hpp>
#include <fstream>

#include "router/text/chat_template.h"
#include "router/text/conversation.h"

namespace chorus::text {
namespace {

constexpr int64_t kNow = 1753615845;  // 2025-07-27T11:30:45, as the script's

std::string fnv1a(const std::string& text) {
  uint64_t value = 0xCBF29CE484222325U;
  for (const char c : text) value = (value ^ static_cast<unsigned char>(c)) * 0x100000001B3U;
  char digits[17];
  std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(value));
  return digits;
}

tl::expected<std::string, TemplateError> render(const ChatTemplate& chat_template, Json variables) {
  const bool going_on = variables.value("continue_final_message", false);
  variables.erase("continue_final_message");
  for (const char* name : {"tools", "documents"}) {
    if (!variables.contains(name)) variables[name] = nullptr;
  }
  if (!variables.contains("add_generation_prompt")) variables["add_generation_prompt"] = false;
  Json& messages = variables["messages"];
  name_reasoning(messages);
  std::optional<Continuation> continuation;
  if (going_on) {
    auto begun = Continuation::begin(messages, "content", chat_template.source());
    if (!begun) return tl::unexpected(begun.error());
    continuation.emplace(std::move(*begun));
  }
  auto prompt = chat_template.render(variables, kNow);
  if (!prompt) return tl::unexpected(prompt.error());
  RenderedChat chat{.prompt = std::move(*prompt), .message_begins = {}};
  if (continuation) {
    if (auto error = continuation->cut(chat)) return tl::unexpected(*error);
  }
  return chat.prompt.text;
}

// `expected`: [bytes, hash], or {"raised": message of raise_exception or null}.
void check(const tl::expected<std::string, TemplateError>& text, const Json& expected) {
  if (expected.is_array()) {
    if (!text) FAIL_CHECK(text.error().message);
    if (text) CHECK(text->size() == expected[0].get<size_t>());
    if (text) CHECK(fnv1a(*text) == expected[1].get<std::string>());
    return;
  }
  REQUIRE_FALSE(text);
  const Json& raised = expected["raised"];
  if (!raised.is_null()) CHECK(text.error().message == raised.get<std::string>());
}

TEST_CASE("the templates of seventy models render twelve conversations as transformers does") {
  std::ifstream file(CHORUS_SOURCE_DIR "/tests/reference/chat_templates.json");
  const Json golden = Json::parse(file);
  REQUIRE(golden["templates"].size() == 70);
  REQUIRE(golden["conversations"].size() == 12);
  for (const Json& model : golden["templates"]) {
    const auto parsed = ChatTemplate::parse(model["source"].get<std::string>());
    CAPTURE(model["name"].get<std::string>());
    if (!parsed) FAIL(parsed.error().message);
    for (const auto& [name, variables] : golden["conversations"].items()) {
      CAPTURE(name);
      check(render(*parsed, variables), model["cases"][name]);
    }
  }
}

}  // namespace
}  // namespace chorus::text
