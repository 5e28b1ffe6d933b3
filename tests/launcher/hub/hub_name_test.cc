#include "launcher/hub/hub_name.h"

#include <catch2/catch.hpp>

namespace chorus::launcher {

TEST_CASE("names on a hub are told from paths") {
  CHECK(parse_hub_name("acme/tiny-7B.v1_2")->id == "acme/tiny-7B.v1_2");
  CHECK(parse_hub_name("gpt2")->id == "gpt2");
  const auto chosen = parse_hub_name("acme/tiny:Q4_K_M");
  CHECK(chosen->id == "acme/tiny");
  CHECK(chosen->choice == "Q4_K_M");
  CHECK(parse_hub_name("acme/tiny:sub/file.gguf")->choice == "sub/file.gguf");
  for (const char* path : {"", "/a/b", "./a", "../a", "a/b/c", "a/", "/", "a b", "a/b:", ":q",
                           "a--b", "a/..b", "a/b:../c", "-a/b"}) {
    INFO(path);
    CHECK_FALSE(parse_hub_name(path));
  }
}

TEST_CASE("file names stay inside their folder") {
  for (const char* name : {"a", "a/b.json", "a..b", "...", "a b"}) {
    INFO(name);
    CHECK(is_safe_file_name(name));
  }
  for (const char* name :
       {"", "/a", "a/", "a//b", "..", "../a", "a/../b", "a/..", ".", "./a", "a\\b", "a\nb"}) {
    INFO(name);
    CHECK_FALSE(is_safe_file_name(name));
  }
  CHECK_FALSE(is_safe_file_name(std::string(300, 'a')));
  CHECK_FALSE(is_safe_file_name(std::string("a\0b", 3)));
}

TEST_CASE("what is special in an address is escaped") {
  CHECK(url_path("a/b c%?#.json") == "a/b%20c%25%3F%23.json");
  CHECK(url_part("refs/pr/1") == "refs%2Fpr%2F1");
}

TEST_CASE("a commit is 40 hexadecimal digits") {
  CHECK(is_commit("0123456789abcdef0123456789abcdef01234567"));
  CHECK_FALSE(is_commit("main"));
  CHECK_FALSE(is_commit("0123456789abcdef0123456789abcdef0123456g"));
}

}  // namespace chorus::launcher
