#include "router/text/jinja/case.h"

#include <algorithm>
#include <iterator>

#include "router/text/jinja/case_tables.h"
#include "router/text/jinja/codepoints.h"
#include "router/text/unicode/unicode.h"

namespace chorus::text::jinja {
namespace {

constexpr char32_t kCapitalSigma = 0x3A3;
constexpr char32_t kFinalSigma = 0x3C2;

template <size_t N>
bool in_ranges(char32_t c, const CodeRange (&ranges)[N]) {
  const auto* range = std::upper_bound(
      std::begin(ranges), std::end(ranges), c,
      [](char32_t code, const CodeRange& candidate) { return code < candidate.first; });
  return range != std::begin(ranges) && c <= std::prev(range)->last;
}

template <size_t N>
char32_t mapped(char32_t c, const CaseRun (&runs)[N]) {
  const auto* run =
      std::upper_bound(std::begin(runs), std::end(runs), c,
                       [](char32_t code, const CaseRun& one) { return code < one.first; });
  // Runs of every second letter interleave with others: look at a few before.
  for (int back = 0; back < 4 && run != std::begin(runs); ++back) {
    --run;
    if (c <= run->last && (c - run->first) % run->stride == 0) {
      return static_cast<char32_t>(static_cast<int64_t>(c) + run->delta);
    }
  }
  return c;
}

template <size_t N>
const char32_t* long_form(char32_t c, const CaseText (&texts)[N]) {
  const auto* found =
      std::lower_bound(std::begin(texts), std::end(texts), c,
                       [](const CaseText& one, char32_t code) { return one.code < code; });
  return found != std::end(texts) && found->code == c ? found->text : nullptr;
}

bool has_class(char32_t c, unicode::ClassMask mask) {
  return (unicode::class_of(c) & mask) != 0;
}

// Greek's sigma has another small form at the end of a word.
bool ends_word(const std::u32string& text, size_t at) {
  const bool before = at > 0 && is_cased(text[at - 1]);
  const bool after = at + 1 < text.size() && is_cased(text[at + 1]);
  return before && !after;
}

std::u32string swapped(char32_t c) {
  if (is_upper(c)) return to_lower(c);
  if (is_lower(c)) return to_upper(c);
  return std::u32string(1, c);
}

}  // namespace

bool is_printable(char32_t c) {
  if (c < 0x7F) return c >= 0x20;
  return has_class(
      c, static_cast<unicode::ClassMask>(unicode::kLetter | unicode::kMark | unicode::kNumber |
                                         unicode::kPunctuation | unicode::kSymbol));
}

bool is_alpha(char32_t c) {
  return has_class(c, unicode::kLetter);
}
bool is_decimal(char32_t c) {
  return in_ranges(c, kDecimals);
}
bool is_digit(char32_t c) {
  return in_ranges(c, kDigits);
}
bool is_numeric(char32_t c) {
  return is_digit(c) || has_class(c, unicode::kNumber);
}
bool is_alphanumeric(char32_t c) {
  return is_alpha(c) || is_numeric(c);
}
bool is_upper(char32_t c) {
  return has_class(c, unicode::kUpper) || in_ranges(c, kOtherUpper);
}
bool is_lower(char32_t c) {
  return has_class(c, unicode::kLower) || in_ranges(c, kOtherLower);
}
bool is_title(char32_t c) {
  return has_class(c, unicode::kTitle);
}

std::u32string to_upper(char32_t c) {
  if (const char32_t* text = long_form(c, kUpperTexts)) return text;
  return std::u32string(1, mapped(c, kUpperRuns));
}

std::u32string to_lower(char32_t c) {
  if (const char32_t* text = long_form(c, kLowerTexts)) return text;
  return std::u32string(1, mapped(c, kLowerRuns));
}

std::u32string to_title(char32_t c) {
  if (const char32_t* text = long_form(c, kTitleTexts)) return text;
  const char32_t title = mapped(c, kTitleRuns);
  return title != c || is_title(c) ? std::u32string(1, title) : to_upper(c);
}

MarkedText with_case(const MarkedText& text, Casing casing) {
  const std::u32string source = decode_all(text.bytes);
  MarkedText result;
  result.markup = text.markup;
  auto range = text.outside.begin();
  const auto origin_at = [&](size_t at) {  // asked for rising positions
    const auto byte = static_cast<int64_t>(at);
    while (range != text.outside.end() && range->end <= byte) ++range;
    return range != text.outside.end() && range->begin <= byte ? range->origin : kOwn;
  };
  const bool mixed =
      !text.outside.empty() && !(text.outside[0].begin == 0 &&
                                 text.outside[0].end == static_cast<int64_t>(text.bytes.size()));
  bool after_cased = false;
  size_t byte = 0;
  for (size_t i = 0; i < source.size(); ++i) {
    const char32_t c = source[i];
    std::u32string out;
    const bool lowers = casing == Casing::lower || (casing == Casing::title && after_cased) ||
                        (casing == Casing::capitalize && i > 0);
    if (lowers && c == kCapitalSigma && ends_word(source, i)) {
      out.assign(1, kFinalSigma);
    } else if (lowers) {
      out = to_lower(c);
    } else if (casing == Casing::swap) {
      out = swapped(c);
    } else {
      out = casing == Casing::upper ? to_upper(c) : to_title(c);
    }
    after_cased = is_cased(c);
    const std::string bytes = encode_all(out);
    append(result, marked(bytes, mixed ? origin_at(byte) : kOwn));
    decode(text.bytes, byte);
  }
  if (!mixed) mark_all(result, origin_of(text));
  return result;
}

}  // namespace chorus::text::jinja
