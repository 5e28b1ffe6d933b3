#include "launcher/hub/file_lock.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/file.h>

#include <cerrno>
#include <system_error>

#include "process/exit_codes.h"
#include "process/log.h"

namespace chorus::launcher {
namespace {

constexpr int kPollMs = 200;

}  // namespace

FileLock::FileLock(const std::filesystem::path& path, std::string_view doing,
                   const Interruption& interruption)
    : fd_(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0664)) {
  if (!fd_.open()) {
    throw process::StartError(process::ExitCode::unavailable,
                              fmt::format("cannot make the lock file {}: {}", path.string(),
                                          std::generic_category().message(errno)));
  }
  bool told = false;
  while (flock(fd_.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK && errno != EINTR) {
      process::log_warn("{}: no locks on this file system ({}); do not start two launchers at once",
                        path.string(), std::generic_category().message(errno));
      return;
    }
    if (!told)
      process::log_info("another process is {}; waiting for it ({})", doing, path.string());
    told = true;
    pollfd signals = {.fd = interruption.fd(), .events = POLLIN, .revents = 0};
    poll(&signals, 1, kPollMs);
    interruption.check();
  }
}

}  // namespace chorus::launcher
