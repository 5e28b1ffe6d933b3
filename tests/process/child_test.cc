#include "process/child.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <csignal>

#include "process/exit_codes.h"

namespace chorus::process {

TEST_CASE("an inherited descriptor is marked close-on-exec") {
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  take_inherited(ends[0], "--status-fd");
  CHECK((fcntl(ends[0], F_GETFD) & FD_CLOEXEC) != 0);
  CHECK((fcntl(ends[1], F_GETFD) & FD_CLOEXEC) == 0);
  close(ends[0]);
  close(ends[1]);
}

TEST_CASE("a descriptor that is not open is refused with its flag's name") {
  CHECK_THROWS_WITH(take_inherited(987, "--status-fd"),
                    Catch::Matchers::Contains("--status-fd 987"));
}

TEST_CASE("a child ends when its parent is killed, and at once when it is gone already") {
  int alive[2];  // its write end closes when the last process that holds it has ended
  REQUIRE(pipe(alive) == 0);
  const pid_t parent = fork();
  if (parent == 0) {
    const pid_t self = getpid();
    if (fork() == 0) {
      die_with_parent(self);
      if (write(alive[1], "x", 1) != 1) _exit(1);
      pause();
    }
    pause();
  }
  close(alive[1]);
  char byte = 0;
  REQUIRE(read(alive[0], &byte, 1) == 1);
  kill(parent, SIGKILL);
  waitpid(parent, nullptr, 0);
  CHECK(read(alive[0], &byte, 1) == 0);
  close(alive[0]);

  const pid_t orphan = fork();
  if (orphan == 0) {
    die_with_parent(1 << 30);
    _exit(0);
  }
  int status = 0;
  waitpid(orphan, &status, 0);
  CHECK(WEXITSTATUS(status) == static_cast<int>(ExitCode::fault));
}

}  // namespace chorus::process
