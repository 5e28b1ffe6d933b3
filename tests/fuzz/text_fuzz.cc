// Any bytes through the UTF-8 stream, the stop strings and both kinds of tokenizer, in pieces that
// the input chooses. Checked: what comes out in pieces is what comes out at once, it is valid
// UTF-8, no stop string is in it, and token ids give the text back and hold no control token.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "router/text/detokenizer.h"
#include "router/text/tokenizer.h"
#include "router/text/unicode/unicode.h"
#include "tests/router/text/small_vocabularies.h"

namespace chorus::text {
namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

// The input's first bytes: sizes of pieces, and the stop strings' lengths.
class Choices {
 public:
  explicit Choices(std::string_view& input) : bytes_(input.substr(0, 8)) {
    input.remove_prefix(bytes_.size());
  }
  size_t next(size_t below) {
    if (bytes_.empty()) return 0;
    return static_cast<unsigned char>(bytes_[at_++ % bytes_.size()]) % below;
  }

 private:
  std::string_view bytes_;
  size_t at_ = 0;
};

template <class Push>
void in_pieces(std::string_view text, Choices& choices, const Push& push) {
  while (!text.empty()) {
    size_t bytes = std::min(text.size(), choices.next(5));
    push(text.substr(0, bytes));
    text.remove_prefix(bytes);
    if (bytes == 0 && !text.empty()) {
      push(text.substr(0, 1));
      text.remove_prefix(1);
    }
  }
}

std::string check_utf8(std::string_view bytes, Choices& choices) {
  Utf8Stream whole, split;
  std::string expected = whole.push(bytes) + whole.finish();
  std::string text;
  in_pieces(bytes, choices, [&](std::string_view piece) { text += split.push(piece); });
  text += split.finish();
  require(text == expected);
  Utf8Stream again;
  require(again.push(text) == text && again.finish().empty());  // valid, so left as it is
  return text;
}

std::vector<std::string> stops_from(const std::string& text, Choices& choices) {
  std::vector<std::string> stops;
  size_t at = 0;
  for (size_t i = 0; i < 3; ++i) {
    std::string stop;
    for (size_t left = 1 + choices.next(4); left > 0 && at < text.size(); --left) {
      int bytes = unicode::decode(std::string_view(text).substr(at)).bytes;
      stop += text.substr(at, bytes);
      at += bytes;
    }
    if (!stop.empty()) stops.push_back(stop);
  }
  return stops;
}

void check_stops(const std::string& text, Choices& choices) {
  std::vector<std::string> stops = stops_from(text, choices);
  std::string rest = text.substr(std::min<size_t>(text.size(), choices.next(32)));
  Utf8Stream utf8;
  rest = utf8.push(rest) + utf8.finish();
  StopStrings whole(stops), split(stops);
  auto expected = whole.push(rest);
  std::string expected_text = expected.text + whole.finish();
  std::string sent;
  bool matched = false;
  in_pieces(rest, choices, [&](std::string_view piece) {
    auto result = split.push(piece);
    sent += result.text;
    matched = result.matched;
  });
  sent += split.finish();
  require(sent == expected_text && matched == expected.matched);
  for (const std::string& stop : stops) require(sent.find(stop) == std::string::npos);
  require(matched || sent == rest);
}

// Tokens chosen by the input, one at a time: the same text as in one go, with no stop string in it.
void check_detokenizer(const Tokenizer& tokenizer, std::string_view input, Choices& choices) {
  DetokenizerOptions options{.stops = stops_from("ab<|im_end|>\uFFFD\u00e9", choices),
                             .include_stop = choices.next(2) == 0,
                             .skip_special_tokens = choices.next(2) == 0};
  Utf8Stream utf8(tokenizer.has_byte_tokens() ? Utf8Stream::Broken::per_byte
                                              : Utf8Stream::Broken::per_subpart);
  StopStrings stops(options.stops, options.include_stop);
  Detokenizer detokenizer(tokenizer, options);
  std::string text, sent;
  bool matched = false;
  for (unsigned char byte : input.substr(0, 4096)) {
    const int32_t id = (byte * 7 + static_cast<int>(text.size())) % (tokenizer.size() + 2) - 1;
    const bool known = id >= 0 && id < tokenizer.size();
    if (known && !tokenizer.is_control(id)) text += utf8.push(tokenizer.bytes(id));
    if (known && tokenizer.is_control(id) && !options.skip_special_tokens) {
      text += utf8.push(tokenizer.text(id));
    }
    auto result = detokenizer.push(id);
    sent += result.text;
    matched = result.matched;
  }
  sent += detokenizer.finish();
  text += utf8.finish();
  if (tokenizer.strips_first_space() && text.starts_with(' ')) text.erase(0, 1);
  auto expected = stops.push(text);
  require(sent == expected.text + stops.finish());
  if (matched) require(expected.matched);
}

void check_tokenizer(const Tokenizer& tokenizer, const std::string& text,
                     const std::string& expected) {
  std::string bytes;
  for (int32_t id : tokenizer.encode({text, {{0, static_cast<int64_t>(text.size())}}}, false)) {
    require(id >= 0 && id < tokenizer.size() && !tokenizer.is_control(id));
    bytes += tokenizer.bytes(id);
  }
  require(bytes == expected);
}

std::string with_spaces(std::string text) {
  for (size_t at; (at = text.find("\u2581")) != std::string::npos;) text.replace(at, 3, " ");
  return text;
}

std::unique_ptr<Tokenizer> sentence_tokenizer() {
  modelfile::Vocabulary vocabulary = small_sentence_vocabulary();
  vocabulary.add_space_prefix = false;
  return tokenizer_of(vocabulary);
}

std::unique_ptr<Tokenizer> byte_tokenizer(const char* pre) {
  modelfile::Vocabulary vocabulary = small_byte_vocabulary();
  vocabulary.pre = pre;
  return tokenizer_of(vocabulary);
}

}  // namespace

void check(std::string_view input) {
  static const auto sentence = sentence_tokenizer();
  static const auto smollm = byte_tokenizer("smollm");
  static const auto o200k = byte_tokenizer("gpt-4o");
  static const auto llama3 = byte_tokenizer("llama-bpe");
  Choices choices(input);
  std::string text = check_utf8(input, choices);
  check_stops(text, choices);
  for (const auto& tokenizer : {std::cref(sentence), std::cref(smollm)}) {
    check_detokenizer(*tokenizer.get(), input, choices);
  }
  check_tokenizer(*sentence, text, with_spaces(text));
  for (const auto& tokenizer : {std::cref(smollm), std::cref(o200k), std::cref(llama3)}) {
    check_tokenizer(*tokenizer.get(), text, text);
  }
  static const auto qwen2 = byte_tokenizer("qwen2");
  Prompt outside{text, {{0, static_cast<int64_t>(text.size())}}};
  std::string bytes;
  for (int32_t id : qwen2->encode(outside, false)) bytes += qwen2->bytes(id);
  require(unicode::in_form(unicode::Form::nfc, bytes) ==
          unicode::in_form(unicode::Form::nfc, text));
  qwen2->encode({std::string(input), {}}, true);  // broken UTF-8 must not do harm either
}

}  // namespace chorus::text

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  chorus::text::check({reinterpret_cast<const char*>(data), size});
  return 0;
}
