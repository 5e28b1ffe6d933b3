// A file mapped read-only into memory for as long as the object lives. The size is the one at
// opening: a file that somebody cuts short afterwards ends the process with SIGBUS, as with every
// program that maps its models, so replace model files by renaming, never in place.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

namespace chorus::modelfile {

class MappedFile {
 public:
  // Throws FileError: missing where the file cannot be opened, unsupported where it is no regular
  // file (a pipe or a device never blocks the caller).
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  std::span<const std::byte> bytes() const { return bytes_; }

  // Unmaps what lies behind the first `size` bytes, in whole pages; bytes() shrinks to `size`.
  void keep_first(size_t size);

 private:
  void unmap() noexcept;

  std::span<const std::byte> bytes_;
  size_t mapped_bytes_ = 0;
};

}  // namespace chorus::modelfile
