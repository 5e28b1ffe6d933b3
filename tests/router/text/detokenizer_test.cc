#include "router/text/detokenizer.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <optional>
#include <random>

namespace chorus::text {
namespace {

using Random = std::mt19937;

// The UTF-8 of a code point above U+007F, without the last byte of four.
std::string first_bytes(uint32_t code) {
  std::vector<uint32_t> bytes;
  if (code < 0x800) {
    bytes = {0xC0 | code >> 6, 0x80 | (code & 0x3F)};
  } else if (code < 0x10000) {
    bytes = {0xE0 | code >> 12, 0x80 | (code >> 6 & 0x3F), 0x80 | (code & 0x3F)};
  } else {
    bytes = {0xF0 | code >> 18, 0x80 | (code >> 12 & 0x3F), 0x80 | (code >> 6 & 0x3F)};
  }
  std::string text;
  for (uint32_t byte : bytes) text.push_back(static_cast<char>(byte));
  return text;
}

// The reference decoder for one whole text: the longest well-formed prefix of what could still be
// a character becomes one U+FFFD. Written over bit patterns and code point ranges rather than
// tables of bytes, so that it shares no thinking with the code it checks.
std::string decode_whole(std::string_view bytes) {
  auto could_become_character = [](std::string_view part) {
    for (uint32_t code = 0x80; code <= 0x10FFFF; code += code < 0x800 ? 1 : 0x40) {
      if (code >= 0xD800 && code < 0xE000) continue;
      std::string text = first_bytes(code);
      size_t shared = std::min(text.size(), part.size());
      if (text.compare(0, shared, part.substr(0, shared)) == 0) return true;
    }
    return false;
  };
  auto is_continuation = [](unsigned char byte) { return (byte & 0xC0) == 0x80; };
  std::string out;
  while (!bytes.empty()) {
    auto lead = static_cast<unsigned char>(bytes[0]);
    if (lead < 0x80) {
      out += bytes[0];
      bytes.remove_prefix(1);
      continue;
    }
    size_t wanted = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    size_t good = 0;
    while (good < wanted && good < bytes.size() && (good == 0 || is_continuation(bytes[good])) &&
           could_become_character(bytes.substr(0, std::min<size_t>(good + 1, wanted - 1)))) {
      ++good;
    }
    out += good == wanted ? std::string(bytes.substr(0, wanted)) : "\uFFFD";
    bytes.remove_prefix(std::max<size_t>(good, 1));
  }
  return out;
}

// Earliest end first, the longest of those that end there.
std::optional<size_t> find_stop(const std::string& text, const std::vector<std::string>& stops) {
  for (size_t end = 1; end <= text.size(); ++end) {
    size_t longest = 0;
    for (const std::string& stop : stops) {
      bool here = stop.size() <= end && text.compare(end - stop.size(), stop.size(), stop) == 0;
      if (here) longest = std::max(longest, stop.size());
    }
    if (longest > 0) return end - longest;
  }
  return std::nullopt;
}

std::vector<std::string> random_pieces(const std::string& text, Random& random) {
  std::vector<std::string> pieces;
  for (size_t at = 0; at < text.size();) {
    size_t bytes = random() % 4;
    pieces.push_back(text.substr(at, bytes));
    at += std::min(bytes, text.size() - at);
  }
  return pieces;
}

std::string random_text(Random& random, const std::vector<std::string>& alphabet, int length) {
  std::string text;
  for (int i = 0; i < length; ++i) text += alphabet[random() % alphabet.size()];
  return text;
}

TEST_CASE("a split character is held until it is whole") {
  Utf8Stream stream;
  CHECK(stream.push("a\xF0\x9F") == "a");
  CHECK(stream.push("\x98").empty());
  CHECK(stream.push("\x80"
                    "b") == "\U0001F600b");
  CHECK(stream.finish().empty());
}

TEST_CASE("bytes that cannot become a character are replaced at once, one per maximal subpart") {
  Utf8Stream stream;
  CHECK(stream.push("\x80") == "\uFFFD");
  CHECK(stream.push("\xED\xA0\x80") == "\uFFFD\uFFFD\uFFFD");  // a surrogate
  CHECK(stream.push("\xE2\x82"
                    "a") == "\uFFFDa");
  CHECK(stream.push("\xF4\x90") == "\uFFFD\uFFFD");  // above U+10FFFF
  CHECK(stream.push("\xE2\x82").empty());
  CHECK(stream.finish() == "\uFFFD");
  CHECK(stream.finish().empty());
}

TEST_CASE("any bytes in any pieces read as the whole does") {
  Random random(20251124);
  std::vector<std::string> alphabet = {"a",        "\u00e9",   "\u4e2d",  "\U0001F600", "\xE2",
                                       "\x82",     "\xF0",     "\x9F",    "\xC0",       "\xFF",
                                       "\xED\xA0", "\xF4\x8F", "\xE0\x9F"};
  for (int round = 0; round < 300; ++round) {
    std::string bytes = random_text(random, alphabet, 1 + round % 12);
    Utf8Stream stream;
    std::string text;
    for (const std::string& piece : random_pieces(bytes, random)) text += stream.push(piece);
    text += stream.finish();
    INFO("round " << round);
    REQUIRE(text == decode_whole(bytes));
  }
}

TEST_CASE("a stop string is found across pieces and cut with what follows") {
  StopStrings stops({"</s>", "STOP"});
  CHECK(stops.push("Hello <").text == "Hello ");
  CHECK(stops.push("/").text.empty());
  CHECK(stops.push("b><").text == "</b>");
  auto last = stops.push("/s> and more");
  CHECK(last.matched);
  CHECK(last.text.empty());
  CHECK(stops.push("more").matched);
  CHECK(stops.push("more").text.empty());
  CHECK(stops.finish().empty());
}

TEST_CASE("the earliest end wins, and the longest of those that end there") {
  CHECK(StopStrings({"bc", "abcd"}).push("xabcd").text == "xa");
  CHECK(StopStrings({"c", "abc", "bc"}).push("xabcd").text == "x");
}

TEST_CASE("what was held back is sent when the sequence ends") {
  StopStrings stops({"abcabd"});
  CHECK(stops.push("xabcab").text == "x");
  CHECK(stops.finish() == "abcab");
}

TEST_CASE("stop strings over random texts and pieces leak nothing and lose nothing") {
  Random random(7);
  std::vector<std::string> alphabet = {"a", "b", "\u00e9", "\u00e8"};
  for (int round = 0; round < 3000; ++round) {
    std::vector<std::string> wanted(1 + random() % 3);
    for (std::string& stop : wanted) stop = random_text(random, alphabet, 1 + random() % 5);
    std::string text = random_text(random, alphabet, random() % 30);
    StopStrings stops(wanted);
    std::string sent;
    bool matched = false;
    size_t pushed = 0, longest = 0;
    for (const std::string& stop : wanted) longest = std::max(longest, stop.size());
    for (const std::string& piece : random_pieces(text, random)) {
      auto result = stops.push(piece);
      sent += result.text;
      matched = result.matched;
      pushed += piece.size();
      REQUIRE((matched || pushed - sent.size() < longest));  // holds no more than it must
    }
    sent += stops.finish();
    auto expected = find_stop(text, wanted);
    INFO("round " << round);
    REQUIRE(matched == expected.has_value());
    REQUIRE(sent == text.substr(0, expected.value_or(text.size())));
  }
}

TEST_CASE("without stop strings nothing is held") {
  StopStrings stops({});
  CHECK(stops.push("anything").text == "anything");
  CHECK(stops.finish().empty());
}

TEST_CASE("a detokenizer drops one space at the very start where the vocabulary wants it") {
  Detokenizer strips({}, true);
  CHECK(strips.push("").text.empty());
  CHECK(strips.push("  a").text == " a");
  CHECK(strips.push(" b").text == " b");
  Detokenizer keeps({}, false);
  CHECK(keeps.push(" a").text == " a");
}

TEST_CASE("a detokenizer sends whole characters and no part of a stop string") {
  Detokenizer detokenizer({"\u00e9nd"}, false);
  CHECK(detokenizer.push("x\xC3").text == "x");
  CHECK(detokenizer.push("\xA9").text.empty());
  CHECK(detokenizer.push("n\xE2").text.empty());
  CHECK(detokenizer.finish() == "\u00e9n\uFFFD");
}

}  // namespace
}  // namespace chorus::text
