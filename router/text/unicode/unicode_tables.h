// The arrays of tables.cc, which generate.py writes. Only unicode.h and unicode.cc read them.
// Two stages: the block number of a code point's upper bits, then the block's entry for its lower
// seven; equal blocks are stored once.
#pragma once

#include <cstdint>

namespace chorus::text::unicode {

inline constexpr int kBlockBits = 7;

extern const uint16_t kClassBlocks[0x110000 >> kBlockBits];
extern const uint8_t kClasses[];  // index into the class masks of unicode.h

// What the normal forms need to know of a code point. `quick_check`: the lower two bits are about
// NFC: 0 may stand in normalised text anywhere, 1 depends on what stands before it, 2 never; bit 2
// says that NFD takes it apart.
struct NfcFact {
  uint8_t combining_class;
  uint8_t quick_check;
};
extern const uint16_t kNfcBlocks[0x110000 >> kBlockBits];
extern const uint8_t kNfcNumbers[];  // index into kNfcFacts
extern const NfcFact kNfcFacts[];

struct Decomposition {  // one step; second is 0 for a singleton
  uint32_t code, first, second;
};
extern const Decomposition kDecompositions[];  // sorted by code
extern const int32_t kDecompositionCount;

struct Composition {
  uint32_t first, second, code;
};
extern const Composition kCompositions[];  // sorted by (first, second)
extern const int32_t kCompositionCount;

// NFKD of a code point where it is not its NFD: `count` code points of the pool from `begin`.
struct Compatible {
  uint32_t code, begin, count;
};
extern const Compatible kCompatibles[];  // sorted by code
extern const int32_t kCompatibleCount;
extern const uint32_t kCompatiblePool[];

struct Lowering {  // second is 0 where the lower case is one code point
  uint32_t code, first, second;
};
extern const Lowering kLowerings[];  // sorted by code
extern const int32_t kLoweringCount;

// What is asked of a code point less often. `category` and `grapheme_break` are numbers in
// generate.py's lists GENERAL and BREAKS, `traits` are bits of unicode.h.
struct Detail {
  uint8_t category, script, grapheme_break;
  uint16_t traits;
};
extern const uint16_t kDetailBlocks[0x110000 >> kBlockBits];
extern const uint16_t kDetailNumbers[];  // index into kDetails
extern const Detail kDetails[];

struct ScriptName {
  const char* name;  // lower case, without underscores; a script has one or more
  uint8_t script;
};
extern const ScriptName kScriptNames[];  // sorted by name
extern const int32_t kScriptNameCount;

}  // namespace chorus::text::unicode
