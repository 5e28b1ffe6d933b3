// The patterns, by the families that use them (\s is White_Space, classes are Unicode 16's):
//   gpt2    's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//   llama3  (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}
//           | ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
//   qwen2   llama3 with \p{N};  qwen35  qwen2 with [\p{L}\p{M}] for \p{L}
//   o200k   [^\r\n\p{L}\p{N}]?U*L+C?|[^\r\n\p{L}\p{N}]?U+L*C?|\p{N}{1,3}
//           | ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+
//           with U = [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}], L = [\p{Ll}\p{Lm}\p{Lo}\p{M}], C =
//           (?i:'s|...)
//   tekken  o200k without C, with \p{N}
// Alternatives are tried in order, so each scanner is that order written out; where a regex would
// back off, the comment says what that comes to.
#include "router/text/pretokenizer.h"

#include <algorithm>
#include <array>
#include <utility>

#include "router/text/unicode/unicode.h"

namespace chorus::text {
namespace {

using namespace unicode;

struct Seen {
  char32_t code = 0;
  ClassMask mask = 0;
  int bytes = 0;  // 0 at the end of the text
};

Seen look(std::string_view text, size_t at) {
  if (at >= text.size()) return {};
  Character character = decode(text.substr(at));
  return {character.code, class_of(character.code), character.bytes};
}

size_t skip_class(std::string_view text, size_t at, ClassMask wanted) {
  for (Seen seen = look(text, at); (seen.mask & wanted) != 0; seen = look(text, at)) {
    at += seen.bytes;
  }
  return at;
}

size_t skip_other(std::string_view text, size_t at, ClassMask unwanted) {
  for (Seen seen = look(text, at); seen.bytes != 0 && (seen.mask & unwanted) == 0;
       seen = look(text, at)) {
    at += seen.bytes;
  }
  return at;
}

size_t skip_newlines(std::string_view text, size_t at, bool slashes = false) {
  while (at < text.size() &&
         (text[at] == '\r' || text[at] == '\n' || (slashes && text[at] == '/'))) {
    ++at;
  }
  return at;
}

bool is_newline(char32_t code) {
  return code == '\r' || code == '\n';
}

// Bytes of a contraction ('s, 't, 're, 've, 'm, 'll, 'd) at `at`, or 0. Without regard to case,
// U+017F counts as an s, since that is what it folds to.
template <bool kAnyCase>
size_t contraction(std::string_view text, size_t at) {
  if (at >= text.size() || text[at] != '\'') return 0;
  auto letter = [&](size_t index) {
    char byte = index < text.size() ? text[index] : '\0';
    return kAnyCase && byte >= 'A' && byte <= 'Z' ? static_cast<char>(byte + 32) : byte;
  };
  char first = letter(at + 1), second = letter(at + 2);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
  if ((first == 'r' || first == 'v') && second == 'e') return 3;
  if (first == 'l' && second == 'l') return 3;
  return kAnyCase && text.substr(at + 1, 2) == "\u017F" ? 3 : 0;
}

// \s*[\r\n]+|\s+(?!\S)|\s+ at a space; the first alternative only with kNewlines. The second one
// leaves the last of several spaces to the word that follows.
template <bool kNewlines>
size_t scan_space(std::string_view text, size_t at) {
  size_t end = at, last = at, after_newline = at;
  for (Seen seen = look(text, at); (seen.mask & kSpace) != 0; seen = look(text, end)) {
    last = end;
    end += seen.bytes;
    if (is_newline(seen.code)) after_newline = end;
  }
  if (kNewlines && after_newline > at) return after_newline;
  return end == text.size() || last == at ? end : last;
}

size_t scan_gpt2(std::string_view text, size_t at) {
  if (size_t bytes = contraction<false>(text, at); bytes != 0) return at + bytes;
  size_t start = text[at] == ' ' ? at + 1 : at;
  Seen seen = look(text, start);
  if ((seen.mask & kLetter) != 0) return skip_class(text, start, kLetter);
  if ((seen.mask & kNumber) != 0) return skip_class(text, start, kNumber);
  if (seen.bytes != 0 && (seen.mask & kSpace) == 0) {
    return skip_other(text, start, kSpace | kLetter | kNumber);
  }
  return scan_space<false>(text, at);
}

// What the newer patterns share after their words: numbers, symbols, spaces.
template <int kDigits, ClassMask kWord, bool kSlashes>
size_t scan_rest(std::string_view text, size_t at, const Seen& first) {
  if ((first.mask & kNumber) != 0) {
    size_t end = at;
    for (int i = 0; i < kDigits; ++i) {
      Seen seen = look(text, end);
      if ((seen.mask & kNumber) == 0) break;
      end += seen.bytes;
    }
    return end;
  }
  constexpr ClassMask kNotSymbol = kSpace | kWord | kNumber;
  size_t start = first.code == ' ' ? at + 1 : at;
  size_t end = skip_other(text, start, kNotSymbol);
  if (end > start) return skip_newlines(text, end, kSlashes);
  return scan_space<true>(text, at);
}

template <int kDigits, ClassMask kWord>
size_t scan_llama3(std::string_view text, size_t at) {
  if (size_t bytes = contraction<true>(text, at); bytes != 0) return at + bytes;
  Seen first = look(text, at);
  if ((first.mask & kWord) != 0) return skip_class(text, at + first.bytes, kWord);
  if ((first.mask & kNumber) == 0 && !is_newline(first.code)) {
    size_t end = skip_class(text, at + first.bytes, kWord);
    if (end > at + first.bytes) return end;
  }
  return scan_rest<kDigits, kWord, false>(text, at, first);
}

constexpr ClassMask kEitherCase = kModifierLetter | kOtherLetter | kMark;
constexpr ClassMask kUpperLike = kUpper | kTitle | kEitherCase;
constexpr ClassMask kLowerLike = kLower | kEitherCase;

// U*L+ at `at`: its end, or `at` where it does not match. U* takes all it can; if no L follows, it
// gives back as far as the last character that is both, which then is the whole of L+.
size_t match_lower_word(std::string_view text, size_t at) {
  size_t end = at, after_either = at;
  for (Seen seen = look(text, at); (seen.mask & kUpperLike) != 0; seen = look(text, end)) {
    end += seen.bytes;
    if ((seen.mask & kEitherCase) != 0) after_either = end;
  }
  size_t after_lower = skip_class(text, end, kLowerLike);
  return after_lower > end ? after_lower : after_either;
}

// U+L* where U*L+ did not match, so that L* is empty.
size_t match_upper_word(std::string_view text, size_t at) {
  return skip_class(text, at, kUpperLike);
}

template <int kDigits, bool kContractions, bool kSlashes>
size_t scan_o200k(std::string_view text, size_t at) {
  Seen first = look(text, at);
  constexpr ClassMask kNotPrefix = kLetter | kNumber;
  bool prefix = (first.mask & kNotPrefix) == 0 && !is_newline(first.code);
  for (auto match : {match_lower_word, match_upper_word}) {
    for (size_t start : {prefix ? at + first.bytes : at, at}) {
      size_t end = match(text, start);
      if (end > start) return kContractions ? end + contraction<true>(text, end) : end;
    }
  }
  return scan_rest<kDigits, kLetter, kSlashes>(text, at, first);
}

constexpr PreTokenizer kGpt2{.scan = scan_gpt2};
constexpr PreTokenizer kGpt2Nfc{.scan = scan_gpt2, .nfc = true};
constexpr PreTokenizer kDigitsGpt2{.scan = scan_gpt2, .digits_apart = true};
constexpr PreTokenizer kDigitsGpt2Nfc{.scan = scan_gpt2, .digits_apart = true, .nfc = true};
constexpr PreTokenizer kLlama3{.scan = scan_llama3<3, kLetter>};
constexpr PreTokenizer kLlama3Whole{.scan = scan_llama3<3, kLetter>, .ignore_merges = true};
constexpr PreTokenizer kQwen2{.scan = scan_llama3<1, kLetter>};
constexpr PreTokenizer kQwen2Nfc{.scan = scan_llama3<1, kLetter>, .nfc = true};
constexpr PreTokenizer kQwen35{.scan = scan_llama3<1, kLetter | kMark>, .nfc = true};
constexpr PreTokenizer kO200k{.scan = scan_o200k<3, true, true>};
constexpr PreTokenizer kTekken{.scan = scan_o200k<1, false, true>, .ignore_merges = true};

constexpr std::pair<std::string_view, const PreTokenizer*> kNames[] = {
    {"chatglm-bpe", &kLlama3},
    {"codeshell", &kDigitsGpt2},
    {"command-r", &kDigitsGpt2Nfc},
    {"dbrx", &kLlama3},
    {"deepseek-r1-qwen", &kQwen2Nfc},
    {"exaone", &kDigitsGpt2},
    {"exaone4", &kGpt2},
    {"falcon-h1", &kLlama3Whole},
    {"falcon3", &kLlama3Whole},
    {"glm4", &kLlama3Whole},
    {"glm5", &kLlama3Whole},
    {"gpt-2", &kGpt2},
    {"gpt-4o", &kO200k},
    {"jais", &kGpt2},
    {"kanana2", &kO200k},
    {"lfm2", &kLlama3Whole},
    {"llama-bpe", &kLlama3Whole},
    {"llama-v3", &kLlama3Whole},
    {"llama3", &kLlama3Whole},
    {"llama4", &kO200k},
    {"megrez", &kQwen2},
    {"mellum", &kGpt2},
    {"minerva-7b", &kDigitsGpt2},
    {"minimax-m2", &kO200k},
    {"modern-bert", &kGpt2Nfc},
    {"mpt", &kGpt2Nfc},
    {"olmo", &kGpt2Nfc},
    {"phi-2", &kGpt2},
    {"pixtral", &kLlama3Whole},
    {"qwen2", &kQwen2Nfc},
    {"qwen35", &kQwen35},
    {"refact", &kDigitsGpt2},
    {"smaug-bpe", &kLlama3},
    {"smollm", &kDigitsGpt2},
    {"stablelm2", &kQwen2},
    {"starcoder", &kDigitsGpt2},
    {"tekken", &kTekken},
    {"trillion", &kGpt2},
};

}  // namespace

size_t PreTokenizer::next(std::string_view text, size_t at, size_t& limit) const {
  if (!digits_apart) return scan(text, at);
  if (at == limit) {  // the start, or a number, or what follows one
    Seen first = look(text, at);
    if ((first.mask & kNumber) != 0) return limit = at + first.bytes;
    limit = skip_other(text, at, kNumber);
  }
  return scan(text.substr(0, limit), at);
}

const PreTokenizer* find_pre_tokenizer(std::string_view name) {
  auto found = std::find_if(std::begin(kNames), std::end(kNames),
                            [&](const auto& entry) { return entry.first == name; });
  return found == std::end(kNames) ? nullptr : found->second;
}

std::vector<std::string> pre_tokenizer_names() {
  std::vector<std::string> names;
  for (const auto& [name, unused] : kNames) names.emplace_back(name);
  return names;
}

}  // namespace chorus::text
