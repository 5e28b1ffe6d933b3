#include "launcher/hub/part_file.h"

#include <catch2/catch.hpp>
#include <fstream>
#include <iterator>
#include <string>

#include "tests/modelfile/scratch_folder.h"

namespace chorus::launcher {
namespace {

constexpr int64_t kMiB = 1 << 20;

std::string contents(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

TEST_CASE("parts cover a file without gaps, and are neither small nor many") {
  for (const int64_t size : {int64_t{1}, 31 * kMiB, 32 * kMiB, 64 * kMiB + 1, 5000 * kMiB + 7}) {
    const std::vector<Part> parts = plan_parts(size);
    int64_t at = 0;
    for (const Part& part : parts) {
      CHECK(part.begin == at);
      CHECK(part.done == 0);
      at = part.end;
    }
    CHECK(at == size);
    CHECK(parts.size() <= 16);
    if (parts.size() > 1) CHECK(parts[0].end >= 32 * kMiB);
  }
  CHECK(plan_parts(0).empty());
  CHECK(plan_parts(5000 * kMiB).size() == 16);
}

TEST_CASE("a file goes on where it stopped") {
  const test::ScratchFolder folder;
  const auto path = folder.path() / "blob.chorus-incomplete";
  {
    PartFile file(path, 64 * kMiB);
    REQUIRE(file.parts().size() == 2);
    file.write(1, "world");
  }
  PartFile file(path, 64 * kMiB);
  CHECK(file.parts()[0].done == 0);
  CHECK(file.parts()[1].done == 5);
  CHECK(file.done_bytes() == 5);
}

TEST_CASE("a finished file holds the bytes and nothing else") {
  const test::ScratchFolder folder;
  const auto path = folder.path() / "blob.chorus-incomplete";
  PartFile file(path, 10);
  file.write(0, "hello");
  CHECK_FALSE(file.complete());
  file.write(0, "world");
  CHECK(file.complete());
  file.finish();
  CHECK(contents(path) == "helloworld");
  // A launcher that was killed before the rename: everything is there, for the checksum to judge.
  CHECK(PartFile(path, 10).complete());
}

TEST_CASE("another size, a record of another kind and a cut one begin anew") {
  const test::ScratchFolder folder;
  const auto path = folder.path() / "blob.chorus-incomplete";
  const auto started = [&] {
    std::filesystem::remove(path);
    PartFile(path, 10).write(0, "hello");
  };
  started();
  CHECK(PartFile(path, 11).done_bytes() == 0);
  started();
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 1);
  CHECK(PartFile(path, 10).done_bytes() == 0);
  started();
  std::fstream(path, std::ios::in | std::ios::out).seekp(10) << "another!";
  CHECK(PartFile(path, 10).done_bytes() == 0);
  started();
  const int64_t lie = 11;
  std::fstream(path, std::ios::in | std::ios::out | std::ios::binary)
      .seekp(10 + 24)
      .write(reinterpret_cast<const char*>(&lie), sizeof lie);
  CHECK(PartFile(path, 10).done_bytes() == 0);
}

TEST_CASE("beginning anew forgets what is there") {
  const test::ScratchFolder folder;
  PartFile file(folder.path() / "blob.chorus-incomplete", 64 * kMiB);
  file.write(0, "hello");
  file.begin_anew();
  CHECK(file.parts().size() == 1);
  CHECK(file.done_bytes() == 0);
}

}  // namespace chorus::launcher
