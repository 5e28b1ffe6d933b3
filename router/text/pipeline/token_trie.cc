#include "router/text/pipeline/token_trie.h"

#include <algorithm>

namespace chorus::text {

TokenTrie::TokenTrie(std::vector<std::pair<std::string_view, int32_t>> tokens) {
  std::stable_sort(tokens.begin(), tokens.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  build(tokens);
}

// Breadth first; each open node stands for a range of the sorted tokens, those that begin with its
// path.
void TokenTrie::build(const std::vector<std::pair<std::string_view, int32_t>>& tokens) {
  struct Open {
    int32_t node;
    size_t begin, end, depth;
  };
  nodes_.resize(512);
  nodes_[0].parent = 0;
  std::vector<Open> open{{0, 0, tokens.size(), 0}};
  std::vector<unsigned char> bytes;
  std::vector<size_t> begins;
  for (size_t i = 0; i < open.size(); ++i) {
    auto [node, begin, end, depth] = open[i];
    for (; begin < end && tokens[begin].first.size() == depth; ++begin) {
      if (depth > 0) nodes_[static_cast<size_t>(node)].id = tokens[begin].second;
    }
    bytes.clear();
    begins.clear();
    for (size_t at = begin; at < end; ++at) {
      auto byte = static_cast<unsigned char>(tokens[at].first[depth]);
      if (!bytes.empty() && bytes.back() == byte) continue;
      bytes.push_back(byte);
      begins.push_back(at);
    }
    begins.push_back(end);
    if (bytes.empty()) continue;
    int32_t base = free_base(bytes);
    nodes_[static_cast<size_t>(node)].base = base;
    for (size_t k = 0; k < bytes.size(); ++k) {
      int32_t place = base + bytes[k];
      nodes_[static_cast<size_t>(place)].parent = node;
      open.push_back({place, begins[k], begins[k + 1], depth + 1});
    }
  }
}

// A base at which the places of all children are free; makes room as needed. A look-up reads at
// most 255 places behind a base, so that many are always there.
int32_t TokenTrie::free_base(const std::vector<unsigned char>& bytes) {
  while (first_free_ < nodes_.size() && nodes_[first_free_].parent != kNone) ++first_free_;
  // Crowded regions are left behind, or the search for a place would take ever longer.
  constexpr int kTriesMax = 64;
  int tries = 0;
  for (size_t place = std::max(first_free_, size_t{bytes[0]} + 1);; ++place) {
    if (place + 256 >= nodes_.size()) nodes_.resize(nodes_.size() * 2);
    if (nodes_[place].parent != kNone) continue;
    size_t base = place - bytes[0];
    auto is_free = [&](unsigned char byte) { return nodes_[base + byte].parent == kNone; };
    if (std::all_of(bytes.begin(), bytes.end(), is_free)) return static_cast<int32_t>(base);
    if (++tries == kTriesMax) first_free_ = place;
  }
}

}  // namespace chorus::text
