#include "modelfile/merge_scores.h"

#include <catch2/catch.hpp>

namespace chorus::modelfile {
namespace {

const std::vector<std::string> kTokens = {"a", "b", "ab", "aab", "<s>"};
const std::vector<TokenKind> kKinds = {TokenKind::normal, TokenKind::normal, TokenKind::normal,
                                       TokenKind::normal, TokenKind::control};

}  // namespace

TEST_CASE("earlier merges get better scores, tokens without merges the worst", "[modelfile]") {
  const auto scores = scores_of({{"a", "b"}, {"a", "ab"}}, kTokens, kKinds);
  REQUIRE(scores.has_value());
  CHECK((*scores)[2] > (*scores)[3]);
  CHECK((*scores)[3] > (*scores)[0]);
  CHECK((*scores)[4] == (*scores)[0]);
}

TEST_CASE("merges that leave out a way to join a token have no scores", "[modelfile]") {
  CHECK_FALSE(scores_of({{"a", "b"}}, kTokens, kKinds).has_value());
  const std::vector<std::string> tokens = {"a", "b", "aa", "ab", "aab"};
  const std::vector<TokenKind> kinds(5, TokenKind::normal);
  const std::vector<Merge> all = {{"a", "a"}, {"a", "b"}, {"aa", "b"}, {"a", "ab"}};
  CHECK(scores_of(all, tokens, kinds).has_value());
  CHECK_FALSE(scores_of({all.begin(), all.end() - 1}, tokens, kinds).has_value());
}

TEST_CASE("merges of one token that stand apart have no scores", "[modelfile]") {
  const std::vector<std::string> tokens = {"a", "b", "aa", "ab", "aab"};
  const std::vector<TokenKind> kinds(5, TokenKind::normal);
  const std::vector<Merge> apart = {{"a", "a"}, {"aa", "b"}, {"a", "b"}, {"a", "ab"}};
  CHECK_FALSE(scores_of(apart, tokens, kinds).has_value());
}

TEST_CASE("merges of or into control tokens have no scores", "[modelfile]") {
  CHECK_FALSE(scores_of({{"a", "b"}, {"a", "ab"}, {"a", "<s>"}}, kTokens, kKinds).has_value());
}

TEST_CASE("tokens are cut between characters, not within", "[modelfile]") {
  // U+00E9 and U+00E8 share their first byte; as tokens those bytes must not count as a way.
  const std::vector<std::string> tokens = {"\xc3\xa9", "\xc3", "\xa9"};
  CHECK(scores_of({}, tokens, std::vector<TokenKind>(3, TokenKind::normal)).has_value());
}

}  // namespace chorus::modelfile
