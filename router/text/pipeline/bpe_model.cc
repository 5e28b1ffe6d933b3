// SentencePiece-style vocabularies give whole texts as one piece. Such a piece is cut before a
// U+2581 wherever no token holds the character before it followed by U+2581: no merge ever crosses
// such a place, and merges on its two sides do not influence each other, so the ids are the same,
// and words are short.
#include "router/text/pipeline/bpe_model.h"

#include <fmt/format.h>

#include <algorithm>

#include "modelfile/error.h"
#include "router/text/pipeline/normalizer.h"
#include "router/text/unicode/unicode.h"

namespace chorus::text {
namespace {

using modelfile::FileError;

constexpr std::string_view kSpaceMark = "\u2581";
constexpr char32_t kSpaceMarkCode = 0x2581;

// The bytes of a token that spells them; "" where a character stands for no byte.
std::string unspelled(const std::string& token) {
  std::string bytes;
  for (size_t at = 0; at < token.size();) {
    unicode::Character character = unicode::decode(std::string_view(token).substr(at));
    int byte = byte_of_printable(character.code);
    if (byte < 0) return {};
    bytes.push_back(static_cast<char>(byte));
    at += static_cast<size_t>(character.bytes);
  }
  return bytes;
}

std::vector<std::string> all_unspelled(const std::vector<std::string>& tokens) {
  std::vector<std::string> bytes;
  bytes.reserve(tokens.size());
  for (const std::string& token : tokens) bytes.push_back(unspelled(token));
  return bytes;
}

}  // namespace

MergeTable::MergeTable(size_t count) {
  size_t size = 16;
  while (size * 2 < count * 3) size *= 2;
  entries_.resize(size);
  present_.resize(size * 4 / 64);
}

void MergeTable::add(int32_t left, int32_t right, Merge merge) {
  const uint64_t key = key_of(left, right);
  const uint64_t hash = hash_of(key);
  entries_[slot(key, hash)] = {key, merge};
  present_[bit(hash) / 64] |= uint64_t{1} << bit(hash) % 64;
}

BpeModel::BpeModel(const modelfile::TokenizerSpec& spec, const modelfile::BpeModel& bpe, bool bytes)
    : spec_(bpe),
      bytes_(bytes),
      affixes_(!bpe.continuing_subword_prefix.empty() || !bpe.end_of_word_suffix.empty()),
      spelled_(bytes ? all_unspelled(spec.tokens) : std::vector<std::string>()),
      tokens_(bytes ? spelled_ : spec.tokens),
      byte_tokens_(spec.tokens),
      merges_(bpe.merges.size()) {
  index_tokens(tokens_);
  index_merges();
  if (!bytes_) find_joining_characters();
  index_whole_pieces();
}

void BpeModel::index_tokens(const std::vector<std::string>& tokens) {
  index_ = TokenIndex(tokens.size());
  byte_ids_.fill(-1);
  for (size_t id = 0; id < tokens.size(); ++id) {
    if (tokens[id].empty()) continue;
    index_.add(tokens[id], static_cast<int32_t>(id));
    if (tokens[id].size() != 1) continue;
    int32_t& byte_id = byte_ids_[static_cast<unsigned char>(tokens[id][0])];
    if (byte_id < 0) byte_id = static_cast<int32_t>(id);
  }
}

void BpeModel::index_merges() {
  auto size = static_cast<int32_t>(tokens_.size());
  auto exists = [&](int32_t id) { return id >= 0 && id < size; };
  for (const modelfile::BpeMerge& merge : spec_.merges) {
    if (!exists(merge.left) || !exists(merge.right) || !exists(merge.joined)) {
      throw FileError(FileError::Kind::corrupt, "a merge names a token that does not exist");
    }
    merges_.add(merge.left, merge.right, {merge.rank, merge.joined});
  }
}

void BpeModel::index_whole_pieces() {
  if (affixes_ && !spec_.ignore_merges) return;
  whole_ = TokenIndex(tokens_.size());
  std::vector<Symbol> symbols;
  for (size_t i = 0; i < tokens_.size(); ++i) {
    auto id = static_cast<int32_t>(i);
    if (tokens_[i].empty() || index_.find(tokens_[i]) != id) continue;
    if (!spec_.ignore_merges) {
      merge_part(tokens_[i], symbols);
      if (symbols.size() != 1 || symbols[0].id != id) continue;
    }
    whole_.add(tokens_[i], id);
  }
}

// Not where an unknown character could join one beyond the border, or where byte tokens merge.
void BpeModel::find_joining_characters() {
  if (affixes_ || index_.find(kSpaceMark) < 0) return;
  auto is_byte = [&](int32_t id) { return byte_of_token(tokens_[static_cast<size_t>(id)]) >= 0; };
  for (const modelfile::BpeMerge& merge : spec_.merges) {
    if (spec_.byte_fallback && (is_byte(merge.left) || is_byte(merge.right))) return;
    if (spec_.unknown && (merge.left == *spec_.unknown || merge.right == *spec_.unknown)) return;
  }
  cuts_at_marks_ = true;
  for (const std::string& token : tokens_) {
    char32_t before = 0;
    for (size_t at = 0; at < token.size();) {
      unicode::Character character = unicode::decode(std::string_view(token).substr(at));
      if (at > 0 && character.code == kSpaceMarkCode) joining_.push_back(before);
      before = character.code;
      at += static_cast<size_t>(character.bytes);
    }
  }
  std::sort(joining_.begin(), joining_.end());
  joining_.erase(std::unique(joining_.begin(), joining_.end()), joining_.end());
}

// The first place after `from` where the piece may be cut, or its end.
size_t BpeModel::next_border(std::string_view piece, size_t from) const {
  for (size_t at = piece.find(kSpaceMark, from + 1); at != std::string_view::npos;
       at = piece.find(kSpaceMark, at + 1)) {
    size_t before = at - 1;
    while (before > from && (static_cast<unsigned char>(piece[before]) & 0xC0) == 0x80) --before;
    char32_t code = unicode::decode(piece.substr(before)).code;
    if (!std::binary_search(joining_.begin(), joining_.end(), code)) return at;
  }
  return piece.size();
}

void BpeModel::encode(std::string_view piece, std::vector<int32_t>& ids) const {
  if (int32_t id = whole_.find(piece); id >= 0) {
    ids.push_back(id);
    return;
  }
  thread_local std::vector<Symbol> symbols;
  for (size_t begin = 0; begin < piece.size();) {
    size_t end = cuts_at_marks_ ? next_border(piece, begin) : piece.size();
    std::string_view part = piece.substr(begin, end - begin);
    int32_t id = spec_.ignore_merges || !cuts_at_marks_ ? -1 : whole_.find(part);
    if (id >= 0) {
      ids.push_back(id);
    } else {
      merge_part(part, symbols);
      for (const Symbol& symbol : symbols) ids.push_back(symbol.id);
    }
    begin = end;
  }
}

void BpeModel::encode_spans(std::string_view piece, std::vector<TokenSpan>& spans) const {
  if (int32_t id = whole_.find(piece); id >= 0) {
    spans.push_back({id, 0, static_cast<uint32_t>(piece.size())});
    return;
  }
  thread_local std::vector<Symbol> symbols;
  uint32_t base = 0;
  for (size_t begin = 0; begin < piece.size();) {
    size_t end = cuts_at_marks_ ? next_border(piece, begin) : piece.size();
    merge_part(piece.substr(begin, end - begin), symbols);
    for (const Symbol& symbol : symbols) {
      spans.push_back({symbol.id, base + symbol.begin, base + symbol.end});
    }
    // Dropped characters have no place in the reference's count.
    if (!symbols.empty()) base += symbols.back().end;
    begin = end;
  }
}

void BpeModel::merge_part(std::string_view piece, std::vector<Symbol>& symbols) const {
  symbols.clear();
  if (bytes_) {
    read_bytes(piece, symbols);
  } else {
    read_characters(piece, symbols);
  }
  merge_symbols(symbols, [this](const Symbol& left, const Symbol& right) {
    return merges_.find(left.id, right.id);
  });
}

// Some vocabularies (SmolLM2's) lack the tokens of a few rare control bytes. The reference drops
// such bytes before merging. (It also counts offsets as if they had not been there; ours are
// right.)
void BpeModel::read_bytes(std::string_view piece, std::vector<Symbol>& symbols) const {
  for (uint32_t at = 0; at < piece.size(); ++at) {
    int32_t id = byte_ids_[static_cast<unsigned char>(piece[at])];
    if (id >= 0) symbols.push_back({id, at, at + 1});
  }
}

int32_t BpeModel::character_id(std::string_view character, bool first, bool last) const {
  if (!affixes_) {
    if (character.size() == 1) return byte_ids_[static_cast<unsigned char>(character[0])];
    return index_.find(character);
  }
  std::string affixed;
  if (!first) affixed += spec_.continuing_subword_prefix;
  affixed += character;
  if (last) affixed += spec_.end_of_word_suffix;
  return index_.find(affixed);
}

// The reference's order, down to this: an unknown token waits for the next known character, and
// byte tokens that come meanwhile stand before it.
void BpeModel::read_characters(std::string_view piece, std::vector<Symbol>& symbols) const {
  uint32_t end = 0;
  uint32_t unknown_bytes = 0;  // of the waiting unknown token; 0: none waits
  auto add = [&](int32_t id, uint32_t bytes) {
    symbols.push_back({id, end, end + bytes});
    end += bytes;
  };
  auto release = [&] {
    if (unknown_bytes > 0) add(*spec_.unknown, unknown_bytes);
    unknown_bytes = 0;
  };
  for (size_t at = 0; at < piece.size();) {
    auto bytes = static_cast<uint32_t>(unicode::decode(piece.substr(at)).bytes);
    std::string_view character = piece.substr(at, bytes);
    bool first = at == 0;
    at += bytes;
    bool last = at == piece.size();
    if (int32_t id = character_id(character, first, last); id >= 0) {
      release();
      add(id, bytes);
      continue;
    }
    if (spec_.byte_fallback) {
      std::string affixed(character);
      if (!first) affixed = spec_.continuing_subword_prefix + affixed;
      if (last) affixed += spec_.end_of_word_suffix;
      if (byte_tokens_.spell(affixed)) {
        for (char byte : affixed) add(byte_tokens_.of(byte), 1);
        continue;
      }
    }
    if (!spec_.unknown) continue;
    if (!spec_.fuse_unknown) release();
    unknown_bytes += bytes;
  }
  release();
}

}  // namespace chorus::text
