// Runs kernels with a planted fault, each in a process of its own (most faults end it), and tells
// how they were found out. The three builds find different ones: plain compares results under all
// schedules and stops at deadlocks; AddressSanitizer with UndefinedBehaviorSanitizer; and
// ThreadSanitizer.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>

#include "kernels/emulate/fiber.h"
#include "tests/emulation/schedules.h"

namespace chorus::tests {

enum Builds : unsigned { plain = 1, asan = 2, tsan = 4, every_build = 7 };
inline Builds this_build() {
#if defined(__SANITIZE_ADDRESS__)
  return asan;
#elif defined(__SANITIZE_THREAD__)
  return tsan;
#else
  return plain;
#endif
}

// "right" when `is_right` answers true under every schedule and nothing is reported; else what
// happened, with what was printed.
inline std::string outcome(const std::function<bool()>& is_right) {
  FILE* printed = std::tmpfile();
  REQUIRE(printed != nullptr);
  std::fflush(nullptr);
  emulate::forget_retired();
  const pid_t child = fork();
  if (child == 0) {
    dup2(fileno(printed), STDOUT_FILENO);
    dup2(fileno(printed), STDERR_FILENO);
    std::signal(SIGABRT, SIG_DFL);  // not Catch2's
    for (const auto& schedule : schedules()) {
      emulate::settings = schedule;
      if (!is_right()) _exit(2);
    }
    _exit(0);  // 66 where ThreadSanitizer has reported something
  }
  int status = 0;
  waitpid(child, &status, 0);
  std::string text(1 << 14, ' ');
  std::rewind(printed);
  text.resize(std::fread(text.data(), 1, text.size(), printed));
  std::fclose(printed);
  if (WIFSIGNALED(status)) return "stopped: " + text;
  if (WEXITSTATUS(status) == 2) return "wrong result";
  if (WEXITSTATUS(status) != 0) return "reported: " + text;
  return text.empty() ? "right" : "printed: " + text;
}

// Expects this build to find the fault out, where it is one of `finders`.
inline void check_found(const char* name, unsigned finders, const std::function<bool()>& is_right) {
  const std::string how = outcome(is_right);
  if (std::getenv("CHORUS_SHOW_FAULTS")) std::printf("%-44s %s\n", name, how.c_str());
  INFO(name << " ends with: " << how);
  CHECK(finders != 0);
  if (finders & this_build()) CHECK(how != "right");
}

}  // namespace chorus::tests
