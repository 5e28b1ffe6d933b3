// Ties a child's life to its parent's, and takes over the descriptors that the parent passed on.
#include "process/child.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <system_error>

#include "process/exit_codes.h"

namespace chorus::process {

void die_with_parent(int parent_pid) {
  if (parent_pid == 0) return;
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) {
    throw StartError(ExitCode::fault, fmt::format("cannot ask to end with the launcher: {}",
                                                  std::generic_category().message(errno)));
  }
  // The parent may have ended before the request: then nobody would ever send the signal.
  if (getppid() != parent_pid) _exit(static_cast<int>(ExitCode::fault));
}

void take_inherited(int fd, const char* flag) {
  const int flags = fcntl(fd, F_GETFD);
  if (flags < 0 || fcntl(fd, F_SETFD, flags | FD_CLOEXEC) != 0) {
    throw StartError(ExitCode::usage,
                     fmt::format("{} {}: not an open file descriptor; chorus-launcher passes it, "
                                 "it is not for use by hand",
                                 flag, fd));
  }
}

std::string read_memory_file(int fd) {
  std::string text;
  char part[4096];
  for (;;) {
    const ssize_t bytes = pread(fd, part, sizeof part, static_cast<off_t>(text.size()));
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes < 0) {
      throw StartError(ExitCode::usage, fmt::format("file descriptor {} cannot be read: {}", fd,
                                                    std::generic_category().message(errno)));
    }
    if (bytes == 0) return text;
    text.append(part, static_cast<size_t>(bytes));
  }
}

}  // namespace chorus::process
