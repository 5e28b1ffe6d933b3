#include "modelfile/merge_scores.h"

#include <cstdint>
#include <limits>
#include <string_view>
#include <unordered_map>

namespace chorus::modelfile {
namespace {

// Control tokens, bytes and gaps never come from joining text.
bool can_be_joined(TokenKind kind) {
  return kind == TokenKind::normal || kind == TokenKind::user_defined;
}

bool begins_character(char c) {
  return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
}

using TokenIds = std::unordered_map<std::string_view, size_t>;

// How many of the ways to cut a token in two leave two tokens.
int64_t ways_to_join(std::string_view token, const TokenIds& ids) {
  int64_t ways = 0;
  for (size_t cut = 1; cut < token.size(); ++cut) {
    if (!begins_character(token[cut])) continue;
    if (ids.contains(token.substr(0, cut)) && ids.contains(token.substr(cut))) ++ways;
  }
  return ways;
}

}  // namespace

std::optional<std::vector<float>> scores_of(const std::vector<Merge>& merges,
                                            const std::vector<std::string>& tokens,
                                            const std::vector<TokenKind>& kinds) {
  constexpr int64_t kExactFloats = 1 << 24;  // each rank must be a float of its own
  if (static_cast<int64_t>(merges.size()) >= kExactFloats) return std::nullopt;
  TokenIds ids;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (can_be_joined(kinds[i])) ids.emplace(tokens[i], i);
  }
  std::vector<int64_t> listed(tokens.size(), 0);
  const float lowest = -static_cast<float>(merges.size()) - 1;
  std::vector<float> scores(tokens.size(), lowest);
  size_t before = std::numeric_limits<size_t>::max();
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const auto& [left, right] = merges[rank];
    const auto joined = ids.find(left + right);
    if (joined == ids.end() || !ids.contains(left) || !ids.contains(right)) return std::nullopt;
    const size_t id = joined->second;
    if (listed[id] > 0 && id != before) return std::nullopt;  // its merges do not stand together
    if (listed[id]++ == 0) scores[id] = -static_cast<float>(rank);
    before = id;
  }
  for (const auto& [token, id] : ids) {
    if (listed[id] != ways_to_join(token, ids)) return std::nullopt;
  }
  return scores;
}

}  // namespace chorus::modelfile
