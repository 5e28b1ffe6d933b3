// A trie with sorted edges. Walking it anew from each possible start costs at most the longest
// token per byte, and nearly nothing where few bytes start a token.
#include "router/text/added_tokens.h"

#include <algorithm>
#include <cassert>

namespace chorus::text {

AddedTokens::AddedTokens(std::vector<Token> tokens) {
  std::stable_sort(tokens.begin(), tokens.end(),
                   [](const Token& a, const Token& b) { return a.text < b.text; });
  auto same = [](const Token& a, const Token& b) { return a.text == b.text; };
  tokens.erase(std::unique(tokens.begin(), tokens.end(), same), tokens.end());
  build(tokens);
}

// Level by level, so that a node's edges lie side by side; each node stands for a range of the
// sorted tokens, those that begin with its path.
void AddedTokens::build(const std::vector<Token>& tokens) {
  struct Open {
    size_t begin, end, depth;
  };
  std::vector<Open> open{{0, tokens.size(), 0}};
  nodes_.emplace_back();
  for (size_t node = 0; node < open.size(); ++node) {
    auto [begin, end, depth] = open[node];
    if (begin < end && tokens[begin].text.size() == depth) {
      nodes_[node].id = tokens[begin].id;
      nodes_[node].control = tokens[begin].control;
      ++begin;
    }
    nodes_[node].edges_begin = static_cast<int32_t>(edges_.size());
    while (begin < end) {
      auto byte = static_cast<unsigned char>(tokens[begin].text[depth]);
      size_t next = begin;
      while (next < end && static_cast<unsigned char>(tokens[next].text[depth]) == byte) ++next;
      edges_.push_back({byte, static_cast<int32_t>(open.size())});
      open.push_back({begin, next, depth + 1});
      nodes_.emplace_back();
      begin = next;
    }
    nodes_[node].edges_end = static_cast<int32_t>(edges_.size());
  }
  assert(nodes_[0].id < 0);
  for (int32_t i = nodes_[0].edges_begin; i < nodes_[0].edges_end; ++i) {
    starts_[edges_[i].byte] = true;
  }
}

int32_t AddedTokens::step(int32_t node, unsigned char byte) const {
  auto begin = edges_.begin() + nodes_[node].edges_begin;
  auto end = edges_.begin() + nodes_[node].edges_end;
  auto found = std::lower_bound(
      begin, end, byte, [](const Edge& edge, unsigned char wanted) { return edge.byte < wanted; });
  return found != end && found->byte == byte ? found->node : -1;
}

AddedTokens::Match AddedTokens::find(std::string_view text, size_t from,
                                     const std::vector<ByteRange>& outside, size_t& range) const {
  for (size_t begin = from; begin < text.size(); ++begin) {
    if (!starts_[static_cast<unsigned char>(text[begin])]) continue;
    while (range < outside.size() && static_cast<size_t>(outside[range].end) <= begin) ++range;
    size_t outside_begin =
        range < outside.size() ? static_cast<size_t>(outside[range].begin) : text.size();
    Match longest;
    int32_t node = 0;
    for (size_t at = begin; at < text.size(); ++at) {
      node = step(node, static_cast<unsigned char>(text[at]));
      if (node < 0) break;
      bool allowed = !nodes_[node].control || at < outside_begin;
      if (nodes_[node].id >= 0 && allowed) longest = {begin, at + 1, nodes_[node].id};
    }
    if (longest.id >= 0) return longest;
  }
  return {text.size(), text.size(), -1};
}

}  // namespace chorus::text
