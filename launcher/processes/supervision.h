// The launcher's decisions, without processes: it is told what happened and answers with what to
// do. supervise.cc feeds it and carries the actions out.
//
//   starting --router ready--> serving --asked to end--> draining --router ended--> closing
//      any child fails or ends unasked: aborting, then over when all have ended
//
// Draining lets the router finish its streams before the shards are asked to end. Aborting ends all
// at once, softly for two seconds (clients get an error instead of a cut) and then by SIGKILL.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "process/status_pipe.h"

namespace chorus::launcher {

struct Ended {
  bool by_signal = false;
  int code = 0;  // exit status, or the signal
};

// What to do. The children are numbered: the shards by rank, then the router.
struct Action {
  enum class Kind { signal_child, abort_group, announce_ready, report } kind;
  int child = -1;         // signal_child; report: whose last lines belong to it, -1: nobody's
  int signal = 0;         // signal_child
  std::string text = {};  // announce_ready: the address; report: the message
};

class Supervision {
 public:
  using Time = std::chrono::steady_clock::time_point;
  using Duration = std::chrono::steady_clock::duration;

  // `drain`: how long the router may take to end after having been asked.
  Supervision(int shards, Duration drain);

  int children() const { return shards_ + 1; }
  int router() const { return shards_; }
  std::string name(int child) const;  // "shard 0", "router"

  // What happened. Of a child that has ended, its last statuses are told first.
  void told(int child, const process::Status& status, Time now);
  void ended(int child, Ended how, Time now);
  void asked_to_end(bool at_once, Time now);
  void time_passed(Time now);

  std::vector<Action> take_actions();
  std::optional<Time> deadline() const { return deadline_; }  // when to call time_passed
  bool over() const;  // all children have ended, or cannot be ended
  int exit_code() const { return exit_code_; }

  bool starting() const { return phase_ == Phase::starting; }
  double progress() const;    // of the start: mean over the shards
  std::string doing() const;  // what the slowest is at

 private:
  enum class Phase { starting, serving, draining, closing, aborting, given_up };
  struct Child {
    double progress = 0;
    std::string doing;
    bool ended = false;
  };

  void fail(int exit_code, std::string message, int child, Time now);
  void start_closing(Time now);
  void signal_all(int signal);

  int shards_;
  Duration drain_;
  Phase phase_ = Phase::starting;
  std::vector<Child> all_;
  std::vector<Action> actions_;
  std::optional<Time> deadline_;
  bool killed_ = false;
  int exit_code_ = 0;
};

// "was killed by signal 9 (Killed)", "ended with exit code 3"
std::string describe(Ended how);

}  // namespace chorus::launcher
