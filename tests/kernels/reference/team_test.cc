#include "kernels/reference/team.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <stdexcept>

using namespace chorus::kernels::reference;

TEST_CASE("all workers of a team run each job, and none passes a barrier alone") {
  Team team(3);
  std::atomic<int> before = 0;
  for (int job = 1; job <= 200; ++job) {
    std::atomic<bool> early = false;
    team.run([&](int) {
      ++before;
      team.barrier();
      if (before != 3 * job) early = true;
      team.barrier();
    });
    REQUIRE(!early);
  }
}

TEST_CASE("what a worker throws reaches the caller, and the team goes on") {
  for (const int thrower : {0, 2}) {
    Team team(3);
    const auto failing = [&](int worker) {
      if (worker == thrower) throw std::runtime_error("out of paper");
      team.barrier();
    };
    CHECK_THROWS_WITH(team.run(failing), "out of paper");
    int sum = 0;
    team.run([&](int worker) {
      for (int turn = 0; turn < 3; ++turn) {
        if (turn == worker) sum += worker;
        team.barrier();
      }
    });
    CHECK(sum == 3);
  }
}

TEST_CASE("shares cover everything once") {
  for (const int64_t count : {0, 1, 2, 3, 17}) {
    int64_t next = 0;
    for (int worker = 0; worker < 3; ++worker) {
      const auto part = share(count, worker, 3);
      CHECK(part.begin == next);
      next = part.end;
    }
    CHECK(next == count);
  }
}
