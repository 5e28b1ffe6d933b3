// The launcher's loop: one poll over a signalfd (SIGCHLD and the signals that ask us to end) and
// two pipes per child, the status lines and the output. No threads, no sleeping. What the events
// mean is decided in supervision.cc.
#include "launcher/processes/supervise.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <system_error>
#include <utility>

#include "launcher/processes/channels.h"
#include "launcher/processes/line_buffer.h"
#include "launcher/processes/progress_display.h"
#include "launcher/processes/supervision.h"
#include "process/exit_codes.h"
#include "process/log.h"

namespace chorus::launcher {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kLinesKept = 20;

bool on_terminal() {
  return isatty(STDERR_FILENO) == 1;
}

bool colours() {
  const char* none = std::getenv("NO_COLOR");
  return on_terminal() && (none == nullptr || *none == '\0');
}

// The signals that the loop reads from a descriptor, blocked for as long as this lives.
class Signals {
 public:
  Signals() {
    sigset_t set;
    sigemptyset(&set);
    for (const int signal : {SIGCHLD, SIGINT, SIGTERM}) sigaddset(&set, signal);
    // nohup's choice stays: a signalfd would deliver the signal although it is ignored.
    struct sigaction hangup {};
    sigaction(SIGHUP, nullptr, &hangup);
    if (hangup.sa_handler != SIG_IGN) sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set, &before_);
    // A terminal or a collector that went away must not end the launcher before its children.
    struct sigaction ignore {};
    ignore.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &ignore, &pipe_before_);
    fd_ = Descriptor(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!fd_.open()) {
      throw process::StartError(process::ExitCode::unavailable,
                                fmt::format("cannot make a descriptor for signals: {}",
                                            std::generic_category().message(errno)));
    }
  }
  ~Signals() {
    sigaction(SIGPIPE, &pipe_before_, nullptr);
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

  int fd() const { return fd_.get(); }

  // Calls `take` with each signal that has come.
  template <class Take>
  void read_all(Take take) {
    signalfd_siginfo info;
    while (read(fd_.get(), &info, sizeof info) == sizeof info) {
      take(static_cast<int>(info.ssi_signo));
    }
  }

 private:
  sigset_t before_;
  struct sigaction pipe_before_ {};
  Descriptor fd_;
};

struct Child {
  pid_t pid = 0;  // 0: not started, or reaped
  Descriptor status, output;
  LineBuffer status_lines{0};
  LineBuffer output_lines{kLinesKept};
};

// Reads what there is; closes the descriptor at the end of the stream.
std::vector<std::string> read_lines(Descriptor& fd, LineBuffer& buffer) {
  std::vector<std::string> lines;
  std::array<char, 16384> bytes;
  while (fd.open()) {
    const ssize_t size = read(fd.get(), bytes.data(), bytes.size());
    if (size < 0 && errno == EINTR) continue;
    if (size < 0 && errno == EAGAIN) break;
    const bool end = size <= 0;
    const auto part = end ? buffer.finish() : buffer.add({bytes.data(), static_cast<size_t>(size)});
    lines.insert(lines.end(), part.begin(), part.end());
    if (end) fd.close();
  }
  return lines;
}

class Group {
 public:
  explicit Group(const GroupPlan& plan)
      : plan_(plan),
        decisions_(plan.shards, plan.drain),
        children_(static_cast<size_t>(plan.shards) + 1),
        display_(on_terminal()) {}

  ~Group() {
    for (const Child& child : children_) {
      if (child.pid == 0) continue;
      kill(child.pid, SIGKILL);
      waitpid(child.pid, nullptr, 0);
    }
  }
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;

  void start();
  int run();

 private:
  void start_child(int index, Ties ties);
  void take_signal(int signal);
  void wait_for_events();
  void read_outputs();
  void read_statuses();
  void reap();
  void carry_out();
  void report(const Action& action);
  Child& child(int index) { return children_[static_cast<size_t>(index)]; }

  const GroupPlan& plan_;
  Signals signals_;
  Supervision decisions_;
  std::vector<Child> children_;
  Descriptor group_memory_;
  Descriptor keys_memory_;
  ProgressDisplay display_;
  bool asked_to_end_ = false;
};

void Group::start() {
  Ends channel = make_socket_pair();
  if (plan_.shards > 1) group_memory_ = make_group_memory();
  for (int rank = 0; rank < plan_.shards; ++rank) {
    start_child(rank,
                {.channel = rank == 0 ? channel.read.get() : -1, .group = group_memory_.get()});
  }
  if (!plan_.api_keys.empty()) keys_memory_ = make_memory_file(plan_.api_keys);
  start_child(decisions_.router(), {.channel = channel.write.get(), .keys = keys_memory_.get()});
}

void Group::start_child(int index, Ties ties) {
  Child& started = child(index);
  Ends status = make_pipe();
  Ends output = make_pipe();
  ties.status = status.write.get();
  ties.parent_pid = getpid();
  Inheritance inheritance{.output = output.write.get(), .colour = colours()};
  for (const int fd : {ties.channel, ties.group, ties.status, ties.keys}) {
    if (fd >= 0) inheritance.descriptors.push_back(fd);
  }
  const bool router = index == decisions_.router();
  const Command command = router ? plan_.router_command(ties) : plan_.shard_command(index, ties);
  started.pid = spawn(command, inheritance);
  started.status = std::move(status.read);
  started.output = std::move(output.read);
}

int Group::run() {
  while (!decisions_.over()) {
    if (decisions_.starting()) display_.show(decisions_.progress(), decisions_.doing());
    wait_for_events();
    read_outputs();
    read_statuses();
    signals_.read_all([&](int signal) { take_signal(signal); });
    reap();
    decisions_.time_passed(Clock::now());
    carry_out();
  }
  display_.hide();
  return decisions_.exit_code();
}

void Group::take_signal(int signal) {
  if (signal == SIGCHLD) return;  // reap() looks at every child anyway
  const bool again = std::exchange(asked_to_end_, true);
  display_.hide();
  if (!again) {
    process::log_info("{}: ending; running requests may finish, Ctrl-C once more ends at once",
                      strsignal(signal));
  }
  decisions_.asked_to_end(again && signal == SIGINT, Clock::now());
}

void Group::wait_for_events() {
  std::vector<pollfd> polled = {{.fd = signals_.fd(), .events = POLLIN, .revents = 0}};
  for (const Child& one : children_) {
    for (const Descriptor* fd : {&one.status, &one.output}) {
      if (fd->open()) polled.push_back({.fd = fd->get(), .events = POLLIN, .revents = 0});
    }
  }
  int timeout_ms = -1;
  if (const auto deadline = decisions_.deadline()) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(*deadline - Clock::now());
    timeout_ms = static_cast<int>(std::max<int64_t>(left.count(), 0));
  }
  const int ready = poll(polled.data(), polled.size(), timeout_ms);
  assert(ready >= 0 || errno == EINTR);
}

void Group::read_outputs() {
  for (Child& one : children_) {
    const auto lines = read_lines(one.output, one.output_lines);
    if (lines.empty()) continue;
    display_.hide();
    for (const std::string& line : lines) std::fputs((line + '\n').c_str(), stderr);
    std::fflush(stderr);
  }
}

void Group::read_statuses() {
  for (int index = 0; index < decisions_.children(); ++index) {
    for (const std::string& line : read_lines(child(index).status, child(index).status_lines)) {
      if (const auto status = process::parse_status(line)) {
        decisions_.told(index, *status, Clock::now());
      } else {
        process::log_warn("{} says '{}', which is no status", decisions_.name(index), line);
      }
    }
  }
}

// All children that have ended are collected before the first of them is told to the state
// machine, with everybody's last words read in between: where one failure pulled others along, the
// one that said why counts.
void Group::reap() {
  std::vector<std::pair<int, Ended>> gone;
  for (int index = 0; index < decisions_.children(); ++index) {
    int status = 0;
    if (child(index).pid == 0 || waitpid(child(index).pid, &status, WNOHANG) <= 0) continue;
    child(index).pid = 0;
    const bool by_signal = WIFSIGNALED(status);
    gone.emplace_back(index, Ended{.by_signal = by_signal,
                                   .code = by_signal ? WTERMSIG(status) : WEXITSTATUS(status)});
  }
  if (gone.empty()) return;
  read_outputs();
  read_statuses();
  for (const auto& [index, how] : gone) decisions_.ended(index, how, Clock::now());
}

void Group::carry_out() {
  for (const Action& action : decisions_.take_actions()) {
    switch (action.kind) {
      case Action::Kind::signal_child:
        if (child(action.child).pid != 0) kill(child(action.child).pid, action.signal);
        break;
      case Action::Kind::abort_group:
        abort_group(group_memory_.get());
        break;
      case Action::Kind::announce_ready:
        display_.hide();
        plan_.on_ready(action.text);
        break;
      case Action::Kind::report:
        report(action);
        break;
    }
  }
}

void Group::report(const Action& action) {
  display_.hide();
  if (action.child < 0) {
    process::log_error("{}", action.text);
    return;
  }
  const auto& lines = child(action.child).output_lines.kept();
  process::log_error("{}; {}", action.text,
                     lines.empty() ? "it has written nothing" : "its last lines:");
  for (const std::string& line : lines) process::log_error("  {}", line);
}

}  // namespace

int supervise(const GroupPlan& plan) {
  Group group(plan);
  group.start();
  return group.run();
}

}  // namespace chorus::launcher
