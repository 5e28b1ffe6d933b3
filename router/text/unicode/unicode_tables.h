// The arrays of tables.cc, which generate.py writes. Only unicode.h and unicode.cc read them.
// Two stages: the block number of a code point's upper bits, then the block's entry for its lower
// seven; equal blocks are stored once.
#pragma once

#include <cstdint>

namespace chorus::text::unicode {

inline constexpr int kBlockBits = 7;

extern const uint16_t kClassBlocks[0x110000 >> kBlockBits];
extern const uint8_t kClasses[];  // index into the class masks of unicode.h

// What NFC needs to know of a code point. `quick_check`: 0 may stand in normalised text anywhere,
// 1 depends on what stands before it, 2 never.
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

}  // namespace chorus::text::unicode
