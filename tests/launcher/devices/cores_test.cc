#include "launcher/devices/cores.h"

#include <sched.h>

#include <catch2/catch.hpp>

namespace chorus::launcher {

TEST_CASE("a CPU quota counts in whole cores, at least one") {
  CHECK(cores_of_cpu_max("400000 100000\n") == 4);
  CHECK(cores_of_cpu_max("150000 100000\n") == 1);
  CHECK(cores_of_cpu_max("20000 100000\n") == 1);
  CHECK_FALSE(cores_of_cpu_max("max 100000\n"));
  CHECK_FALSE(cores_of_cpu_max(""));
  CHECK(cores_of_quota("250000\n", "100000\n") == 2);
  CHECK_FALSE(cores_of_quota("-1\n", "100000\n"));
}

TEST_CASE("no more cores are used than the affinity mask allows") {
  cpu_set_t before;
  REQUIRE(sched_getaffinity(0, sizeof before, &before) == 0);
  CHECK(usable_cores() >= 1);
  CHECK(usable_cores() <= CPU_COUNT(&before));
  cpu_set_t one;
  CPU_ZERO(&one);
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(core, &before)) {
      CPU_SET(core, &one);
      break;
    }
  }
  REQUIRE(sched_setaffinity(0, sizeof one, &one) == 0);
  CHECK(usable_cores() == 1);
  sched_setaffinity(0, sizeof before, &before);
}

}  // namespace chorus::launcher
