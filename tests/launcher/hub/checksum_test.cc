#include "launcher/hub/checksum.h"

#include <catch2/catch.hpp>
#include <fstream>
#include <system_error>

#include "tests/modelfile/scratch_folder.h"

namespace chorus::launcher {

TEST_CASE("checksums are those of sha256sum and git hash-object") {
  const test::ScratchFolder folder;
  const auto path = folder.path() / "file";
  std::ofstream(path) << "hello\nworld";
  std::atomic<bool> stop = false;
  const std::string sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
  const std::string sha1 = "ce013625030ba8dba906f756967f9e9ca394464a";
  CHECK(checksum_of(path, 6, ChecksumKind::sha256, stop) == sha256);
  CHECK(checksum_of(path, 6, ChecksumKind::git_sha1, stop) == sha1);
  CHECK(checksum_kind(sha256) == ChecksumKind::sha256);
  CHECK(checksum_kind(sha1) == ChecksumKind::git_sha1);
  CHECK(checksum_kind("5-of-parts") == ChecksumKind::none);
  CHECK_THROWS_AS(checksum_of(path, 100, ChecksumKind::sha256, stop), std::system_error);
  stop = true;
  CHECK(checksum_of(path, 6, ChecksumKind::sha256, stop).empty());
}

}  // namespace chorus::launcher
