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
//   deepseek three patterns one after another, see kKnown
// Alternatives are tried in order, so each scanner is that order written out; where a regex would
// back off, the comment says what that comes to.
#include "router/text/pipeline/scanners.h"

#include <algorithm>
#include <array>
#include <string>
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

// \p{N}{1,3} alone.
size_t scan_three_digits(std::string_view text, size_t at) {
  size_t end = at;
  for (int i = 0; i < 3; ++i) {
    Seen seen = look(text, end);
    if ((seen.mask & kNumber) == 0) break;
    end += static_cast<size_t>(seen.bytes);
  }
  return end;
}

bool is_ascii_letter(char byte) {
  return (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z');
}

// DeepSeek's third pattern; numbers and a few others match nothing in it.
size_t scan_deepseek(std::string_view text, size_t at) {
  constexpr ClassMask kWord = kLetter | kMark;
  constexpr ClassMask kSign = kPunctuation | kSymbol;
  Seen first = look(text, at);
  if (first.code < 0x80 && (first.mask & kSign) != 0) {
    size_t end = at + 1;
    while (end < text.size() && is_ascii_letter(text[end])) ++end;
    if (end > at + 1) return end;
  }
  bool prefix = (first.mask & (kLetter | kSign)) == 0 && !is_newline(first.code);
  if (prefix) {
    size_t end = skip_class(text, at + static_cast<size_t>(first.bytes), kWord);
    if (end > at + static_cast<size_t>(first.bytes)) return end;
  }
  if ((first.mask & kWord) != 0) return skip_class(text, at, kWord);
  size_t start = first.code == ' ' ? at + 1 : at;
  size_t end = skip_class(text, start, kSign);
  if (end > start) return skip_newlines(text, end);
  if ((first.mask & kSpace) != 0) return scan_space<true>(text, at);
  return at;
}

// [\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+, the characters themselves in the file.
size_t scan_cjk(std::string_view text, size_t at) {
  while (true) {
    Seen seen = look(text, at);
    bool inside = (seen.code >= 0x4E00 && seen.code <= 0x9FA5) ||
                  (seen.code >= 0x3040 && seen.code <= 0x30FF);
    if (!inside) return at;
    at += static_cast<size_t>(seen.bytes);
  }
}

constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// As the models' files spell them.
constexpr std::pair<std::string_view, Scanner> kKnown[] = {
    {kGpt2Pattern, scan_gpt2},
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     scan_llama3<3, kLetter>},
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     scan_llama3<1, kLetter>},
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     scan_llama3<1, kLetter | kMark>},
    {R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     scan_o200k<3, true, true>},
    {R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     scan_o200k<1, false, true>},
    {R"(\p{N}{1,3})", scan_three_digits},
    {R"([一-龥぀-ゟ゠-ヿ]+)", scan_cjk},
    {R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     scan_deepseek},
};

}  // namespace

// Some files have the line ends themselves in their patterns instead of \\r and \\n.
Scanner find_scanner(std::string_view pattern) {
  std::string escaped;
  for (char byte : pattern) {
    if (byte == '\r' || byte == '\n') {
      escaped += byte == '\r' ? "\\r" : "\\n";
    } else {
      escaped.push_back(byte);
    }
  }
  const auto* found = std::find_if(std::begin(kKnown), std::end(kKnown),
                                   [&](const auto& entry) { return entry.first == escaped; });
  return found == std::end(kKnown) ? nullptr : found->second;
}

std::string_view gpt2_pattern() {
  return kGpt2Pattern;
}

}  // namespace chorus::text
