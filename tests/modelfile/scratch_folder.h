// A folder of its own for a test, removed with all it holds at the end.
#pragma once

#include <stdlib.h>

#include <cassert>
#include <filesystem>
#include <string>

namespace chorus::test {

class ScratchFolder {
 public:
  ScratchFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "chorus-test-XXXXXX").string();
    const char* made = ::mkdtemp(name.data());
    assert(made != nullptr);
    path_ = name;
  }
  ~ScratchFolder() {
    std::error_code ignored;  // a destructor must not throw; the system clears its folder anyway
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace chorus::test
