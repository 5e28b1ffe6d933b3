// What the tokenizers ask of Unicode: the class of a code point (Unicode 16), and NFC as Hugging
// Face's `tokenizers` does it (data of Unicode 9, see generate.py). Input is taken to be valid
// UTF-8; a stray byte reads as one U+FFFD, so nothing here ever reads past its text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

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

// Whether the text certainly is in NFC already (the standard's quick check, "maybe" counts as no).
bool quick_check_nfc(std::string_view text);
std::string to_nfc(std::string_view text);

}  // namespace chorus::text::unicode
