#include "router/text/pipeline/word_models.h"

#include <string_view>
#include <utility>

namespace chorus::text {
namespace {

int64_t characters_in(std::string_view text) {
  int64_t count = 0;
  for (char byte : text) count += (static_cast<unsigned char>(byte) & 0xC0) != 0x80;
  return count;
}

TokenIndex index_of(const std::vector<std::string>& tokens) {
  TokenIndex index(tokens.size());
  for (size_t id = 0; id < tokens.size(); ++id) {
    if (!tokens[id].empty()) index.add(tokens[id], static_cast<int32_t>(id));
  }
  return index;
}

}  // namespace

WordPieceModel::WordPieceModel(const modelfile::TokenizerSpec& spec,
                               const modelfile::WordPieceModel& words)
    : spec_(words), whole_(index_of(spec.tokens)) {
  std::vector<std::pair<std::string_view, int32_t>> first;
  std::vector<std::pair<std::string_view, int32_t>> rest;
  const std::string& prefix = words.continuing_subword_prefix;
  for (size_t i = 0; i < spec.tokens.size(); ++i) {
    std::string_view token = spec.tokens[i];
    auto id = static_cast<int32_t>(i);
    if (!token.empty()) first.emplace_back(token, id);
    if (token.size() > prefix.size() && token.starts_with(prefix)) {
      rest.emplace_back(token.substr(prefix.size()), id);
    }
  }
  first_ = TokenTrie(std::move(first));
  rest_ = TokenTrie(std::move(rest));
}

bool WordPieceModel::find_parts(std::string_view piece, std::vector<TokenSpan>& parts) const {
  parts.clear();
  if (characters_in(piece) > spec_.input_characters_max) return false;
  for (size_t at = 0; at < piece.size();) {
    size_t longest = 0;
    int32_t id = -1;
    const TokenTrie& trie = at == 0 ? first_ : rest_;
    trie.prefixes(piece.substr(at), [&](size_t bytes, int32_t found) {
      longest = bytes;
      id = found;
    });
    if (id < 0) return false;
    parts.push_back({id, static_cast<uint32_t>(at), static_cast<uint32_t>(at + longest)});
    at += longest;
  }
  return true;
}

void WordPieceModel::encode_spans(std::string_view piece, std::vector<TokenSpan>& spans) const {
  thread_local std::vector<TokenSpan> parts;
  if (find_parts(piece, parts)) {
    spans.insert(spans.end(), parts.begin(), parts.end());
  } else if (spec_.unknown) {
    spans.push_back({*spec_.unknown, 0, static_cast<uint32_t>(piece.size())});
  }
}

void WordPieceModel::encode(std::string_view piece, std::vector<int32_t>& ids) const {
  if (static_cast<int64_t>(piece.size()) <= spec_.input_characters_max) {
    if (int32_t id = whole_.find(piece); id >= 0) {
      ids.push_back(id);
      return;
    }
  }
  thread_local std::vector<TokenSpan> parts;
  if (find_parts(piece, parts)) {
    for (const TokenSpan& part : parts) ids.push_back(part.id);
  } else if (spec_.unknown) {
    ids.push_back(*spec_.unknown);
  }
}

WordLevelModel::WordLevelModel(const modelfile::TokenizerSpec& spec,
                               const modelfile::WordLevelModel& words)
    : spec_(words), index_(index_of(spec.tokens)) {}

void WordLevelModel::encode(std::string_view piece, std::vector<int32_t>& ids) const {
  int32_t id = index_.find(piece);
  if (id < 0) id = spec_.unknown.value_or(-1);
  if (id >= 0) ids.push_back(id);
}

void WordLevelModel::encode_spans(std::string_view piece, std::vector<TokenSpan>& spans) const {
  thread_local std::vector<int32_t> ids;
  ids.clear();
  encode(piece, ids);
  for (int32_t id : ids) spans.push_back({id, 0, static_cast<uint32_t>(piece.size())});
}

}  // namespace chorus::text
