#include "modelfile/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cassert>
#include <cerrno>
#include <cstring>
#include <utility>

#include "modelfile/error.h"

namespace chorus::modelfile {
namespace {

[[noreturn]] void fail(FileError::Kind kind, const std::filesystem::path& path, const char* what,
                       int error) {
  throw FileError(kind, path.string() + ": " + what + ": " + std::strerror(error));
}

// Closes the descriptor at the end of the scope: the mapping outlives it.
struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& path) {
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (file.fd < 0) fail(FileError::Kind::missing, path, "cannot be opened", errno);
  struct stat status = {};
  if (::fstat(file.fd, &status) != 0) {
    fail(FileError::Kind::missing, path, "cannot be examined", errno);
  }
  if (!S_ISREG(status.st_mode)) {
    throw FileError(FileError::Kind::unsupported, path.string() + ": not a regular file");
  }
  if (status.st_size == 0) return;
  const auto size = static_cast<size_t>(status.st_size);
  void* start = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.fd, 0);
  if (start == MAP_FAILED) fail(FileError::Kind::missing, path, "cannot be mapped", errno);
  bytes_ = {static_cast<const std::byte*>(start), size};
  mapped_bytes_ = size;
}

MappedFile::~MappedFile() {
  unmap();
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : bytes_(std::exchange(other.bytes_, {})),
      mapped_bytes_(std::exchange(other.mapped_bytes_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  if (this == &other) return *this;
  unmap();
  bytes_ = std::exchange(other.bytes_, {});
  mapped_bytes_ = std::exchange(other.mapped_bytes_, 0);
  return *this;
}

void MappedFile::keep_first(size_t size) {
  assert(size <= bytes_.size());
  if (size == 0) {
    unmap();
    return;
  }
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t kept = (size + page - 1) / page * page;
  if (kept < mapped_bytes_) {
    auto* start = const_cast<std::byte*>(bytes_.data());
    const int result = ::munmap(start + kept, mapped_bytes_ - kept);
    assert(result == 0);
    mapped_bytes_ = kept;
  }
  bytes_ = bytes_.first(size);
}

void MappedFile::unmap() noexcept {
  if (mapped_bytes_ > 0) ::munmap(const_cast<std::byte*>(bytes_.data()), mapped_bytes_);
  bytes_ = {};
  mapped_bytes_ = 0;
}

}  // namespace chorus::modelfile
