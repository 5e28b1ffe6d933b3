// Most pieces of most text are one token, so a piece is looked up whole first. That is only right
// for tokens that merging their own bytes arrives at, which is tried for each token at load;
// vocabularies that say "ignore merges" take any.
//
// Some vocabularies (SmolLM2's) lack the tokens of a few rare control bytes. The reference drops
// such bytes before merging, and so do we.
#include "router/text/byte_bpe.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "modelfile/error.h"
#include "router/text/unicode/unicode.h"

namespace chorus::text {
namespace {

using modelfile::FileError;
using modelfile::TokenKind;
using modelfile::Vocabulary;

constexpr int kNoByte = -1;

// GPT-2 writes bytes as printable characters: those that are printable in Latin-1 as themselves,
// the other 68 as U+0100 and up, in order.
std::array<int, 0x144> printable_to_byte() {
  std::array<int, 0x144> bytes;
  bytes.fill(kNoByte);
  int shifted = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte != 0xAD);
    bytes[printable ? byte : shifted++] = byte;
  }
  return bytes;
}

// A token's bytes; its text as it is where a character stands for no byte.
std::string token_bytes(const std::string& token) {
  static const std::array<int, 0x144> kBytes = printable_to_byte();
  std::string bytes;
  for (size_t at = 0; at < token.size();) {
    unicode::Character character = unicode::decode(std::string_view(token).substr(at));
    int byte = character.code < kBytes.size() ? kBytes[character.code] : kNoByte;
    if (byte == kNoByte) return token;
    bytes.push_back(static_cast<char>(byte));
    at += character.bytes;
  }
  return bytes;
}

PreTokenizer pre_tokenizer_of(const Vocabulary& vocabulary) {
  if (const PreTokenizer* found = find_pre_tokenizer(vocabulary.pre)) return *found;
  std::string known;
  for (const std::string& name : pre_tokenizer_names()) known += (known.empty() ? "" : ", ") + name;
  throw FileError(FileError::Kind::unsupported,
                  "the vocabulary's pre-tokenizer (tokenizer.ggml.pre) is \"" + vocabulary.pre +
                      "\"; known are " + known);
}

}  // namespace

MergeTable::MergeTable(size_t count) {
  size_t size = 16;
  while (size * 2 < count * 3) size *= 2;
  entries_.resize(size);
}

void MergeTable::add(int32_t left, int32_t right, Merge merge) {
  Entry& entry = entries_[slot(key_of(left, right))];
  if (entry.key == kEmpty) entry = {key_of(left, right), merge};
}

ByteBpe::ByteBpe(const Vocabulary& vocabulary)
    : VocabularyTokenizer(vocabulary),
      pre_(pre_tokenizer_of(vocabulary)),
      merges_(vocabulary.merges.size()) {
  read_tokens(vocabulary);
  read_merges(vocabulary);
  index_whole_pieces();
}

void ByteBpe::read_tokens(const Vocabulary& vocabulary) {
  byte_ids_.fill(-1);
  for (int32_t id = 0; id < size(); ++id) {
    if (kind(id) != TokenKind::normal && kind(id) != TokenKind::byte) continue;
    set_bytes(id, token_bytes(vocabulary.tokens[id]));
    if (bytes(id).size() != 1) continue;
    int32_t& byte_id = byte_ids_[static_cast<unsigned char>(bytes(id)[0])];
    if (byte_id < 0) byte_id = id;
  }
}

void ByteBpe::read_merges(const Vocabulary& vocabulary) {
  TokenIndex index(vocabulary.tokens.size());
  for (int32_t id = 0; id < size(); ++id) index.add(vocabulary.tokens[id], id);
  for (size_t rank = 0; rank < vocabulary.merges.size(); ++rank) {
    std::string_view merge = vocabulary.merges[rank];
    size_t space = merge.find(' ', 1);
    auto fail = [&](const char* why) {
      throw FileError(FileError::Kind::corrupt,
                      fmt::format("the vocabulary's merge {}, \"{}\", {}", rank, merge, why));
    };
    if (space == std::string_view::npos) fail("is not two tokens with a space between");
    std::string joined(merge.substr(0, space));
    joined += merge.substr(space + 1);
    int32_t left = index.find(merge.substr(0, space));
    int32_t right = index.find(merge.substr(space + 1));
    int32_t id = index.find(joined);
    if (left < 0 || right < 0 || id < 0) fail("names a token that the vocabulary lacks");
    merges_.add(left, right, {static_cast<uint32_t>(rank), id});
  }
}

void ByteBpe::index_whole_pieces() {
  whole_ = TokenIndex(size());
  std::vector<Symbol> symbols;
  for (int32_t id = 0; id < size(); ++id) {
    if (kind(id) != TokenKind::normal || bytes(id).empty()) continue;
    if (!pre_.ignore_merges) {
      merge_piece(bytes(id), symbols);
      if (symbols.size() != 1 || symbols[0].id != id) continue;
    }
    whole_.add(bytes(id), id);
  }
}

void ByteBpe::encode_text(std::string_view text, std::vector<int32_t>& ids) const {
  std::string normalised;
  if (pre_.nfc && !unicode::quick_check_nfc(text)) {
    normalised = unicode::to_nfc(text);
    text = normalised;
  }
  size_t limit = 0;
  for (size_t at = 0; at < text.size();) {
    size_t end = pre_.next(text, at, limit);
    encode_piece(text.substr(at, end - at), ids);
    at = end;
  }
}

void ByteBpe::encode_piece(std::string_view piece, std::vector<int32_t>& ids) const {
  if (int32_t id = whole_.find(piece); id >= 0) {
    ids.push_back(id);
    return;
  }
  thread_local std::vector<Symbol> symbols;
  merge_piece(piece, symbols);
  for (const Symbol& symbol : symbols) ids.push_back(symbol.id);
}

void ByteBpe::merge_piece(std::string_view piece, std::vector<Symbol>& symbols) const {
  symbols.clear();
  for (uint32_t at = 0; at < piece.size(); ++at) {
    int32_t id = byte_ids_[static_cast<unsigned char>(piece[at])];
    if (id >= 0) symbols.push_back({id, at, at + 1});
  }
  merge_symbols(symbols, [this](const Symbol& left, const Symbol& right) {
    return merges_.find(left.id, right.id);
  });
}

}  // namespace chorus::text
