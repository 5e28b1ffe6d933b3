// The launcher's loop with shell scripts as children. supervise() runs in a forked process, as it
// runs in the launcher, so that signals can be sent to it and its end be looked at from outside.
#include "launcher/processes/supervise.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "process/exit_codes.h"
#include "process/log.h"

namespace chorus::launcher {
namespace {

using namespace std::chrono_literals;

struct Scripts {
  std::vector<std::string> shards;
  std::string router;
  std::chrono::milliseconds drain = 1000ms;
};

Command script(const std::string& text, const Ties& ties) {
  return {.program = "/bin/bash",
          .arguments = {"-c", "exec 200>&\"$1\"; channel=$2; group=$3; parent=$4; " + text, "child",
                        std::to_string(ties.status), std::to_string(ties.channel),
                        std::to_string(ties.group), std::to_string(ties.parent_pid)}};
}

[[noreturn]] void run_launcher(const Scripts& scripts, int out) {
  dup2(out, STDOUT_FILENO);
  dup2(out, STDERR_FILENO);
  process::start_log({.process = "launcher"});
  int code = 99;
  try {
    code =
        supervise({.shards = static_cast<int>(scripts.shards.size()),
                   .shard_command =
                       [&](int rank, const Ties& ties) {
                         return script(scripts.shards[static_cast<size_t>(rank)], ties);
                       },
                   .router_command = [&](const Ties& ties) { return script(scripts.router, ties); },
                   .drain = scripts.drain,
                   .on_ready =
                       [](const std::string& address) {
                         std::printf("serving on %s\n", address.c_str());
                         std::fflush(stdout);
                       }});
  } catch (const process::StartError& error) {
    std::printf("start error: %s\n", error.what());
    std::fflush(stdout);
    code = static_cast<int>(error.code());
  }
  _exit(code);
}

// A launcher in a process of its own, and what it writes.
class Launcher {
 public:
  explicit Launcher(const Scripts& scripts) {
    int ends[2];
    REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
    pid_ = fork();
    if (pid_ == 0) {
      close(ends[0]);
      run_launcher(scripts, ends[1]);
    }
    close(ends[1]);
    out_ = ends[0];
  }
  ~Launcher() {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
    close(out_);
  }
  Launcher(const Launcher&) = delete;
  Launcher& operator=(const Launcher&) = delete;

  void send(int signal) { kill(pid_, signal); }

  // Reads until `text` has come, or the end of the stream; false after 20 s without either.
  bool read_until(const std::string& text) {
    while (text.empty() || output_.find(text) == std::string::npos) {
      pollfd polled{.fd = out_, .events = POLLIN, .revents = 0};
      if (poll(&polled, 1, 20000) <= 0) return false;
      char bytes[4096];
      const ssize_t size = read(out_, bytes, sizeof bytes);
      if (size <= 0) return text.empty();
      output_.append(bytes, static_cast<size_t>(size));
    }
    return true;
  }

  // The exit code.
  int wait() {
    CHECK(read_until(""));
    int status = 0;
    waitpid(pid_, &status, 0);
    pid_ = 0;
    INFO(output_);
    REQUIRE(WIFEXITED(status));
    return WEXITSTATUS(status);
  }

  const std::string& output() const { return output_; }
  bool wrote(const std::string& text) const { return output_.find(text) != std::string::npos; }

 private:
  pid_t pid_ = 0;
  int out_ = -1;
  std::string output_;
};

// Ends with 0 on SIGTERM, having said so. The trap stands before `ready` is told.
const std::string kTrap = "trap 'echo asked to end; exit 0' TERM; ";
const std::string kWait = "while :; do sleep 0.05; done";
const std::string kServe = kTrap + kWait;
const std::string kReadyShard = kTrap + "echo ready cpu >&200; " + kWait;
const std::string kReadyRouter = kTrap + "echo ready 127.0.0.1:1234 >&200; " + kWait;

// Process ids printed as "pid N" by children.
std::vector<pid_t> pids(const std::string& output) {
  std::vector<pid_t> found;
  for (size_t at = output.find("pid "); at != std::string::npos; at = output.find("pid ", at + 1)) {
    found.push_back(std::atoi(output.c_str() + at + 4));
  }
  return found;
}

}  // namespace

TEST_CASE("a group serves, drains on SIGTERM router first, and ends with 0") {
  Launcher launcher({.shards = {kTrap + "echo go >&$channel; " + kWait, kReadyShard},
                     .router = "trap 'echo router drains; exit 0' TERM; read word <&$channel; "
                               "echo ready 127.0.0.1:1234 >&200; while :; do sleep 0.05; done"});
  REQUIRE(launcher.read_until("serving on 127.0.0.1:1234\n"));
  launcher.send(SIGTERM);
  CHECK(launcher.wait() == 0);
  const size_t drained = launcher.output().find("router drains");
  const size_t shard = launcher.output().find("asked to end");
  CHECK(drained != std::string::npos);
  CHECK(shard != std::string::npos);
  CHECK(drained < shard);
}

TEST_CASE("SIGINT and SIGHUP end a group as well") {
  for (const int signal : {SIGINT, SIGHUP}) {
    Launcher launcher({.shards = {kReadyShard}, .router = kReadyRouter});
    REQUIRE(launcher.read_until("serving on"));
    launcher.send(signal);
    CHECK(launcher.wait() == 0);
  }
}

TEST_CASE("a child that fails to start gives the group its message and exit code") {
  Launcher launcher({.shards = {kReadyShard, "echo 'failed 65 model.gguf is cut' >&200; exit 65"},
                     .router = kServe});
  CHECK(launcher.wait() == 65);
  CHECK(launcher.wrote("shard 1 cannot start: model.gguf is cut"));
  CHECK_FALSE(launcher.wrote("serving"));
}

TEST_CASE("a child that ends without a word is reported with its last lines") {
  Launcher launcher({.shards = {"for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 "
                                "22; do echo line $i >&2; done; printf unfinished; exit 3"},
                     .router = kServe});
  CHECK(launcher.wait() == 70);
  CHECK(launcher.wrote("line 1\n"));
  CHECK(launcher.wrote("shard 0 ended with exit code 3 while starting; its last lines:"));
  CHECK_FALSE(launcher.wrote("ERROR launcher:   line 3\n"));
  CHECK(launcher.wrote("ERROR launcher:   line 4\n"));
  CHECK(launcher.wrote("ERROR launcher:   unfinished\n"));
}

TEST_CASE("a killed shard is reported and pulls the group down within two seconds") {
  Launcher launcher(
      {.shards = {kReadyShard, "echo pid $$; echo ready x >&200; while :; do sleep 0.1; done"},
       .router = "trap '' TERM; echo ready a:1 >&200; while :; "
                 "do sleep 0.1; done"});
  REQUIRE(launcher.read_until("pid"));
  REQUIRE(launcher.read_until("serving on a:1\n"));
  const auto start = std::chrono::steady_clock::now();
  kill(pids(launcher.output()).at(0), SIGKILL);
  CHECK(launcher.wait() == 70);
  CHECK(std::chrono::steady_clock::now() - start < 5s);
  CHECK(launcher.wrote("shard 1 was killed by signal 9 (Killed); its last lines:"));
  CHECK(launcher.wrote("ERROR launcher:   pid "));
}

TEST_CASE("children that ignore SIGTERM are killed, and nothing is left behind") {
  const std::string stubborn =
      "trap '' TERM; echo pid $$; echo ready x:1 >&200; "
      "while :; do sleep 0.1; done";
  Launcher launcher({.shards = {stubborn, stubborn}, .router = stubborn, .drain = 0ms});
  REQUIRE(launcher.read_until("serving on x:1\n"));
  REQUIRE(launcher.read_until("pid"));
  launcher.send(SIGINT);
  REQUIRE(launcher.read_until("Interrupt: ending"));
  launcher.send(SIGTERM);  // changes nothing
  const auto start = std::chrono::steady_clock::now();
  launcher.send(SIGINT);  // a second one: at once
  CHECK(launcher.wait() == 0);
  CHECK(std::chrono::steady_clock::now() - start < 3s);
  for (const pid_t pid : pids(launcher.output())) {
    CHECK(kill(pid, 0) == -1);
    CHECK(errno == ESRCH);
  }
}

TEST_CASE("the children of a launcher that is killed end with it") {
  Launcher launcher({.shards = {"echo pid $$; echo ready x >&200; while :; do sleep 0.05; done"},
                     .router = "echo pid $$; echo ready x:1 >&200; while :; do sleep 0.05; done"});
  REQUIRE(launcher.read_until("serving on"));
  while (pids(launcher.output()).size() < 2) REQUIRE(launcher.read_until("\npid"));
  launcher.send(SIGKILL);
  CHECK(launcher.read_until(""));
  // They are ours to reap only if we are a subreaper, so their end is awaited by looking.
  for (const pid_t pid : pids(launcher.output())) {
    bool alive = true;
    for (int look = 0; look < 200 && alive; ++look) {
      poll(nullptr, 0, 10);
      std::string state(300, '\0');
      std::FILE* file = std::fopen(("/proc/" + std::to_string(pid) + "/stat").c_str(), "r");
      if (file == nullptr) {
        alive = false;
        break;
      }
      state.resize(std::fread(state.data(), 1, state.size(), file));
      std::fclose(file);
      alive = state.find(") Z ") == std::string::npos;
    }
    CHECK_FALSE(alive);
  }
}

TEST_CASE("router and rank 0 share a channel, and the ranks a memory file") {
  Launcher launcher(
      {.shards = {"echo hello >&$channel; test -e /proc/self/fd/$group && echo group of 0; " +
                      kReadyShard,
                  "test $channel = -1 && echo no channel; test -e /proc/self/fd/$group && echo "
                  "group of 1; " +
                      kReadyShard},
       .router = kTrap +
                 "read word <&$channel; echo \"router heard $word\"; test $group = -1 && echo no "
                 "group; test $parent = $PPID && echo parent known; echo ready x:1 >&200; " +
                 kWait});
  REQUIRE(launcher.read_until("serving on"));
  launcher.send(SIGTERM);
  CHECK(launcher.wait() == 0);
  for (const char* line : {"router heard hello", "no group", "parent known", "group of 0",
                           "group of 1", "no channel"}) {
    INFO(line);
    CHECK(launcher.wrote(line));
  }
}

TEST_CASE("a child holds its own descriptors and none that happened to be open") {
  const int stray = open("/dev/null", O_RDONLY);  // not close-on-exec, as a careless parent leaves
  REQUIRE(stray >= 0);
  Launcher launcher(
      {.shards = {"exec 200>&-; echo list:; exec ls /proc/self/fd"}, .router = kServe});
  close(stray);
  CHECK(launcher.wait() == 70);
  const std::string& output = launcher.output();
  const size_t start = output.find("list:\n");
  REQUIRE(start != std::string::npos);
  // Lines that are a number alone, up to the launcher's own, which begin with a date.
  const size_t end = output.find("-", start);
  const auto count = std::count(output.begin() + static_cast<long>(start) + 6,
                                output.begin() + static_cast<long>(end), '\n');
  CHECK(count == 6);  // 0, 1, 2, the status pipe, the channel, and the folder that ls reads
}

TEST_CASE("a program that cannot be run ends the start and what was started") {
  int ends[2];
  REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
  const GroupPlan plan{
      .shards = 1,
      .shard_command = [](int, const Ties& ties) { return script(kReadyShard, ties); },
      .router_command = [](const Ties&) { return Command{.program = "/nowhere/chorus-router"}; },
      .drain = 0ms,
      .on_ready = [](const std::string&) {}};
  try {
    supervise(plan);
    FAIL("it was started");
  } catch (const process::StartError& error) {
    CHECK(error.code() == process::ExitCode::fault);
    CHECK(std::string(error.what()) ==
          "cannot run /nowhere/chorus-router: No such file or directory");
  }
  CHECK(waitpid(-1, nullptr, WNOHANG) == -1);
  CHECK(errno == ECHILD);
  close(ends[0]);
  close(ends[1]);
}

}  // namespace chorus::launcher
