// Tokens that are found in text before anything else is done to it: control tokens and those the
// model's author added as whole words. The leftmost match wins, of those the longest.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "router/text/prompt.h"

namespace chorus::text {

class AddedTokens {
 public:
  struct Token {
    std::string_view text;  // not empty; outlives this
    int32_t id;
    bool control;  // matches only in text that did not come from outside
  };
  struct Match {
    size_t begin = 0, end = 0;
    int32_t id = -1;  // -1: none
  };

  explicit AddedTokens(std::vector<Token> tokens);

  // The first match at or after `from`. `range` is scratch: the first of `outside` that may still
  // matter, which the caller starts at 0 and passes again for later positions of the same text.
  Match find(std::string_view text, size_t from, const std::vector<ByteRange>& outside,
             size_t& range) const;

 private:
  struct Node {
    int32_t edges_begin = 0, edges_end = 0;
    int32_t id = -1;
    bool control = false;
  };
  struct Edge {
    unsigned char byte;
    int32_t node;
  };

  void build(const std::vector<Token>& tokens);
  int32_t step(int32_t node, unsigned char byte) const;

  std::array<bool, 256> starts_{};
  std::vector<Node> nodes_;
  std::vector<Edge> edges_;
};

}  // namespace chorus::text
