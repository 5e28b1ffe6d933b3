#include "router/text/detokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <optional>
#include <random>

#include "tests/router/text/small_vocabularies.h"

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
  static std::map<std::string, bool, std::less<>> known;
  auto could_become_character = [](std::string_view part) {
    if (auto found = known.find(part); found != known.end()) return found->second;
    bool& could = known.emplace(part, false).first->second;
    for (uint32_t code = 0x80; code <= 0x10FFFF; code += code < 0x800 ? 1 : 0x40) {
      if (code >= 0xD800 && code < 0xE000) continue;
      std::string text = first_bytes(code);
      size_t shared = std::min(text.size(), part.size());
      if (text.compare(0, shared, part.substr(0, shared)) == 0) return could = true;
    }
    return could;
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

TEST_CASE("a stop string that is part of the answer cuts what follows it") {
  StopStrings stops({"</s>", "STOP"}, true);
  CHECK(stops.push("Hello ST").text == "Hello ");
  auto last = stops.push("OP and");
  CHECK(last.matched);
  CHECK(last.text == "STOP");
  CHECK(stops.finish().empty());
}

TEST_CASE("broken bytes of byte tokens become one U+FFFD each") {
  Utf8Stream stream(Utf8Stream::Broken::per_byte);
  CHECK(stream.push("\xF0\x9F\x98").empty());
  CHECK(stream.push("a\xE2") == "\uFFFD\uFFFD\uFFFDa");
  CHECK(stream.push("\x82") == "");
  CHECK(stream.finish() == "\uFFFD\uFFFD");
}

TEST_CASE("a stream completes the character before it, and replaces only its own bytes") {
  Utf8Stream completes;
  completes.continue_from("x\xF0\x9F");
  CHECK(completes.push("\x98").empty());
  CHECK(completes.push("\x80") == "\U0001F600");
  Utf8Stream breaks;
  breaks.continue_from("x\xF0\x9F");
  CHECK(breaks.push("a\xE2") == "a");
  CHECK(breaks.finish() == "\uFFFD");
  Utf8Stream adds(Utf8Stream::Broken::per_byte);
  adds.continue_from("\xF0\x9F");
  CHECK(adds.push("\x98").empty());
  CHECK(adds.push("a") == "\uFFFDa");  // one for its own byte
  Utf8Stream whole;
  whole.continue_from("x");
  CHECK(whole.push("\x80") == "\uFFFD");
  Utf8Stream nothing;
  nothing.continue_from("\xF0\x9F");
  CHECK(nothing.finish().empty());
}

// Ids of the small vocabularies' tokens by their text.
struct Setup {
  explicit Setup(const modelfile::Vocabulary& made)
      : vocabulary(made), tokenizer(tokenizer_of(made)) {}

  int32_t id(std::string_view text) const {
    auto found = std::find(vocabulary.tokens.begin(), vocabulary.tokens.end(), text);
    REQUIRE(found != vocabulary.tokens.end());
    return static_cast<int32_t>(found - vocabulary.tokens.begin());
  }
  int32_t byte(int value) const {
    return tokenizer->has_byte_tokens() ? id(fmt::format("<0x{:02X}>", value)) : value;
  }
  Detokenizer detokenizer(DetokenizerOptions options = {}) const {
    return Detokenizer(*tokenizer, std::move(options));
  }

  modelfile::Vocabulary vocabulary;
  std::unique_ptr<Tokenizer> tokenizer;
};

TEST_CASE("a detokenizer drops one space at the very start where the vocabulary wants it") {
  Setup sentence(small_sentence_vocabulary());
  Detokenizer strips = sentence.detokenizer();
  CHECK(strips.push(sentence.id("<s>")).text.empty());
  CHECK(strips.push(sentence.id("\u2581\u2581")).text == " ");
  CHECK(strips.push(sentence.id("\u2581a")).text == " a");
  CHECK(strips.text_bytes() == 3);
  Detokenizer goes_on = sentence.detokenizer({.prompt_tail = {sentence.id("a")}});
  CHECK(goes_on.push(sentence.id("\u2581a")).text == " a");
  Setup bytes(small_byte_vocabulary());
  CHECK(bytes.detokenizer().push(bytes.id("\u0120")).text == " ");
}

TEST_CASE("a detokenizer sends whole characters and no part of a stop string") {
  Setup bytes(small_byte_vocabulary());
  Detokenizer detokenizer = bytes.detokenizer({.stops = {"\u00e9nd"}});
  CHECK(detokenizer.push(bytes.byte('x')).text == "x");
  CHECK(detokenizer.push(0xC3).text.empty());
  CHECK(detokenizer.push(0xA9).text.empty());
  CHECK(detokenizer.push(bytes.byte('n')).text.empty());
  CHECK(detokenizer.push(0xE2).text.empty());
  CHECK(detokenizer.finish() == "\u00e9n\uFFFD");
}

TEST_CASE("control tokens are text only where they are not skipped, and may be stop strings then") {
  Setup bytes(small_byte_vocabulary());
  const int32_t end = bytes.id("<|im_end|>");
  CHECK(bytes.detokenizer().push(end).text.empty());
  CHECK(bytes.detokenizer({.skip_special_tokens = false}).push(end).text == "<|im_end|>");
  Detokenizer stops =
      bytes.detokenizer({.stops = {"|im"}, .include_stop = true, .skip_special_tokens = false});
  CHECK(stops.push(bytes.byte('<')).text == "<");
  auto last = stops.push(end);
  CHECK(last.matched);
  CHECK(last.text == "<|im");
  Detokenizer hidden = bytes.detokenizer({.stops = {"|im"}});
  CHECK_FALSE(hidden.push(end).matched);
}

TEST_CASE("ids beyond the vocabulary have no text") {
  Setup bytes(small_byte_vocabulary());
  Detokenizer detokenizer = bytes.detokenizer();
  for (int32_t id : {-1, bytes.tokenizer->size(), 1 << 30}) {
    CHECK(detokenizer.push(id).text.empty());
  }
}

TEST_CASE("a stop string never starts in the prompt") {
  Setup bytes(small_byte_vocabulary());
  Detokenizer detokenizer = bytes.detokenizer({.stops = {"ab"}, .prompt_tail = {bytes.byte('a')}});
  CHECK(detokenizer.push(bytes.byte('b')).text == "b");
}

TEST_CASE("a decoder that waits for the end says nothing of the prompt") {
  modelfile::Vocabulary made = small_byte_vocabulary();
  modelfile::TokenizerSpec spec = modelfile::spec_of(made, "test.gguf");
  spec.decoder.insert(spec.decoder.begin(), modelfile::decoder::Fuse{});
  auto tokenizer = make_tokenizer(std::move(spec));
  REQUIRE_FALSE(tokenizer->decodes_by_token());
  Detokenizer goes_on(*tokenizer, {.prompt_tail = {'a', 'b'}});
  std::string text = goes_on.push('c').text;
  text += goes_on.push('a').text;
  text += goes_on.finish();
  CHECK(text == "ca");
}

// The model: decode all, then cut. What is safe to send after each token is what every possible
// continuation agrees on, so it is found from the text alone.
std::string replace_broken(std::string_view bytes, bool per_byte) {
  if (!per_byte) return decode_whole(bytes);
  std::string text;
  for (size_t at = 0; at < bytes.size();) {
    size_t length = 4;  // the longest that is one character
    while (length > 0) {
      std::string_view part = bytes.substr(at, length);
      std::string decoded = decode_whole(part);
      auto characters =
          std::count_if(decoded.begin(), decoded.end(), [](char c) { return (c & 0xC0) != 0x80; });
      if (part.size() == length && characters == 1 && decoded == part) break;
      --length;
    }
    text += length > 0 ? std::string(bytes.substr(at, length)) : "\uFFFD";
    at += std::max<size_t>(length, 1);
  }
  return text;
}

// Of `bytes`, what more bytes cannot change: without the last 1 to 3 that may begin a character.
std::string_view settled(std::string_view bytes) {
  for (size_t tail = std::min<size_t>(3, bytes.size()); tail > 0; --tail) {
    std::string part(bytes.substr(bytes.size() - tail));
    auto continues = [](char c) { return (c & 0xC0) == 0x80; };
    bool one = (part[0] & 0xC0) == 0xC0 && std::all_of(part.begin() + 1, part.end(), continues);
    if (!one || decode_whole(part) == part) continue;
    for (int second = 0x80; second < 0xC0; ++second) {
      std::string longer = part;
      if (tail == 1) longer += static_cast<char>(second);
      while (longer.size() < 4 && decode_whole(longer) != longer) longer += '\x80';
      if (decode_whole(longer) == longer) return bytes.substr(0, bytes.size() - tail);
    }
  }
  return bytes;
}

// How much of a text without a match may be sent: all but the longest beginning of a stop string.
size_t safe_length(const std::string& text, const std::vector<std::string>& stops) {
  size_t held = 0;
  for (const std::string& stop : stops) {
    for (size_t length = 1; length < stop.size() && length <= text.size(); ++length) {
      if (text.compare(text.size() - length, length, stop, 0, length) == 0) {
        held = std::max(held, length);
      }
    }
  }
  return text.size() - held;
}

std::string without_first_space(std::string text, bool strips) {
  if (strips && text.starts_with(' ')) text.erase(0, 1);
  return text;
}

void check_against_model(const Setup& setup, const std::vector<int32_t>& tokens, Random& random) {
  std::vector<int32_t> ids(random() % 14);
  for (int32_t& id : ids) id = tokens[random() % tokens.size()];
  std::vector<std::string> stops(random() % 3);
  const std::vector<std::string> alphabet = {"a", "b", " ", "\u00e9", "\uFFFD", "<|im", "c"};
  for (std::string& stop : stops) stop = random_text(random, alphabet, 1 + random() % 3);
  const bool include = random() % 2 == 0, skip = random() % 2 == 0;
  const bool strips = setup.tokenizer->strips_first_space();
  const bool per_byte = setup.tokenizer->has_byte_tokens();
  Detokenizer detokenizer =
      setup.detokenizer({.stops = stops, .include_stop = include, .skip_special_tokens = skip});
  std::string bytes, sent;
  for (int32_t id : ids) {
    bytes += !setup.tokenizer->is_control(id) ? setup.tokenizer->bytes(id)
             : skip                           ? ""
                                              : setup.tokenizer->text(id);
    const std::string text = without_first_space(replace_broken(settled(bytes), per_byte), strips);
    auto result = detokenizer.push(id);
    sent += result.text;
    if (auto cut = find_stop(text, stops)) {
      size_t end = 0;
      if (include) {  // the first place where a stop string ends
        while (!find_stop(text.substr(0, end), stops)) ++end;
      }
      REQUIRE(result.matched);
      REQUIRE(sent == text.substr(0, include ? end : *cut));
      REQUIRE(detokenizer.finish().empty());
      return;
    }
    REQUIRE_FALSE(result.matched);
    REQUIRE(sent == text.substr(0, safe_length(text, stops)));
    REQUIRE(detokenizer.text_bytes() == static_cast<int64_t>(text.size()));
  }
  const std::string whole = without_first_space(replace_broken(bytes, per_byte), strips);
  const std::string last = sent + detokenizer.finish();
  if (auto cut = find_stop(whole, stops)) {  // in what only the end made text
    REQUIRE(last.starts_with(whole.substr(0, *cut)));
  } else {
    REQUIRE(last == whole);
  }
}

TEST_CASE("any tokens with any stop strings are sent as early as is safe, and as the model says") {
  Random random(20251126);
  Setup bytes(small_byte_vocabulary());
  std::vector<int32_t> byte_level;
  for (int value : {0xC3, 0xA9, 0xF0, 0x9F, 0x98, 0x80, 0xE2, 0xED, 0xA0, 0xFF, 0xBF, 0xBD, 0xEF}) {
    byte_level.push_back(bytes.byte(value));
  }
  for (const char* text : {"a", "b", "c", "ab", "\u0120a", "<|im_end|>", "<tool_call>"}) {
    byte_level.push_back(bytes.id(text));
  }
  Setup sentence(small_sentence_vocabulary());
  std::vector<int32_t> with_bytes;
  for (int value : {0xC3, 0xA9, 0xF0, 0x9F, 0x98, 0x80, 0xE2, 0xED, 0xA0, 0xFF, 0x61, 0x20}) {
    with_bytes.push_back(sentence.byte(value));
  }
  for (const char* text : {"a", "b", "c", "ab", "\u2581a", "a\u2581b", "\u2581\u2581", "</s>"}) {
    with_bytes.push_back(sentence.id(text));
  }
  for (int round = 0; round < 2000; ++round) {
    INFO("round " << round);
    check_against_model(bytes, byte_level, random);
    check_against_model(sentence, with_bytes, random);
  }
}

TEST_CASE("long stop strings and long runs of broken bytes cost what they are long") {
  Setup bytes(small_byte_vocabulary());
  Detokenizer detokenizer = bytes.detokenizer({.stops = {std::string(200'000, 'a') + "b"}});
  const int32_t a = bytes.byte('a');
  size_t sent = 0;
  for (int i = 0; i < 400'000; ++i) sent += detokenizer.push(a).text.size();
  CHECK(sent == 200'000);
  Detokenizer broken = bytes.detokenizer();
  sent = 0;
  for (int i = 0; i < 400'000; ++i) sent += broken.push(bytes.byte(0x80)).text.size();
  CHECK(sent == 1'200'000);
}

}  // namespace
}  // namespace chorus::text
