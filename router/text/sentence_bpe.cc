// The reference merges a whole text at once. We cut it before a U+2581 wherever no token holds the
// character before it followed by U+2581: no merge ever crosses such a place, and merges on its
// two sides do not influence each other, so the ids are the same, and words are short.
//
// User-defined tokens (Gemma's runs of spaces and newlines, Llama's added words) were matched
// before; they and the control tokens take no part in merging, nor do byte tokens: "<0x41>" typed
// as text stays text.
#include "router/text/sentence_bpe.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

#include "modelfile/error.h"
#include "router/text/unicode/unicode.h"

namespace chorus::text {
namespace {

using modelfile::FileError;
using modelfile::TokenKind;
using modelfile::Vocabulary;

constexpr std::string_view kSpaceMark = "\u2581";
constexpr char32_t kSpaceMarkCode = 0x2581;

std::string escape_spaces(std::string_view text, bool prefix) {
  std::string escaped;
  escaped.reserve(text.size() + text.size() / 2);
  if (prefix) escaped += kSpaceMark;
  for (char byte : text) {
    if (byte == ' ') {
      escaped += kSpaceMark;
    } else {
      escaped.push_back(byte);
    }
  }
  return escaped;
}

std::string unescape_spaces(std::string_view token) {
  std::string bytes;
  for (size_t at = 0; at < token.size();) {
    bool mark = token.substr(at, kSpaceMark.size()) == kSpaceMark;
    bytes.push_back(mark ? ' ' : token[at]);
    at += mark ? kSpaceMark.size() : 1;
  }
  return bytes;
}

// The byte of "<0x41>", or -1.
int byte_of(std::string_view token) {
  if (token.size() != 6 || token.substr(0, 3) != "<0x" || token[5] != '>') return -1;
  auto digit = [&](size_t at) {
    constexpr std::string_view kDigits = "0123456789ABCDEF";
    size_t value = kDigits.find(token[at]);
    return value == std::string_view::npos ? -1 : static_cast<int>(value);
  };
  int high = digit(3), low = digit(4);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

[[noreturn]] void fail(const std::string& why) {
  throw FileError(FileError::Kind::corrupt, "the vocabulary " + why);
}

}  // namespace

SentenceBpe::SentenceBpe(const Vocabulary& vocabulary)
    : VocabularyTokenizer(vocabulary),
      space_prefix_(vocabulary.add_space_prefix.value_or(true)),
      unknown_(vocabulary.unknown.value_or(-1)),
      tokens_(vocabulary.tokens.size()),
      index_(vocabulary.tokens.size()),
      whole_(vocabulary.tokens.size()) {
  read_tokens(vocabulary);
  rank_by_score(vocabulary);
  find_joining_characters();
  index_whole_pieces();
}

void SentenceBpe::read_tokens(const Vocabulary& vocabulary) {
  byte_ids_.fill(-1);
  for (int32_t id = 0; id < size(); ++id) {
    const std::string& token = vocabulary.tokens[id];
    if (kind(id) == TokenKind::byte) {
      int byte = byte_of(token);
      if (byte < 0) fail(fmt::format("has the byte token \"{}\", which is not <0xNN>", token));
      byte_ids_[byte] = id;
      set_bytes(id, std::string(1, static_cast<char>(byte)));
    } else if (kind(id) == TokenKind::normal && !token.empty()) {
      tokens_[id] = token;
      index_.add(tokens_[id], id);
      set_bytes(id, unescape_spaces(token));
    } else if (kind(id) == TokenKind::user_defined) {
      set_bytes(id, unescape_spaces(token));
    }
  }
  bool all_bytes = std::find(byte_ids_.begin(), byte_ids_.end(), -1) == byte_ids_.end();
  if (!all_bytes && unknown_ < 0) fail("has neither all byte tokens nor an unknown token");
}

void SentenceBpe::rank_by_score(const Vocabulary& vocabulary) {
  if (vocabulary.scores.empty()) fail("has no scores");
  for (float score : vocabulary.scores) {
    if (std::isnan(score)) fail("has a score that is not a number");
  }
  auto score = [&](int32_t id) { return vocabulary.scores[id]; };
  std::vector<int32_t> order(size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return score(a) > score(b); });
  ranks_.resize(order.size());
  uint32_t rank = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    if (i > 0 && score(order[i]) != score(order[i - 1])) ++rank;
    ranks_[order[i]] = rank;
  }
}

void SentenceBpe::find_joining_characters() {
  for (const std::string& token : tokens_) {
    char32_t before = 0;
    for (size_t at = 0; at < token.size();) {
      unicode::Character character = unicode::decode(std::string_view(token).substr(at));
      if (at > 0 && character.code == kSpaceMarkCode) joining_.push_back(before);
      before = character.code;
      at += character.bytes;
    }
  }
  std::sort(joining_.begin(), joining_.end());
  joining_.erase(std::unique(joining_.begin(), joining_.end()), joining_.end());
}

void SentenceBpe::index_whole_pieces() {
  std::vector<Symbol> symbols;
  for (int32_t id = 0; id < size(); ++id) {
    if (tokens_[id].empty()) continue;
    merge_piece(tokens_[id], symbols);
    if (symbols.size() == 1 && symbols[0].id == id) whole_.add(tokens_[id], id);
  }
}

bool SentenceBpe::may_join_space(char32_t code) const {
  return std::binary_search(joining_.begin(), joining_.end(), code);
}

void SentenceBpe::encode_text(std::string_view text, std::vector<int32_t>& ids) const {
  std::string escaped = escape_spaces(text, space_prefix_);
  std::string_view rest = escaped;
  size_t begin = 0;
  char32_t before = 0;
  for (size_t at = 0; at < rest.size();) {
    unicode::Character character = unicode::decode(rest.substr(at));
    if (character.code == kSpaceMarkCode && at > begin && !may_join_space(before)) {
      encode_piece(rest.substr(begin, at - begin), ids);
      begin = at;
    }
    before = character.code;
    at += character.bytes;
  }
  encode_piece(rest.substr(begin), ids);
}

void SentenceBpe::encode_piece(std::string_view piece, std::vector<int32_t>& ids) const {
  if (int32_t id = whole_.find(piece); id >= 0) {
    ids.push_back(id);
    return;
  }
  thread_local std::vector<Symbol> symbols;
  merge_piece(piece, symbols);
  for (const Symbol& symbol : symbols) ids.push_back(symbol.id);
}

void SentenceBpe::merge_piece(std::string_view piece, std::vector<Symbol>& symbols) const {
  symbols.clear();
  for (uint32_t at = 0; at < piece.size();) {
    uint32_t end = at + unicode::decode(piece.substr(at)).bytes;
    int32_t id = index_.find(piece.substr(at, end - at));
    auto lacking = [&](char byte) { return byte_ids_[static_cast<unsigned char>(byte)] < 0; };
    std::string_view character = piece.substr(at, end - at);
    if (id >= 0) {
      symbols.push_back({id, at, end});
    } else if (std::none_of(character.begin(), character.end(), lacking)) {
      for (; at < end; ++at) {
        symbols.push_back({byte_ids_[static_cast<unsigned char>(piece[at])], at, at + 1});
      }
    } else if (!symbols.empty() && symbols.back().id == unknown_) {
      symbols.back().end = end;  // neighbouring unknown characters are one unknown token
    } else {
      symbols.push_back({unknown_, at, end});
    }
    at = end;
  }
  merge_symbols(symbols, [&](const Symbol& left, const Symbol& right) -> Merge {
    if (tokens_[left.id].empty() || tokens_[right.id].empty()) return {};  // bytes and unknowns
    int32_t id = index_.find(piece.substr(left.begin, right.end - left.begin));
    return id < 0 ? Merge{} : Merge{ranks_[id], id};
  });
}

}  // namespace chorus::text
