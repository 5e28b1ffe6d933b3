// Facts about every code point against those that Hugging Face's `tokenizers` acts on
// (tests/reference/unicode_facts.py keeps one checksum per 4096 code points).
#include "router/text/unicode/unicode.h"

#include <catch2/catch.hpp>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

namespace chorus::text::unicode {
namespace {

using nlohmann::json;

json facts() {
  std::ifstream file(CHORUS_SOURCE_DIR "/tests/reference/unicode_facts.json");
  REQUIRE(file);
  return json::parse(file);
}

std::string fnv(std::string_view data) {
  uint64_t value = 0xCBF29CE484222325;
  for (unsigned char byte : data) value = (value ^ byte) * 0x100000001B3;
  char hex[17];
  std::snprintf(hex, sizeof hex, "%016llx", static_cast<unsigned long long>(value));
  return hex;
}

// Compares `describe(code)`, concatenated over each block, with the golden sums.
void check_sums(const json& sums, int block,
                const std::function<void(char32_t, std::string&)>& describe) {
  REQUIRE(sums.size() * block == 0x110000);
  for (size_t i = 0; i < sums.size(); ++i) {
    std::string described;
    for (int j = 0; j < block; ++j) describe(static_cast<char32_t>(i * block + j), described);
    INFO("code points from " << std::hex << i * block);
    CHECK(fnv(described) == sums[i].get<std::string>());
  }
}

std::string utf8(char32_t code) {
  std::string text;
  append_utf8(text, code);
  return text;
}

bool is_surrogate(char32_t code) {
  return code >= 0xD800 && code < 0xE000;
}

TEST_CASE("every code point has the class that the reference's regex engine gives it") {
  json golden = facts();
  check_sums(golden["classes"], golden["block"], [](char32_t code, std::string& out) {
    ClassMask mask = is_surrogate(code) ? 0 : class_of(code);
    out += {static_cast<char>(mask & 0xFF), static_cast<char>(mask >> 8)};
  });
}

TEST_CASE("NFC of every code point in company is the reference's") {
  json golden = facts();
  check_sums(golden["nfc"], golden["block"], [](char32_t code, std::string& out) {
    if (is_surrogate(code)) return;
    std::string character = utf8(code);
    for (const std::string& text :
         {character, "a" + character + "\u0334\u0316\u0301", "e\u0345\u0301" + character, character,
          "\u1100\u1161" + character}) {
      std::string normal = in_form(Form::nfc, text);
      out += normal;
      if (quick_check(Form::nfc, text) && normal != text)
        FAIL("the quick check is wrong for " << static_cast<uint32_t>(code));
    }
  });
}

TEST_CASE("decomposed text composes to the same as composed text") {
  CHECK(in_form(Form::nfc, "e\u0301") == "\u00e9");
  CHECK(in_form(Form::nfc, "q\u0301\u0327") == "q\u0327\u0301");  // marks in order of their class
  CHECK(in_form(Form::nfc, "\u1100\u1161\u11a8") == "\uac01");
  CHECK(in_form(Form::nfc, "\u212b") == "\u00c5");
  CHECK(in_form(Form::nfc, "\u0958") == "\u0915\u093c");  // excluded from composition
}

TEST_CASE("the quick check lets only normalised text pass") {
  CHECK(quick_check(Form::nfc, "plain ASCII of more than eight bytes"));
  CHECK(quick_check(Form::nfc, "caf\u00e9 \u4e2d\u6587 \uac00"));
  CHECK_FALSE(quick_check(Form::nfc, "cafe\u0301"));
  CHECK_FALSE(quick_check(Form::nfc, "12345678\u212b"));
  CHECK(quick_check(Form::nfc, "x\u0321\u0316"));
  CHECK_FALSE(quick_check(Form::nfc, "x\u0316\u0321"));  // of lower class, so it goes first
  CHECK_FALSE(quick_check(Form::nfc, "x\u0327\u0316\u0327\u0321\u0301\u0316"));
}

TEST_CASE("each code point's UTF-8 decodes to it, and nothing else does") {
  for (char32_t code = 0; code < 0x110000; ++code) {
    if (is_surrogate(code)) continue;
    std::string text = utf8(code) + "a";
    Character character = decode(text);
    if (character.code != code || character.bytes + 1 != static_cast<int>(text.size()))
      FAIL(static_cast<uint32_t>(code));
  }
  for (const char* broken : {"\x80", "\xC0\x80", "\xE0\x80\x80", "\xED\xA0\x80", "\xF0\x80\x80\x80",
                             "\xF4\x90\x80\x80", "\xFF", "\xE2\x82", "\xC3(", "\xF8\x88\x80\x80"}) {
    Character character = decode(broken);
    CHECK(character.code == 0xFFFD);
    CHECK(character.bytes == 1);
  }
}

}  // namespace
}  // namespace chorus::text::unicode
