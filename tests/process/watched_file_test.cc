#include "process/watched_file.h"

#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <system_error>

namespace chorus::process {
namespace {

struct Scratch {
  Scratch() {
    std::string name = std::filesystem::temp_directory_path() / "chorus-XXXXXX";
    folder = mkdtemp(name.data());
  }
  ~Scratch() { std::filesystem::remove_all(folder); }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(folder / name) << text;
  }
  std::filesystem::path folder;
};

}  // namespace

TEST_CASE("a change of a file is noticed once, at the first look a second later") {
  const Scratch scratch;
  scratch.write("a", "1");
  WatchedFile file(scratch.folder / "a");
  const auto start = WatchedFile::Clock::now();
  const auto after = [&](int ms) { return start + std::chrono::milliseconds(ms); };
  CHECK(file.changed(start));
  scratch.write("a", "22");
  CHECK_FALSE(file.changed(after(900)));
  CHECK(file.changed(after(1000)));
  CHECK_FALSE(file.changed(after(2000)));
  std::filesystem::remove(scratch.folder / "a");
  CHECK_FALSE(file.changed(after(3000)));
  scratch.write("a", "333");
  CHECK(file.changed(after(4000)));
}

TEST_CASE("a link that points elsewhere is a change") {
  const Scratch scratch;
  scratch.write("old", "same");
  scratch.write("new", "same");
  const auto link = scratch.folder / "link";
  std::filesystem::create_symlink("old", link);
  WatchedFile file(link);
  const auto start = WatchedFile::Clock::now();
  CHECK(file.changed(start));
  std::filesystem::create_symlink("new", scratch.folder / "other");
  std::filesystem::rename(scratch.folder / "other", link);
  CHECK(file.changed(start + std::chrono::seconds(1)));
}

TEST_CASE("a file is read whole, or the error names it") {
  const Scratch scratch;
  scratch.write("a", std::string(100'000, 'x'));
  CHECK(read_whole(scratch.folder / "a", 100'000).size() == 100'000);
  CHECK_THROWS_WITH(read_whole(scratch.folder / "a", 99'999), Catch::Contains("/a: "));
  CHECK_THROWS_WITH(read_whole(scratch.folder / "b", 1), Catch::Contains("/b: No such file"));
  CHECK_THROWS_AS(read_whole(scratch.folder, 1), std::system_error);
}

}  // namespace chorus::process
