// Finds the tokens that a text begins with. A trie over bytes in two arrays: a node's children lie
// at its base plus their byte, and each place remembers whose child it holds.
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace chorus::text {

class TokenTrie {
 public:
  static constexpr int32_t kNone = -1;

  TokenTrie() = default;
  // Of equal texts the last one given counts; none is empty.
  explicit TokenTrie(std::vector<std::pair<std::string_view, int32_t>> tokens);

  // Calls `found(bytes, id)` for each token that `text` begins with, shortest first.
  template <class Found>
  void prefixes(std::string_view text, const Found& found) const {
    if (nodes_.empty()) return;
    int32_t node = 0;
    for (size_t at = 0; at < text.size(); ++at) {
      node = child(node, static_cast<unsigned char>(text[at]));
      if (node == kNone) return;
      if (nodes_[static_cast<size_t>(node)].id != kNone) {
        found(at + 1, nodes_[static_cast<size_t>(node)].id);
      }
    }
  }

 private:
  struct Node {
    int32_t base = 0;
    int32_t parent = kNone;  // kNone: the place is free
    int32_t id = kNone;
  };

  int32_t child(int32_t node, unsigned char byte) const {
    int32_t place = nodes_[static_cast<size_t>(node)].base + byte;
    return nodes_[static_cast<size_t>(place)].parent == node ? place : kNone;
  }
  void build(const std::vector<std::pair<std::string_view, int32_t>>& tokens);
  int32_t free_base(const std::vector<unsigned char>& bytes);

  std::vector<Node> nodes_;
  size_t first_free_ = 1;
};

}  // namespace chorus::text
