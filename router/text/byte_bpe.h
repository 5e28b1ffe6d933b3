// Byte-level BPE (GGUF "gpt2"): every byte is a symbol, merges are ranked by the file's order, and
// a pre-tokenizer says which bytes may ever meet.
#pragma once

#include <array>
#include <vector>

#include "router/text/merge.h"
#include "router/text/pretokenizer.h"
#include "router/text/token_index.h"
#include "router/text/vocabulary_tokenizer.h"

namespace chorus::text {

// (left id, right id) -> Merge; open addressing, built once.
class MergeTable {
 public:
  explicit MergeTable(size_t count);
  void add(int32_t left, int32_t right, Merge merge);  // the first one given for a pair stays
  Merge find(int32_t left, int32_t right) const {
    const Entry& entry = entries_[slot(key_of(left, right))];
    return entry.merge;
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
  size_t slot(uint64_t key) const {
    size_t mask = entries_.size() - 1;
    uint64_t hash = mix(key, key >> 32);
    size_t at = (hash ^ hash >> 32) & mask;
    while (entries_[at].key != key && entries_[at].key != kEmpty) at = (at + 1) & mask;
    return at;
  }

  std::vector<Entry> entries_;
};

class ByteBpe final : public VocabularyTokenizer {
 public:
  // Throws FileError: unsupported where the pre-tokenizer is not known, corrupt where a merge
  // names a token that does not exist.
  explicit ByteBpe(const modelfile::Vocabulary& vocabulary);
  bool strips_first_space() const override { return false; }

 private:
  void encode_text(std::string_view text, std::vector<int32_t>& ids) const override;
  void encode_piece(std::string_view piece, std::vector<int32_t>& ids) const;
  void merge_piece(std::string_view piece, std::vector<Symbol>& symbols) const;
  void read_tokens(const modelfile::Vocabulary& vocabulary);
  void read_merges(const modelfile::Vocabulary& vocabulary);
  void index_whole_pieces();

  PreTokenizer pre_;
  std::array<int32_t, 256> byte_ids_;  // -1: the vocabulary lacks the byte; it is dropped
  MergeTable merges_;
  TokenIndex whole_;  // pieces that are one token, known without merging
};

}  // namespace chorus::text
