#include "launcher/hub/cache_folder.h"

#include <catch2/catch.hpp>
#include <fstream>
#include <iterator>

#include "tests/modelfile/scratch_folder.h"

namespace chorus::launcher {
namespace {

const std::string kCommit = "0123456789abcdef0123456789abcdef01234567";

}  // namespace

TEST_CASE("the cache is laid out as Python's packages do it") {
  const test::ScratchFolder scratch;
  const CacheFolder cache(scratch.path(), "acme/tiny");
  cache.prepare();
  CHECK(cache.path() == scratch.path() / "models--acme--tiny");
  CHECK(cache.lock("etag") == scratch.path() / ".locks/models--acme--tiny/etag.lock");
  std::ofstream(cache.incomplete("etag")) << "bytes";
  cache.keep(cache.incomplete("etag"), "etag");
  cache.link(kCommit, "config.json", "etag");
  cache.link(kCommit, "sub/config.json", "etag");
  const auto snapshot = cache.snapshot(kCommit);
  CHECK(std::filesystem::read_symlink(snapshot / "config.json") == "../../blobs/etag");
  CHECK(std::filesystem::read_symlink(snapshot / "sub/config.json") == "../../../blobs/etag");
  CHECK(cache.files_of(kCommit) == std::vector<std::string>{"config.json", "sub/config.json"});
  CHECK(cache.has(kCommit, "config.json", 5));
  CHECK_FALSE(cache.has(kCommit, "config.json", 6));
  CHECK_FALSE(cache.has(kCommit, "other.json", 5));
}

TEST_CASE("a branch is remembered, a commit is itself") {
  const test::ScratchFolder scratch;
  const CacheFolder cache(scratch.path(), "gpt2");
  cache.prepare();
  CHECK_FALSE(cache.commit_of("main"));
  cache.remember("main", kCommit);
  cache.remember("refs/pr/1", kCommit);
  CHECK(cache.commit_of("main") == kCommit);
  CHECK(cache.commit_of("refs/pr/1") == kCommit);
  CHECK(cache.commit_of(kCommit) == kCommit);
  std::ifstream ref(cache.path() / "refs/main");
  CHECK(std::string(std::istreambuf_iterator<char>(ref), {}) == kCommit);
}

TEST_CASE("links without their bytes and refs that lead elsewhere count as missing") {
  const test::ScratchFolder scratch;
  const CacheFolder cache(scratch.path(), "acme/tiny");
  cache.prepare();
  std::ofstream(cache.blob("etag")) << "bytes";
  cache.link(kCommit, "config.json", "etag");
  std::filesystem::remove(cache.blob("etag"));
  CHECK(cache.files_of(kCommit).empty());
  std::ofstream(cache.path() / "refs/main") << "../../../etc";
  CHECK_FALSE(cache.commit_of("main"));
}

}  // namespace chorus::launcher
