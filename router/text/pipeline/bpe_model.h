// Byte-pair encoding over the characters of a piece, or over its bytes. Most pieces of most text
// are one token, so a piece is looked up whole first. That is only right for tokens that merging
// their own text arrives at, which is tried for each token at load; vocabularies that say "ignore
// merges" take any.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "router/text/pipeline/byte_tokens.h"
#include "router/text/pipeline/merge.h"
#include "router/text/pipeline/token_index.h"
#include "router/text/pipeline/token_model.h"

namespace chorus::text {

// (left id, right id) -> Merge; open addressing, built once.
class MergeTable {
 public:
  explicit MergeTable(size_t count);
  void add(int32_t left, int32_t right, Merge merge);  // the last one given for a pair counts
  Merge find(int32_t left, int32_t right) const {
    const uint64_t key = key_of(left, right);
    const uint64_t hash = hash_of(key);
    return may_hold(hash) ? entries_[slot(key, hash)].merge : Merge{};
  }

 private:
  static constexpr uint64_t kEmpty = ~uint64_t{0};
  struct Entry {
    uint64_t key = kEmpty;
    Merge merge;
  };
  static uint64_t key_of(int32_t left, int32_t right) {
    return static_cast<uint64_t>(left) << 32 | static_cast<uint32_t>(right);
  }
  static uint64_t hash_of(uint64_t key) {
    const uint64_t hash = mix(key, key >> 32);
    return hash ^ hash >> 32;
  }
  size_t slot(uint64_t key, uint64_t hash) const {
    const size_t mask = entries_.size() - 1;
    size_t at = hash & mask;
    while (entries_[at].key != key && entries_[at].key != kEmpty) at = (at + 1) & mask;
    return at;
  }
  // Most pairs that are asked for do not merge. Four bits per entry tell most of those, from a
  // thirtieth of the table's memory, which stays in the cache.
  size_t bit(uint64_t hash) const { return (hash >> 3) & (entries_.size() * 4 - 1); }
  bool may_hold(uint64_t hash) const { return present_[bit(hash) / 64] >> bit(hash) % 64 & 1; }

  std::vector<Entry> entries_;
  std::vector<uint64_t> present_;  // a bit for each hash that was added
};

class BpeModel final : public TokenModel {
 public:
  BpeModel(const modelfile::TokenizerSpec& spec, const modelfile::BpeModel& bpe, bool bytes);
  void encode(std::string_view piece, std::vector<int32_t>& ids) const override;
  void encode_spans(std::string_view piece, std::vector<TokenSpan>& spans) const override;

 private:
  void index_tokens(const std::vector<std::string>& tokens);
  void index_merges();
  void index_whole_pieces();
  void find_joining_characters();
  size_t next_border(std::string_view piece, size_t from) const;
  void merge_part(std::string_view piece, std::vector<Symbol>& symbols) const;
  void read_bytes(std::string_view piece, std::vector<Symbol>& symbols) const;
  void read_characters(std::string_view piece, std::vector<Symbol>& symbols) const;
  int32_t character_id(std::string_view character, bool first, bool last) const;

  const modelfile::BpeModel& spec_;
  bool bytes_;
  bool affixes_;                      // a continuing prefix or an ending suffix
  std::vector<std::string> spelled_;  // with `bytes_`: the tokens' own bytes; "" where it has none
  const std::vector<std::string>& tokens_;  // as they match
  ByteTokens byte_tokens_;
  std::array<int32_t, 256> byte_ids_;  // of single bytes, or of ASCII characters; -1: none
  TokenIndex index_;                   // of all tokens
  TokenIndex whole_;                   // those that merging their own text arrives at
  MergeTable merges_;
  bool cuts_at_marks_ = false;
  std::vector<char32_t> joining_;  // sorted: characters that some token has before U+2581
};

}  // namespace chorus::text
