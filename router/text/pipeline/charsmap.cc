#include "router/text/pipeline/charsmap.h"

#include <cstring>

#include "modelfile/error.h"
#include "router/text/unicode/unicode.h"

namespace chorus::text {
namespace {

using modelfile::FileError;

// A unit of the array: the label of the edge that leads to it, whether a leaf hangs on it, and
// where its children are.
bool has_leaf(uint32_t unit) {
  return (unit >> 8 & 1) != 0;
}
uint32_t label(uint32_t unit) {
  return unit & (1u << 31 | 0xFF);
}
uint32_t offset(uint32_t unit) {
  return (unit >> 10) << ((unit & 1u << 9) >> 6);
}
uint32_t value(uint32_t unit) {
  return unit & ((1u << 31) - 1);
}

bool is_utf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    unicode::Character character = unicode::decode(text.substr(at));
    if (character.code == 0xFFFD && character.bytes != 3) return false;
    at += static_cast<size_t>(character.bytes);
  }
  return true;
}

}  // namespace

Charsmap::Charsmap(const std::string& table, const std::string& source) {
  if (table.empty()) return;
  auto fail = [&](const char* why) {
    throw FileError(FileError::Kind::corrupt,
                    source + ": the normalizer's precompiled_charsmap " + why);
  };
  uint32_t trie_bytes = 0;
  if (table.size() < sizeof trie_bytes) fail("is cut off");
  std::memcpy(&trie_bytes, table.data(), sizeof trie_bytes);
  if (trie_bytes > table.size() - sizeof trie_bytes) fail("is cut off");
  units_.resize(trie_bytes / sizeof(uint32_t));
  if (!units_.empty()) {
    std::memcpy(units_.data(), table.data() + sizeof trie_bytes, units_.size() * sizeof(uint32_t));
  }
  texts_ = table.substr(sizeof trie_bytes + units_.size() * sizeof(uint32_t));
  if (!is_utf8(texts_)) fail("holds a text that is no UTF-8");
}

std::optional<std::string_view> Charsmap::replacement(std::string_view text) const {
  if (units_.empty()) return std::nullopt;
  uint32_t node = offset(units_[0]);
  for (char byte : text) {
    auto edge = static_cast<unsigned char>(byte);
    if (edge == 0) return std::nullopt;
    node ^= edge;
    if (node >= units_.size() || label(units_[node]) != edge) return std::nullopt;
    uint32_t unit = units_[node];
    node ^= offset(unit);
    if (!has_leaf(unit)) continue;
    if (node >= units_.size()) return std::nullopt;
    size_t begin = value(units_[node]);
    if (begin > texts_.size()) return std::nullopt;
    std::string_view rest = std::string_view(texts_).substr(begin);
    // A damaged table may point into the middle of a character.
    if (!rest.empty() && (static_cast<unsigned char>(rest[0]) & 0xC0) == 0x80) return std::nullopt;
    return rest.substr(0, rest.find('\0'));
  }
  return std::nullopt;
}

}  // namespace chorus::text
