#include "launcher/hub/interruption.h"

#include <fmt/format.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "process/exit_codes.h"

namespace chorus::launcher {

Interruption::Interruption() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction now {};
    sigaction(signal, nullptr, &now);
    if (now.sa_handler != SIG_IGN) sigaddset(&set, signal);  // nohup's choice stays
  }
  pthread_sigmask(SIG_BLOCK, &set, &before_);
  fd_ = Descriptor(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd_.open()) {
    throw process::StartError(process::ExitCode::unavailable,
                              fmt::format("cannot make a descriptor for signals: {}",
                                          std::generic_category().message(errno)));
  }
}

Interruption::~Interruption() {
  pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

void Interruption::check() const {
  signalfd_siginfo told;
  if (read(fd_.get(), &told, sizeof told) == sizeof told) {
    throw Interrupted(static_cast<int>(told.ssi_signo));
  }
}

}  // namespace chorus::launcher
