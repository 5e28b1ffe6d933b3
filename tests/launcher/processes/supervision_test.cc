#include "launcher/processes/supervision.h"

#include <catch2/catch.hpp>
#include <csignal>

namespace chorus::launcher {
namespace {

using namespace std::chrono_literals;

constexpr Supervision::Time kStart{};
constexpr Ended kExitZero{};

// "TERM router", "abort", ... of the actions since the last call.
std::vector<std::string> actions(Supervision& supervision) {
  std::vector<std::string> texts;
  for (const Action& action : supervision.take_actions()) {
    switch (action.kind) {
      case Action::Kind::signal_child:
        texts.push_back((action.signal == SIGTERM ? "TERM " : "KILL ") +
                        supervision.name(action.child));
        break;
      case Action::Kind::abort_group:
        texts.emplace_back("abort");
        break;
      case Action::Kind::announce_ready:
        texts.push_back("ready " + action.text);
        break;
      case Action::Kind::report:
        texts.push_back("report " + action.text);
        break;
    }
  }
  return texts;
}

using Texts = std::vector<std::string>;

Supervision serving(int shards) {
  Supervision supervision(shards, 90s);
  supervision.told(supervision.router(), process::Ready{.detail = "a:1"}, kStart);
  CHECK(actions(supervision) == Texts{"ready a:1"});
  return supervision;
}

}  // namespace

TEST_CASE("progress is the mean over the shards, the word that of the slowest") {
  Supervision supervision(2, 90s);
  CHECK(supervision.doing() == "starting");
  supervision.told(0, process::Progress{.fraction = 0.5, .what = "loading"}, kStart);
  supervision.told(1, process::Progress{.fraction = 0.1, .what = "opening"}, kStart);
  CHECK(supervision.progress() == Approx(0.3));
  CHECK(supervision.doing() == "opening");
  supervision.told(0, process::Ready{}, kStart);
  supervision.told(1, process::Ready{}, kStart);
  supervision.told(2, process::Progress{.fraction = 0.1, .what = "warming up"}, kStart);
  CHECK(supervision.progress() == 1);
  CHECK(supervision.doing() == "warming up");
}

TEST_CASE("asked to end, the router finishes first and the shards follow") {
  Supervision supervision = serving(2);
  supervision.asked_to_end(false, kStart);
  CHECK(actions(supervision) == Texts{"TERM router"});
  supervision.ended(2, kExitZero, kStart + 10s);
  CHECK(actions(supervision) == Texts{"TERM shard 0", "TERM shard 1"});
  supervision.ended(0, kExitZero, kStart + 11s);
  CHECK_FALSE(supervision.over());
  supervision.ended(1, kExitZero, kStart + 11s);
  CHECK(supervision.over());
  CHECK(supervision.exit_code() == 0);
}

TEST_CASE("a router that does not finish in time is killed with the shards") {
  Supervision supervision = serving(1);
  supervision.asked_to_end(false, kStart);
  actions(supervision);
  REQUIRE(supervision.deadline() == kStart + 95s);
  supervision.time_passed(kStart + 94s);
  CHECK(actions(supervision).empty());
  supervision.time_passed(kStart + 95s);
  CHECK(actions(supervision) == Texts{"report the router has not ended in time and is killed",
                                      "KILL shard 0", "KILL router"});
  supervision.ended(1, {.by_signal = true, .code = SIGKILL}, kStart + 95s);
  supervision.ended(0, {.by_signal = true, .code = SIGKILL}, kStart + 95s);
  CHECK(supervision.over());
  CHECK(supervision.exit_code() == 0);
}

TEST_CASE("a second request to end, at once, kills everything") {
  Supervision supervision = serving(1);
  supervision.asked_to_end(false, kStart);
  actions(supervision);
  supervision.asked_to_end(false, kStart);
  CHECK(actions(supervision).empty());
  supervision.asked_to_end(true, kStart);
  CHECK(actions(supervision) == Texts{"KILL shard 0", "KILL router"});
  CHECK(supervision.exit_code() == 0);
}

TEST_CASE("asked to end while starting, nothing waits for streams") {
  Supervision supervision(1, 90s);
  supervision.asked_to_end(false, kStart);
  CHECK(actions(supervision) == Texts{"TERM router"});
  CHECK(supervision.deadline() == kStart + 5s);
  // It had no handler yet.
  supervision.ended(1, {.by_signal = true, .code = SIGTERM}, kStart);
  CHECK(actions(supervision) == Texts{"TERM shard 0"});
  supervision.ended(0, {.by_signal = true, .code = SIGTERM}, kStart);
  CHECK(supervision.over());
  CHECK(supervision.exit_code() == 0);
}

TEST_CASE("a child that fails to start gives its message and code to the group") {
  Supervision supervision(2, 90s);
  supervision.told(1, process::Failed{.exit_code = 65, .message = "cut file"}, kStart);
  CHECK(actions(supervision) == Texts{"report shard 1 cannot start: cut file", "abort",
                                      "TERM shard 0", "TERM shard 1", "TERM router"});
  supervision.ended(1, {.code = 65}, kStart);
  supervision.ended(0, {.code = 70}, kStart);
  supervision.ended(2, kExitZero, kStart);
  CHECK(actions(supervision).empty());
  CHECK(supervision.over());
  CHECK(supervision.exit_code() == 65);
}

TEST_CASE("a child that ends while starting without a word keeps a code of the table") {
  for (const auto& [how, expected] : {std::pair{Ended{.code = 2}, 2},
                                      {Ended{.code = 69}, 69},
                                      {Ended{.code = 3}, 70},
                                      {Ended{.code = 0}, 70},
                                      {Ended{.by_signal = true, .code = 2}, 70}}) {
    Supervision supervision(1, 90s);
    supervision.ended(0, how, kStart);
    CHECK(supervision.exit_code() == expected);
  }
}

TEST_CASE("a shard that dies while serving aborts the group and ends it within two seconds") {
  Supervision supervision = serving(2);
  supervision.ended(1, {.by_signal = true, .code = SIGKILL}, kStart);
  CHECK(actions(supervision) == Texts{"report shard 1 was killed by signal 9 (Killed)", "abort",
                                      "TERM shard 0", "TERM router"});
  CHECK(supervision.deadline() == kStart + 2s);
  supervision.ended(0, {.code = 70}, kStart + 1s);
  CHECK(actions(supervision).empty());
  supervision.time_passed(kStart + 2s);
  CHECK(actions(supervision) == Texts{"KILL router"});
  supervision.ended(2, {.by_signal = true, .code = SIGKILL}, kStart + 2s);
  CHECK(supervision.over());
  CHECK(supervision.exit_code() == 70);
}

TEST_CASE("a child that ends unasked is a fault even with exit code 0, and while draining") {
  Supervision router_gone = serving(1);
  router_gone.ended(1, kExitZero, kStart);
  CHECK(router_gone.exit_code() == 70);
  Supervision shard_gone = serving(1);
  shard_gone.asked_to_end(false, kStart);
  shard_gone.ended(0, kExitZero, kStart);
  CHECK(shard_gone.exit_code() == 70);
}

TEST_CASE("a process that SIGKILL does not end is left behind rather than waited for") {
  Supervision supervision = serving(1);
  supervision.asked_to_end(true, kStart);
  actions(supervision);
  supervision.time_passed(kStart + 10s);
  CHECK(supervision.over());
  CHECK(supervision.exit_code() == 70);
}

}  // namespace chorus::launcher
