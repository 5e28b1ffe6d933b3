// UTF-8 and normal forms (Unicode Standard Annex 15): decompose fully, sort each run of combining
// marks by class, compose again. Hangul syllables are done by arithmetic (section 3.12).
#include "router/text/unicode/unicode.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <tuple>
#include <vector>

namespace chorus::text::unicode {
namespace {

constexpr char32_t kReplacement = 0xFFFD;
constexpr char32_t kHangulBase = 0xAC00, kLeadBase = 0x1100, kVowelBase = 0x1161,
                   kTrailBase = 0x11A7;
constexpr uint32_t kLeads = 19, kVowels = 21, kTrails = 28;
constexpr uint8_t kDecomposes = 4;  // bit of NfcFact::quick_check

const NfcFact& nfc_fact(char32_t code) {
  uint32_t block = kNfcBlocks[code >> kBlockBits];
  return kNfcFacts[kNfcNumbers[(block << kBlockBits) | (code & ((1u << kBlockBits) - 1))]];
}

// Takes a code point apart fully. The first part replaces it, the others are added.
class Decomposer {
 public:
  Decomposer(bool compatible, std::vector<Changed>& out) : compatible_(compatible), out_(out) {}

  void take(char32_t code) {
    first_ = true;
    if (code < 0x80) return put(code);
    if (compatible_ && has_trait(code, kCompatible)) return take_compatible(code);
    take_canonical(code);
  }

 private:
  void put(char32_t code) {
    out_.push_back({code, first_ ? 0 : 1});
    first_ = false;
  }

  void take_compatible(char32_t code) {
    const Compatible* found = std::lower_bound(
        kCompatibles, kCompatibles + kCompatibleCount, code,
        [](const Compatible& entry, char32_t wanted) { return entry.code < wanted; });
    for (uint32_t i = 0; i < found->count; ++i) put(kCompatiblePool[found->begin + i]);
  }

  void take_canonical(char32_t code) {
    if (code - kHangulBase < kLeads * kVowels * kTrails) {
      uint32_t index = code - kHangulBase;
      put(kLeadBase + index / (kVowels * kTrails));
      put(kVowelBase + index / kTrails % kVowels);
      if (index % kTrails != 0) put(kTrailBase + index % kTrails);
      return;
    }
    const Decomposition* end = kDecompositions + kDecompositionCount;
    const Decomposition* found = std::lower_bound(
        kDecompositions, end, code,
        [](const Decomposition& entry, char32_t wanted) { return entry.code < wanted; });
    if (found == end || found->code != code) return put(code);
    take_canonical(found->first);
    if (found->second != 0) take_canonical(found->second);
  }

  bool compatible_;
  std::vector<Changed>& out_;
  bool first_ = true;
};

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

int combining_class(const Changed& entry) {
  return nfc_fact(entry.code).combining_class;
}

void sort_marks(std::vector<Changed>& text, size_t from) {
  auto begin = text.begin() + static_cast<ptrdiff_t>(from);
  while (begin != text.end()) {
    if (combining_class(*begin) == 0) {
      ++begin;
      continue;
    }
    auto end = std::find_if(begin, text.end(),
                            [](const Changed& entry) { return combining_class(entry) == 0; });
    std::stable_sort(begin, end, [](const Changed& a, const Changed& b) {
      return combining_class(a) < combining_class(b);
    });
    begin = end;
  }
}

// Composes in place what stands from `from` on, which is decomposed and sorted. What is composed
// away is counted to the character that it went into.
void compose(std::vector<Changed>& text, size_t from) {
  constexpr size_t kNone = static_cast<size_t>(-1);
  size_t starter = kNone;
  size_t kept = from;
  int last_class = 0;  // of the last character kept after the starter
  for (size_t at = from; at < text.size(); ++at) {
    Changed entry = text[at];
    int combining = combining_class(entry);
    bool adjacent = starter != kNone && starter + 1 == kept;
    bool blocked = !adjacent && last_class >= combining;
    if (starter != kNone && !blocked) {
      if (char32_t composed = compose_pair(text[starter].code, entry.code); composed != 0) {
        text[starter] = {composed, text[starter].change + entry.change - 1};
        continue;
      }
    }
    if (combining == 0) starter = kept;
    last_class = combining;
    text[kept++] = entry;
  }
  text.resize(kept);
}

// Whether a code point makes the quick check of a form fail.
bool may_change(Form form, const NfcFact& fact, char32_t code) {
  bool composed = form == Form::nfc || form == Form::nfkc;
  if ((form == Form::nfkc || form == Form::nfkd) && has_trait(code, kCompatible)) return true;
  return composed ? (fact.quick_check & 3) != 0 : (fact.quick_check & kDecomposes) != 0;
}

// Lower case without spaces, underscores and hyphens, as property names are compared.
std::string plain_name(std::string_view name) {
  std::string plain;
  for (char byte : name) {
    if (byte == ' ' || byte == '_' || byte == '-') continue;
    plain.push_back(byte >= 'A' && byte <= 'Z' ? static_cast<char>(byte + 32) : byte);
  }
  return plain;
}

struct CategoryName {
  const char* name;
  uint32_t categories;
};

template <class... Members>
constexpr uint32_t of(Members... members) {
  return ((1u << static_cast<int>(members)) | ...);
}

constexpr CategoryName kCategoryNames[] = {
    {"cc", of(Category::cc)},
    {"cf", of(Category::cf)},
    {"cn", of(Category::cn)},
    {"co", of(Category::co)},
    {"cs", of(Category::cs)},
    {"ll", of(Category::ll)},
    {"lm", of(Category::lm)},
    {"lo", of(Category::lo)},
    {"lt", of(Category::lt)},
    {"lu", of(Category::lu)},
    {"mc", of(Category::mc)},
    {"me", of(Category::me)},
    {"mn", of(Category::mn)},
    {"nd", of(Category::nd)},
    {"nl", of(Category::nl)},
    {"no", of(Category::no)},
    {"pc", of(Category::pc)},
    {"pd", of(Category::pd)},
    {"pe", of(Category::pe)},
    {"pf", of(Category::pf)},
    {"pi", of(Category::pi)},
    {"po", of(Category::po)},
    {"ps", of(Category::ps)},
    {"sc", of(Category::sc)},
    {"sk", of(Category::sk)},
    {"sm", of(Category::sm)},
    {"so", of(Category::so)},
    {"zl", of(Category::zl)},
    {"zp", of(Category::zp)},
    {"zs", of(Category::zs)},
    {"c", of(Category::cc, Category::cf, Category::cn, Category::co, Category::cs)},
    {"l", of(Category::ll, Category::lm, Category::lo, Category::lt, Category::lu)},
    {"lc", of(Category::ll, Category::lt, Category::lu)},
    {"m", of(Category::mc, Category::me, Category::mn)},
    {"n", of(Category::nd, Category::nl, Category::no)},
    {"p", of(Category::pc, Category::pd, Category::pe, Category::pf, Category::pi, Category::po,
             Category::ps)},
    {"s", of(Category::sc, Category::sk, Category::sm, Category::so)},
    {"z", of(Category::zl, Category::zp, Category::zs)},
};
// Long names, by the short ones.
constexpr std::pair<const char*, const char*> kLongNames[] = {
    {"casedletter", "lc"},
    {"closepunctuation", "pe"},
    {"combiningmark", "m"},
    {"connectorpunctuation", "pc"},
    {"control", "cc"},
    {"currencysymbol", "sc"},
    {"dashpunctuation", "pd"},
    {"decimalnumber", "nd"},
    {"enclosingmark", "me"},
    {"finalpunctuation", "pf"},
    {"format", "cf"},
    {"initialpunctuation", "pi"},
    {"letter", "l"},
    {"letternumber", "nl"},
    {"lineseparator", "zl"},
    {"lowercaseletter", "ll"},
    {"mark", "m"},
    {"mathsymbol", "sm"},
    {"modifierletter", "lm"},
    {"modifiersymbol", "sk"},
    {"nonspacingmark", "mn"},
    {"number", "n"},
    {"openpunctuation", "ps"},
    {"other", "c"},
    {"otherletter", "lo"},
    {"othernumber", "no"},
    {"otherpunctuation", "po"},
    {"othersymbol", "so"},
    {"paragraphseparator", "zp"},
    {"privateuse", "co"},
    {"punct", "p"},
    {"punctuation", "p"},
    {"separator", "z"},
    {"spaceseparator", "zs"},
    {"spacingmark", "mc"},
    {"surrogate", "cs"},
    {"symbol", "s"},
    {"titlecaseletter", "lt"},
    {"unassigned", "cn"},
    {"uppercaseletter", "lu"},
};

// generate.py's BREAKS.
enum class Break : uint8_t {
  other,
  cr,
  lf,
  control,
  extend,
  zwj,
  regional,
  prepend,
  spacing_mark,
  l,
  v,
  t,
  lv,
  lvt
};

// Whether a cluster goes on from one character to the next (Annex 29, rules GB3 to GB9b).
bool goes_on(Break before, Break after) {
  if (before == Break::cr) return after == Break::lf;
  if (before == Break::lf || before == Break::control) return false;
  if (after == Break::cr || after == Break::lf || after == Break::control) return false;
  if (before == Break::l) {
    if (after == Break::l || after == Break::v || after == Break::lv || after == Break::lvt) {
      return true;
    }
  }
  if ((before == Break::lv || before == Break::v) && (after == Break::v || after == Break::t)) {
    return true;
  }
  if ((before == Break::lvt || before == Break::t) && after == Break::t) return true;
  return after == Break::extend || after == Break::zwj || after == Break::spacing_mark ||
         before == Break::prepend;
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

bool quick_check(Form form, std::string_view text) {
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
    if (may_change(form, fact, character.code)) return false;
    if (fact.combining_class != 0 && fact.combining_class < last_class) return false;
    last_class = fact.combining_class;
    at += character.bytes;
  }
  return true;
}

void to_form(Form form, std::string_view text, std::vector<Changed>& out) {
  size_t from = out.size();
  Decomposer decomposer(form == Form::nfkc || form == Form::nfkd, out);
  for (size_t at = 0; at < text.size();) {
    Character character = decode(text.substr(at));
    decomposer.take(character.code);
    at += character.bytes;
  }
  sort_marks(out, from);
  if (form == Form::nfc || form == Form::nfkc) compose(out, from);
}

std::string in_form(Form form, std::string_view text) {
  std::vector<Changed> codes;
  to_form(form, text, codes);
  std::string out;
  out.reserve(text.size());
  for (const Changed& entry : codes) append_utf8(out, entry.code);
  return out;
}

void lower(char32_t code, std::vector<Changed>& out) {
  if (code < 0x80) {
    out.push_back({code >= 'A' && code <= 'Z' ? code + 32 : code, 0});
    return;
  }
  const Lowering* end = kLowerings + kLoweringCount;
  const Lowering* found =
      std::lower_bound(kLowerings, end, code,
                       [](const Lowering& entry, char32_t wanted) { return entry.code < wanted; });
  if (found == end || found->code != code) {
    out.push_back({code, 0});
    return;
  }
  out.push_back({found->first, 0});
  if (found->second != 0) out.push_back({found->second, 1});
}

uint32_t categories_named(std::string_view name) {
  std::string wanted = plain_name(name);
  for (const auto& [long_name, short_name] : kLongNames) {
    if (wanted == long_name) wanted = short_name;
  }
  for (const auto& [short_name, categories] : kCategoryNames) {
    if (wanted == short_name) return categories;
  }
  return 0;
}

int script_named(std::string_view name) {
  std::string wanted = plain_name(name);
  for (int32_t i = 0; i < kScriptNameCount; ++i) {
    if (wanted == kScriptNames[i].name) return kScriptNames[i].script;
  }
  return -1;
}

bool is_word(char32_t code) {
  constexpr uint32_t kWord =
      of(Category::mc, Category::me, Category::mn, Category::nd, Category::pc);
  const Detail& detail = detail_of(code);
  return (detail.traits & kAlphabetic) != 0 || (kWord >> detail.category & 1) != 0;
}

size_t grapheme_bytes(std::string_view text) {
  Character character = decode(text);
  auto before = static_cast<Break>(detail_of(character.code).grapheme_break);
  size_t end = static_cast<size_t>(character.bytes);
  bool in_flag = before == Break::regional;  // two of them make a flag
  while (end < text.size()) {
    character = decode(text.substr(end));
    auto after = static_cast<Break>(detail_of(character.code).grapheme_break);
    bool flag = in_flag && before == Break::regional && after == Break::regional;
    if (!flag && !goes_on(before, after)) break;
    if (flag) in_flag = false;
    before = after;
    end += static_cast<size_t>(character.bytes);
  }
  return end;
}

}  // namespace chorus::text::unicode
