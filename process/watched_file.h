// Notices that a file has changed, so that what was read from it can be read again without a
// restart. Follows symbolic links: a mounted Kubernetes secret changes by swapping one.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <string>

namespace chorus::process {

class WatchedFile {
 public:
  using Clock = std::chrono::steady_clock;

  explicit WatchedFile(std::string path) : path_(std::move(path)) {}
  const std::string& path() const { return path_; }

  // Whether the file is another one than at the last call that said so, or was written since (first
  // call: whether it is there). Looks at the disk at most once a second of `now`. A file that is
  // gone has not changed: what was read from it stays in force.
  bool changed(Clock::time_point now);

 private:
  struct Seen {
    dev_t device = 0;
    ino_t inode = 0;
    int64_t bytes = -1;
    int64_t written_ns = 0;
    bool operator==(const Seen&) const = default;
  };

  std::string path_;
  Seen seen_;
  Clock::time_point next_look_{};
};

// The whole file; throws std::system_error (its text: the path, a colon, the reason).
std::string read_whole(const std::string& path, size_t bytes_max);

}  // namespace chorus::process
