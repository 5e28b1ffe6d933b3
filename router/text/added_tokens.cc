// A trie with sorted edges. Walking it anew from each possible start costs at most the longest
// token per byte, and nearly nothing where few bytes start a token.
#include "router/text/added_tokens.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "router/text/unicode/unicode.h"

namespace chorus::text {
namespace {

bool is_space(char32_t code) {
  return (unicode::class_of(code) & unicode::kSpace) != 0;
}

// What Rust's regular expressions take for a word: \w with the two joiners.
bool is_word(char32_t code) {
  return unicode::is_word(code) || code == 0x200C || code == 0x200D;
}

// The start of the character that ends at `end`, which is not 0.
size_t previous_character(std::string_view text, size_t end) {
  size_t begin = end - 1;
  while (begin > 0 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) --begin;
  return begin;
}

bool touches_word(std::string_view text, size_t begin, size_t end) {
  if (begin > 0) {
    size_t before = previous_character(text, begin);
    if (is_word(unicode::decode(text.substr(before)).code)) return true;
  }
  return end < text.size() && is_word(unicode::decode(text.substr(end)).code);
}

size_t skip_spaces_left(std::string_view text, size_t begin, size_t floor) {
  while (begin > floor) {
    size_t before = previous_character(text, begin);
    if (before < floor || !is_space(unicode::decode(text.substr(before)).code)) break;
    begin = before;
  }
  return begin;
}

size_t skip_spaces_right(std::string_view text, size_t end) {
  while (end < text.size()) {
    unicode::Character character = unicode::decode(text.substr(end));
    if (!is_space(character.code)) break;
    end += static_cast<size_t>(character.bytes);
  }
  return end;
}

}  // namespace

AddedTokens::AddedTokens(std::vector<Token> tokens) : tokens_(std::move(tokens)) {
  std::stable_sort(tokens_.begin(), tokens_.end(),
                   [](const Token& a, const Token& b) { return a.text < b.text; });
  auto same = [](const Token& a, const Token& b) { return a.text == b.text; };
  tokens_.erase(std::unique(tokens_.begin(), tokens_.end(), same), tokens_.end());
  has_control_ =
      std::any_of(tokens_.begin(), tokens_.end(), [](const Token& token) { return token.control; });
  build();
}

// Level by level, so that a node's edges lie side by side; each node stands for a range of the
// sorted tokens, those that begin with its path.
void AddedTokens::build() {
  struct Open {
    size_t begin, end, depth;
  };
  std::vector<Open> open{{0, tokens_.size(), 0}};
  nodes_.emplace_back();
  for (size_t node = 0; node < open.size(); ++node) {
    auto [begin, end, depth] = open[node];
    if (begin < end && tokens_[begin].text.size() == depth) {
      nodes_[node].token = static_cast<int32_t>(begin);
      ++begin;
    }
    nodes_[node].edges_begin = static_cast<int32_t>(edges_.size());
    while (begin < end) {
      auto byte = static_cast<unsigned char>(tokens_[begin].text[depth]);
      size_t next = begin;
      while (next < end && static_cast<unsigned char>(tokens_[next].text[depth]) == byte) ++next;
      edges_.push_back({byte, static_cast<int32_t>(open.size())});
      open.push_back({begin, next, depth + 1});
      nodes_.emplace_back();
      begin = next;
    }
    nodes_[node].edges_end = static_cast<int32_t>(edges_.size());
  }
  assert(nodes_[0].token < 0);
  for (int32_t i = nodes_[0].edges_begin; i < nodes_[0].edges_end; ++i) {
    starts_[edges_[static_cast<size_t>(i)].byte] = true;
  }
}

int32_t AddedTokens::step(int32_t node, unsigned char byte) const {
  const Node& from = nodes_[static_cast<size_t>(node)];
  auto begin = edges_.begin() + from.edges_begin;
  auto end = edges_.begin() + from.edges_end;
  auto found = std::lower_bound(
      begin, end, byte, [](const Edge& edge, unsigned char wanted) { return edge.byte < wanted; });
  return found != end && found->byte == byte ? found->node : -1;
}

// The first match at or after `from`. `range` is scratch: the first of `outside` that may still
// matter.
AddedTokens::Found AddedTokens::find(std::string_view text, size_t from,
                                     const std::vector<ByteRange>& outside, size_t& range) const {
  for (size_t begin = from; begin < text.size(); ++begin) {
    if (!starts_[static_cast<unsigned char>(text[begin])]) continue;
    while (range < outside.size() && static_cast<size_t>(outside[range].end) <= begin) ++range;
    size_t outside_begin =
        range < outside.size() ? static_cast<size_t>(outside[range].begin) : text.size();
    Found longest;
    int32_t node = 0;
    for (size_t at = begin; at < text.size(); ++at) {
      node = step(node, static_cast<unsigned char>(text[at]));
      if (node < 0) break;
      int32_t index = nodes_[static_cast<size_t>(node)].token;
      if (index < 0) continue;
      const Token& token = tokens_[static_cast<size_t>(index)];
      if (!token.control || at < outside_begin) longest = {begin, at + 1, &token};
    }
    if (longest.token != nullptr) return longest;
  }
  return {};
}

// The search goes on behind a match, also behind one that then does not count.
void AddedTokens::find_all(std::string_view text, const std::vector<ByteRange>& outside,
                           std::vector<Match>& matches) const {
  matches.clear();
  if (tokens_.empty()) return;
  size_t range = 0;
  size_t done = 0;  // where the last match ends, with its white space
  for (Found found = find(text, 0, outside, range); found.token != nullptr;
       found = find(text, found.end, outside, range)) {
    size_t begin = found.begin;
    size_t end = found.end;
    if (found.token->single_word && touches_word(text, begin, end)) continue;
    if (found.token->left_strip) begin = skip_spaces_left(text, begin, done);
    if (found.token->right_strip) end = skip_spaces_right(text, end);
    matches.push_back({begin, end, found.token->id});
    done = end;
  }
}

}  // namespace chorus::text
