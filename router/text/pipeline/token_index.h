// From a token's text to its id: an open-addressing hash table over views, built once. The texts
// belong to the caller and outlive it. Nobody outside chooses the keys, so chains stay short.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

namespace chorus::text {

inline uint64_t mix(uint64_t a, uint64_t b) {
  a = (a ^ b) * 0x9E3779B97F4A7C15u;
  return a ^ (a >> 29);
}

inline uint64_t hash_of(std::string_view text) {
  uint64_t hash = text.size() * 0xD6E8FEB86659FD93u;
  size_t at = 0;
  uint64_t word = 0;
  for (; at + sizeof word <= text.size(); at += sizeof word) {
    std::memcpy(&word, text.data() + at, sizeof word);
    hash = mix(hash, word);
  }
  word = 0;
  for (size_t i = at; i < text.size(); ++i) {
    word = word << 8 | static_cast<unsigned char>(text[i]);
  }
  hash = mix(hash, word);
  return hash ^ (hash >> 32);
}

class TokenIndex {
 public:
  // For at most `count` tokens.
  explicit TokenIndex(size_t count = 0) {
    size_t size = 16;
    while (size < 2 * count) size *= 2;
    entries_.resize(size);
  }

  // The first id given for a text stays.
  void add(std::string_view text, int32_t id) {
    Entry& entry = slot(text, hash_of(text));
    if (entry.id < 0) entry = {text, static_cast<uint32_t>(hash_of(text)), id};
  }

  int32_t find(std::string_view text) const {  // -1 where there is none
    return const_cast<TokenIndex*>(this)->slot(text, hash_of(text)).id;
  }

 private:
  struct Entry {
    std::string_view text;
    uint32_t hash = 0;
    int32_t id = -1;
  };

  Entry& slot(std::string_view text, uint64_t hash) {
    size_t mask = entries_.size() - 1;
    size_t at = hash & mask;
    while (entries_[at].id >= 0 &&
           (entries_[at].hash != static_cast<uint32_t>(hash) || entries_[at].text != text)) {
      at = (at + 1) & mask;
    }
    return entries_[at];
  }

  std::vector<Entry> entries_;
};

}  // namespace chorus::text
