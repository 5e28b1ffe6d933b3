// fork and exec. Everything that allocates happens before the fork; between fork and exec stand
// async-signal-safe calls alone, and an error there travels back through a pipe that exec closes.
#include "launcher/processes/spawn.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/close_range.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <string_view>
#include <system_error>

#include "launcher/processes/channels.h"
#include "process/exit_codes.h"

namespace chorus::launcher {
namespace {

using process::ExitCode;
using process::StartError;

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> out;
  for (std::string& text : texts) out.push_back(text.data());
  out.push_back(nullptr);
  return out;
}

std::vector<std::string> environment(bool colour) {
  std::vector<std::string> variables;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    if (!std::string_view(*variable).starts_with("CLICOLOR_FORCE=")) {
      variables.emplace_back(*variable);
    }
  }
  if (colour) variables.emplace_back("CLICOLOR_FORCE=1");
  return variables;
}

struct Prepared {
  const char* program;
  char** arguments;
  char** environment;
  const Inheritance& inheritance;
  int nothing;  // /dev/null
  int errors;
  pid_t parent;
};

void reset_signals() {
  for (int signal = 1; signal < NSIG; ++signal) {
    struct sigaction action {};
    action.sa_handler = SIG_DFL;
    sigaction(signal, &action, nullptr);  // fails for SIGKILL and SIGSTOP, which are as they are
  }
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
}

bool become_child(const Prepared& prepared) {
  reset_signals();
  if (setpgid(0, 0) != 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) return false;
  if (getppid() != prepared.parent) _exit(static_cast<int>(ExitCode::fault));
  if (dup2(prepared.nothing, STDIN_FILENO) < 0) return false;
  if (dup2(prepared.inheritance.output, STDOUT_FILENO) < 0) return false;
  if (dup2(prepared.inheritance.output, STDERR_FILENO) < 0) return false;
  // What our own parent left open goes to nobody. Kernels before 5.11 lack the call; ours are
  // close-on-exec anyway.
  close_range(STDERR_FILENO + 1, ~0U, CLOSE_RANGE_CLOEXEC);
  for (const int fd : prepared.inheritance.descriptors) {
    if (fcntl(fd, F_SETFD, 0) != 0) return false;
  }
  execve(prepared.program, prepared.arguments, prepared.environment);
  return false;
}

[[noreturn]] void child(const Prepared& prepared) {
  become_child(prepared);
  const int error = errno;
  const ssize_t written = write(prepared.errors, &error, sizeof error);
  _exit(written == sizeof error ? 127 : 126);
}

// The error that kept the child from running its program; 0 where it runs.
int wait_for_exec(int errors) {
  int error = 0;
  ssize_t size = 0;
  do {
    size = read(errors, &error, sizeof error);
  } while (size < 0 && errno == EINTR);
  return size == sizeof error ? error : 0;
}

}  // namespace

int spawn(const Command& command, const Inheritance& inheritance) {
  std::vector<std::string> arguments = command.arguments;
  arguments.insert(arguments.begin(), command.program);
  std::vector<std::string> variables = environment(inheritance.colour);
  std::vector<char*> argument_pointers = pointers(arguments);
  std::vector<char*> variable_pointers = pointers(variables);
  const Descriptor nothing(open("/dev/null", O_RDONLY | O_CLOEXEC));
  Ends errors = make_pipe();
  fcntl(errors.read.get(), F_SETFL, 0);  // it is read to its end, waiting
  const Prepared prepared{.program = command.program.c_str(),
                          .arguments = argument_pointers.data(),
                          .environment = variable_pointers.data(),
                          .inheritance = inheritance,
                          .nothing = nothing.get(),
                          .errors = errors.write.get(),
                          .parent = getpid()};
  const pid_t pid = fork();
  if (pid == 0) child(prepared);
  if (pid < 0) {
    throw StartError(ExitCode::unavailable, fmt::format("cannot start another process: {}",
                                                        std::generic_category().message(errno)));
  }
  errors.write.close();
  if (const int error = wait_for_exec(errors.read.get()); error != 0) {
    waitpid(pid, nullptr, 0);
    throw StartError(ExitCode::fault, fmt::format("cannot run {}: {}", command.program,
                                                  std::generic_category().message(error)));
  }
  return pid;
}

}  // namespace chorus::launcher
