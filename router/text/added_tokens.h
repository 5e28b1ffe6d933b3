// Tokens that are found in text before anything else is done to it: control tokens and those the
// model's author added as whole words. The leftmost match wins, of those the longest; a match may
// take the white space around it along, or count only where no word touches it.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "router/text/prompt.h"

namespace chorus::text {

class AddedTokens {
 public:
  struct Token {
    std::string text;  // not empty
    int32_t id = 0;
    bool control = false;  // matches only in text that did not come from outside
    bool left_strip = false, right_strip = false, single_word = false;
  };
  struct Match {
    size_t begin = 0, end = 0;
    int32_t id = 0;
  };

  explicit AddedTokens(std::vector<Token> tokens);

  bool empty() const { return tokens_.empty(); }
  bool has_control() const { return has_control_; }

  // All matches in order. `outside`: the parts of `text` that came from outside, sorted, disjoint.
  void find_all(std::string_view text, const std::vector<ByteRange>& outside,
                std::vector<Match>& matches) const;

 private:
  struct Node {
    int32_t edges_begin = 0, edges_end = 0;
    int32_t token = -1;  // index into tokens_
  };
  struct Edge {
    unsigned char byte;
    int32_t node;
  };
  struct Found {
    size_t begin = 0, end = 0;
    const Token* token = nullptr;  // null: none
  };

  void build();
  int32_t step(int32_t node, unsigned char byte) const;
  Found find(std::string_view text, size_t from, const std::vector<ByteRange>& outside,
             size_t& range) const;

  std::vector<Token> tokens_;
  bool has_control_ = false;
  std::array<bool, 256> starts_{};
  std::vector<Node> nodes_;
  std::vector<Edge> edges_;
};

}  // namespace chorus::text
