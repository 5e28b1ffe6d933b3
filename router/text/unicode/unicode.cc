// UTF-8 and canonical composition (Unicode Standard Annex 15): decompose fully, sort each run of
// combining marks by class, compose again. Hangul syllables are done by arithmetic (section 3.12).
#include "router/text/unicode/unicode.h"

#include <algorithm>
#include <cstring>
#include <tuple>
#include <vector>

namespace chorus::text::unicode {
namespace {

constexpr char32_t kReplacement = 0xFFFD;
constexpr char32_t kHangulBase = 0xAC00, kLeadBase = 0x1100, kVowelBase = 0x1161,
                   kTrailBase = 0x11A7;
constexpr uint32_t kLeads = 19, kVowels = 21, kTrails = 28;

const NfcFact& nfc_fact(char32_t code) {
  uint32_t block = kNfcBlocks[code >> kBlockBits];
  return kNfcFacts[kNfcNumbers[(block << kBlockBits) | (code & ((1u << kBlockBits) - 1))]];
}

void decompose(char32_t code, std::u32string& out) {
  if (code - kHangulBase < kLeads * kVowels * kTrails) {
    uint32_t index = code - kHangulBase;
    out.push_back(kLeadBase + index / (kVowels * kTrails));
    out.push_back(kVowelBase + index / kTrails % kVowels);
    if (index % kTrails != 0) out.push_back(kTrailBase + index % kTrails);
    return;
  }
  const Decomposition* end = kDecompositions + kDecompositionCount;
  const Decomposition* found = std::lower_bound(
      kDecompositions, end, code,
      [](const Decomposition& entry, char32_t wanted) { return entry.code < wanted; });
  if (found == end || found->code != code) {
    out.push_back(code);
    return;
  }
  decompose(found->first, out);
  if (found->second != 0) decompose(found->second, out);
}

// 0 where the two do not compose.
char32_t compose_pair(char32_t first, char32_t second) {
  if (first - kLeadBase < kLeads && second - kVowelBase < kVowels) {
    return kHangulBase + ((first - kLeadBase) * kVowels + (second - kVowelBase)) * kTrails;
  }
  if (first - kHangulBase < kLeads * kVowels * kTrails && (first - kHangulBase) % kTrails == 0 &&
      second - (kTrailBase + 1) < kTrails - 1) {
    return first + (second - kTrailBase);
  }
  auto wanted = std::tuple<uint32_t, uint32_t>(first, second);
  const Composition* end = kCompositions + kCompositionCount;
  const Composition* found =
      std::lower_bound(kCompositions, end, wanted, [](const Composition& entry, const auto& pair) {
        return std::tuple<uint32_t, uint32_t>(entry.first, entry.second) < pair;
      });
  bool hit = found != end && found->first == first && found->second == second;
  return hit ? found->code : 0;
}

void sort_marks(std::u32string& text) {
  auto class_less = [](char32_t a, char32_t b) {
    return nfc_fact(a).combining_class < nfc_fact(b).combining_class;
  };
  auto begin = text.begin();
  while (begin != text.end()) {
    if (nfc_fact(*begin).combining_class == 0) {
      ++begin;
      continue;
    }
    auto end = std::find_if(begin, text.end(),
                            [](char32_t code) { return nfc_fact(code).combining_class == 0; });
    std::stable_sort(begin, end, class_less);
    begin = end;
  }
}

// Composes in place; `text` is decomposed and sorted.
void compose(std::u32string& text) {
  constexpr size_t kNone = static_cast<size_t>(-1);
  size_t starter = kNone;
  size_t kept = 0;
  int last_class = 0;  // of the last character kept after the starter
  for (char32_t code : text) {
    int combining = nfc_fact(code).combining_class;
    bool adjacent = starter != kNone && starter + 1 == kept;
    bool blocked = !adjacent && last_class >= combining;
    if (starter != kNone && !blocked) {
      if (char32_t composed = compose_pair(text[starter], code); composed != 0) {
        text[starter] = composed;
        continue;
      }
    }
    if (combining == 0) starter = kept;
    last_class = combining;
    text[kept++] = code;
  }
  text.resize(kept);
}

}  // namespace

Character decode_long(std::string_view text) {
  auto byte = [&](size_t index) { return static_cast<unsigned char>(text[index]); };
  unsigned first = byte(0);
  int bytes = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : first >= 0xC2 ? 2 : 1;
  if (bytes == 1) return {first < 0x80 ? first : kReplacement, 1};
  if (text.size() < static_cast<size_t>(bytes)) return {kReplacement, 1};
  char32_t code = first & (0xFFu >> (bytes + 1));
  for (int i = 1; i < bytes; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return {kReplacement, 1};
    code = code << 6 | (byte(i) & 0x3F);
  }
  bool overlong = (bytes == 3 && code < 0x800) || (bytes == 4 && code < 0x10000);
  if (overlong || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) return {kReplacement, 1};
  return {code, bytes};
}

void append_utf8(std::string& out, char32_t code) {
  auto put = [&](uint32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0 | code >> 6);
    put(0x80 | (code & 0x3F));
  } else {
    if (code < 0x10000) {
      put(0xE0 | code >> 12);
    } else {
      put(0xF0 | code >> 18);
      put(0x80 | (code >> 12 & 0x3F));
    }
    put(0x80 | (code >> 6 & 0x3F));
    put(0x80 | (code & 0x3F));
  }
}

bool quick_check_nfc(std::string_view text) {
  int last_class = 0;
  size_t at = 0;
  while (at < text.size()) {
    uint64_t word;
    if (at + sizeof word <= text.size()) {
      std::memcpy(&word, text.data() + at, sizeof word);
      if ((word & 0x8080808080808080u) == 0) {
        at += sizeof word;
        last_class = 0;
        continue;
      }
    }
    Character character = decode(text.substr(at));
    const NfcFact& fact = nfc_fact(character.code);
    if (fact.quick_check != 0) return false;
    if (fact.combining_class != 0 && fact.combining_class < last_class) return false;
    last_class = fact.combining_class;
    at += character.bytes;
  }
  return true;
}

std::string to_nfc(std::string_view text) {
  std::u32string codes;
  codes.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    Character character = decode(text.substr(at));
    decompose(character.code, codes);
    at += character.bytes;
  }
  sort_marks(codes);
  compose(codes);
  std::string out;
  out.reserve(text.size());
  for (char32_t code : codes) append_utf8(out, code);
  return out;
}

}  // namespace chorus::text::unicode
