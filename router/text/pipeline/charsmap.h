// SentencePiece's compiled rules of normalisation: a double-array trie over UTF-8 and the texts
// that its leaves stand for. Input from outside: every step is checked against the table's size.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace chorus::text {

class Charsmap {
 public:
  // Throws modelfile::FileError(corrupt) that names `source`. An empty table has no rules.
  Charsmap(const std::string& table, const std::string& source);

  // What the shortest beginning of `text` that has a rule becomes.
  std::optional<std::string_view> replacement(std::string_view text) const;

 private:
  std::vector<uint32_t> units_;
  std::string texts_;  // each ends with a zero byte
};

}  // namespace chorus::text
