// Which file it is, its length and the time it was written, as stat tells them. Whoever reads the
// file after changed() sees at least that state; a write in between is seen at the next look.
#include "process/watched_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace chorus::process {

bool WatchedFile::changed(Clock::time_point now) {
  if (now < next_look_) return false;
  next_look_ = now + std::chrono::seconds(1);
  struct stat facts {};
  if (stat(path_.c_str(), &facts) != 0) return false;
  const Seen seen{.device = facts.st_dev,
                  .inode = facts.st_ino,
                  .bytes = facts.st_size,
                  .written_ns = facts.st_mtim.tv_sec * 1'000'000'000 + facts.st_mtim.tv_nsec};
  if (seen == seen_) return false;
  seen_ = seen;
  return true;
}

std::string read_whole(const std::string& path, size_t bytes_max) {
  const auto fail = [&](int error) {
    throw std::system_error(error, std::generic_category(), path);
  };
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) fail(errno);
  std::string text;
  char part[16384];
  int error = 0;
  for (;;) {
    const ssize_t bytes = read(fd, part, sizeof part);
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes < 0) error = errno;
    if (bytes <= 0) break;
    text.append(part, static_cast<size_t>(bytes));
    if (text.size() > bytes_max) error = EFBIG;
    if (error != 0) break;
  }
  close(fd);
  if (error != 0) fail(error);
  return text;
}

}  // namespace chorus::process
