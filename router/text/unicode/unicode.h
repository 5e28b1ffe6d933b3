// What the tokenizers ask of Unicode: the class of a code point (Unicode 16), and normal forms and
// lower case as Hugging Face's `tokenizers` has them (see generate.py). Input is taken to be valid
// UTF-8; a stray byte reads as one U+FFFD, so nothing here ever reads past its text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "router/text/unicode/unicode_tables.h"

namespace chorus::text::unicode {

// Bits of a code point's class; each has at most one of the bits below kSpace.
using ClassMask = uint16_t;
inline constexpr ClassMask kUpper = 1 << 0;  // Lu
inline constexpr ClassMask kLower = 1 << 1;  // Ll
inline constexpr ClassMask kTitle = 1 << 2;  // Lt
inline constexpr ClassMask kModifierLetter = 1 << 3;
inline constexpr ClassMask kOtherLetter = 1 << 4;
inline constexpr ClassMask kMark = 1 << 5;    // M
inline constexpr ClassMask kNumber = 1 << 6;  // N
inline constexpr ClassMask kPunctuation = 1 << 7;
inline constexpr ClassMask kSymbol = 1 << 8;
inline constexpr ClassMask kSpace = 1 << 9;  // White_Space
inline constexpr ClassMask kLetter = kUpper | kLower | kTitle | kModifierLetter | kOtherLetter;

// In the order of generate.py's CATEGORIES.
inline constexpr ClassMask kMasks[] = {
    0,     kUpper,  kLower,       kTitle,  kModifierLetter, kOtherLetter,
    kMark, kNumber, kPunctuation, kSymbol, kSpace};

inline ClassMask class_of(char32_t code) {
  uint32_t block = kClassBlocks[code >> kBlockBits];
  return kMasks[kClasses[(block << kBlockBits) | (code & ((1u << kBlockBits) - 1))]];
}

struct Character {
  char32_t code;
  int bytes;  // 1 to 4; what it took in the text
};

// The character at the start of `text`, which is not empty.
Character decode_long(std::string_view text);
inline Character decode(std::string_view text) {
  auto first = static_cast<unsigned char>(text[0]);
  return first < 0x80 ? Character{first, 1} : decode_long(text);
}

void append_utf8(std::string& out, char32_t code);

// A code point of a rewritten text, and what it replaces of the text before: 0 one code point, n >
// 0 nothing (it was added), n < 0 one code point and the -n that follow.
struct Changed {
  char32_t code;
  int32_t change;
};

enum class Form : uint8_t { nfc, nfd, nfkc, nfkd };

// Whether the text certainly is in the form already (the standard's quick check, "maybe" is no).
bool quick_check(Form form, std::string_view text);
// Appends the text in the form.
void to_form(Form form, std::string_view text, std::vector<Changed>& out);
std::string in_form(Form form, std::string_view text);

// Appends a code point's lower case (one code point or two).
void lower(char32_t code, std::vector<Changed>& out);

// Bits of Detail::traits, in the order of generate.py's trait_sets. Those named by a component are
// what that component of `tokenizers` counts to the set, whichever Unicode it goes by.
inline constexpr uint16_t kAlphabetic = 1 << 0;
inline constexpr uint16_t kUppercase = 1 << 1;
inline constexpr uint16_t kLowercase = 1 << 2;
inline constexpr uint16_t kDigitsNumber = 1 << 3;
inline constexpr uint16_t kBertPunctuation = 1 << 4;
inline constexpr uint16_t kStripAccentsMark = 1 << 5;
inline constexpr uint16_t kBertMark = 1 << 6;
inline constexpr uint16_t kBertControl = 1 << 7;
inline constexpr uint16_t kCompatible = 1 << 8;  // NFKD differs from NFD
inline constexpr uint16_t kInUnicode9 = 1 << 9;

inline const Detail& detail_of(char32_t code) {
  uint32_t block = kDetailBlocks[code >> kBlockBits];
  return kDetails[kDetailNumbers[(block << kBlockBits) | (code & ((1u << kBlockBits) - 1))]];
}
inline bool has_trait(char32_t code, uint16_t traits) {
  return (detail_of(code).traits & traits) != 0;
}

// General categories as numbers: Detail::category.
enum class Category : uint8_t {
  cn,
  cc,
  cf,
  co,
  cs,
  ll,
  lm,
  lo,
  lt,
  lu,
  mc,
  me,
  mn,
  nd,
  nl,
  no,
  pc,
  pd,
  pe,
  pf,
  pi,
  po,
  ps,
  sc,
  sk,
  sm,
  so,
  zl,
  zp,
  zs
};
// The categories that a name stands for ("Lu", "letter", "L"; case, spaces and underscores do not
// matter), as bits; 0 where it is none.
uint32_t categories_named(std::string_view name);
// A script's number by its name or alias; -1 where there is none.
int script_named(std::string_view name);

// What a regular expression's \w holds inside a class: letters, marks, decimal digits, connectors.
bool is_word(char32_t code);

// The extended grapheme cluster at the start of `text`, which is not empty: its bytes. Emoji
// sequences and Indic conjuncts, which are longer than any use here looks at, count as several.
size_t grapheme_bytes(std::string_view text);

}  // namespace chorus::text::unicode
