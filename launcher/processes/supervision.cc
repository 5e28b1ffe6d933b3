// The launcher's state machine.
#include "launcher/processes/supervision.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstring>
#include <utility>

#include "process/exit_codes.h"

namespace chorus::launcher {
namespace {

using process::ExitCode;
using namespace std::chrono_literals;

constexpr auto kAbortGrace = 2s;
constexpr auto kShardGrace = 5s;
constexpr auto kRouterGrace = 5s;  // beyond the time its streams may take
// After SIGKILL. Only a process that hangs in the kernel takes longer; it is left to init.
constexpr auto kReapGrace = 10s;

// The exit code of the group for a child that ended with `code` while starting: the child's own
// where the table of exit codes has it.
int start_code(Ended how) {
  constexpr std::array kTable = {ExitCode::usage, ExitCode::model_corrupt, ExitCode::model_missing,
                                 ExitCode::unavailable};
  const bool known = !how.by_signal && std::any_of(kTable.begin(), kTable.end(), [&](ExitCode c) {
    return static_cast<int>(c) == how.code;
  });
  return known ? how.code : static_cast<int>(ExitCode::fault);
}

}  // namespace

std::string describe(Ended how) {
  if (!how.by_signal) return fmt::format("ended with exit code {}", how.code);
  const char* name = strsignal(how.code);
  return fmt::format("was killed by signal {} ({})", how.code, name != nullptr ? name : "unknown");
}

Supervision::Supervision(int shards, Duration drain)
    : shards_(shards), drain_(drain), all_(static_cast<size_t>(shards) + 1) {}

std::string Supervision::name(int child) const {
  return child == router() ? "router" : fmt::format("shard {}", child);
}

void Supervision::told(int child, const process::Status& status, Time now) {
  Child& who = all_[static_cast<size_t>(child)];
  if (const auto* progress = std::get_if<process::Progress>(&status)) {
    who.progress = progress->fraction;
    who.doing = progress->what;
  } else if (const auto* ready = std::get_if<process::Ready>(&status)) {
    who.progress = 1;
    if (child == router() && phase_ == Phase::starting) {
      phase_ = Phase::serving;
      actions_.push_back({.kind = Action::Kind::announce_ready, .text = ready->detail});
    }
  } else if (const auto* failed = std::get_if<process::Failed>(&status)) {
    const bool starts = phase_ == Phase::starting;
    if (!starts && phase_ != Phase::serving && phase_ != Phase::draining) return;
    fail(starts ? failed->exit_code : static_cast<int>(ExitCode::fault),
         fmt::format("{} {}: {}", name(child), starts ? "cannot start" : "failed", failed->message),
         -1, now);
  }
}

void Supervision::ended(int child, Ended how, Time now) {
  all_[static_cast<size_t>(child)].ended = true;
  const bool asked = phase_ == Phase::draining && child == router();
  switch (phase_) {
    case Phase::starting:
      fail(start_code(how), fmt::format("{} {} while starting", name(child), describe(how)), child,
           now);
      break;
    case Phase::serving:
    case Phase::draining:
      if (asked && (how.by_signal ? how.code == SIGTERM : how.code == 0)) {
        start_closing(now);
      } else {
        fail(static_cast<int>(ExitCode::fault), fmt::format("{} {}", name(child), describe(how)),
             child, now);
      }
      break;
    case Phase::closing:
    case Phase::aborting:
    case Phase::given_up:
      break;
  }
}

void Supervision::asked_to_end(bool at_once, Time now) {
  if (at_once && phase_ != Phase::given_up) {
    if (phase_ != Phase::aborting) phase_ = Phase::closing;
    signal_all(SIGKILL);
    killed_ = true;
    deadline_ = now + kReapGrace;
    return;
  }
  if (phase_ != Phase::starting && phase_ != Phase::serving) return;
  // While starting there is no stream to wait for.
  const Duration streams = phase_ == Phase::serving ? drain_ : Duration{};
  phase_ = Phase::draining;
  actions_.push_back({.kind = Action::Kind::signal_child, .child = router(), .signal = SIGTERM});
  deadline_ = now + streams + kRouterGrace;
}

void Supervision::time_passed(Time now) {
  if (!deadline_ || now < *deadline_ || over()) return;
  if (killed_) {
    phase_ = Phase::given_up;
    exit_code_ = static_cast<int>(ExitCode::fault);
    deadline_.reset();
    actions_.push_back({.kind = Action::Kind::report,
                        .text = "a child does not end after SIGKILL; leaving it to the system"});
    return;
  }
  if (phase_ == Phase::draining) {
    actions_.push_back(
        {.kind = Action::Kind::report, .text = "the router has not ended in time and is killed"});
    phase_ = Phase::closing;
  }
  signal_all(SIGKILL);
  killed_ = true;
  deadline_ = now + kReapGrace;
}

std::vector<Action> Supervision::take_actions() {
  return std::exchange(actions_, {});
}

bool Supervision::over() const {
  return phase_ == Phase::given_up ||
         std::all_of(all_.begin(), all_.end(), [](const Child& child) { return child.ended; });
}

double Supervision::progress() const {
  double sum = 0;
  for (int shard = 0; shard < shards_; ++shard) sum += all_[static_cast<size_t>(shard)].progress;
  return sum / shards_;
}

std::string Supervision::doing() const {
  const auto slowest =
      std::min_element(all_.begin(), all_.end() - 1,
                       [](const Child& a, const Child& b) { return a.progress < b.progress; });
  const bool router_next = slowest->progress == 1 && !all_.back().doing.empty();
  const std::string& what = router_next ? all_.back().doing : slowest->doing;
  return what.empty() ? "starting" : what;
}

void Supervision::fail(int exit_code, std::string message, int child, Time now) {
  phase_ = Phase::aborting;
  exit_code_ = exit_code;
  actions_.push_back({.kind = Action::Kind::report, .child = child, .text = std::move(message)});
  if (shards_ > 1) actions_.push_back({.kind = Action::Kind::abort_group});
  signal_all(SIGTERM);
  deadline_ = now + kAbortGrace;
}

void Supervision::start_closing(Time now) {
  phase_ = Phase::closing;
  signal_all(SIGTERM);
  deadline_ = now + kShardGrace;
}

void Supervision::signal_all(int signal) {
  for (int child = 0; child < children(); ++child) {
    if (all_[static_cast<size_t>(child)].ended) continue;
    actions_.push_back({.kind = Action::Kind::signal_child, .child = child, .signal = signal});
  }
}

}  // namespace chorus::launcher
