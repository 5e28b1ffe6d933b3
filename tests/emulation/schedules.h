// Runs a kernel under every answer that a GPU may give to what CUDA leaves open, and expects the
// same bits from all of them. Memory is the host's: a View may point into a std::vector.
#pragma once

#include <catch2/catch.hpp>
#include <cstring>
#include <limits>
#include <vector>

#ifdef CHORUS_ON_DEVICE
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <cuda_runtime_api.h>
#else
#include "kernels/emulate/emulate.h"
#endif

namespace chorus::tests {

#ifdef CHORUS_ON_DEVICE

// The same tests on a GPU (device_main.cc): there is one schedule, its own, and it is tried twice.
struct Schedule {};
inline std::vector<Schedule> schedules() {
  return std::vector<Schedule>(2);
}
inline void use(const Schedule&) {}
inline void wait_for_device() {
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
}

#else

#if defined(__has_feature)
#if __has_feature(address_sanitizer) && !defined(__SANITIZE_ADDRESS__)
#define __SANITIZE_ADDRESS__ 1
#endif
#if __has_feature(thread_sanitizer) && !defined(__SANITIZE_THREAD__)
#define __SANITIZE_THREAD__ 1
#endif
#endif

// All eight. Fewer under sanitizers, where one costs ten times as much and what they look for does
// not depend on the schedule.
using Schedule = emulate::Settings;
inline std::vector<Schedule> schedules() {
  using emulate::Copies;
  using emulate::Order;
  std::vector<Schedule> all = {{Order::greedy, Copies::late, 7},
                               {Order::reverse, Copies::early, 7}};
#if !defined(__SANITIZE_THREAD__)
  all.push_back({Order::forward, Copies::late, 7});
  all.push_back({Order::shuffled, Copies::early, 7});
#if !defined(__SANITIZE_ADDRESS__)
  all.push_back({Order::forward, Copies::early, 7});
  all.push_back({Order::shuffled, Copies::late, 7});
  all.push_back({Order::greedy, Copies::early, 7});
  all.push_back({Order::reverse, Copies::late, 7});
#endif
#endif
  return all;
}

inline void use(const Schedule& schedule) {
  emulate::settings = schedule;
}
inline void wait_for_device() {}

#endif

// `run` fills `out` (which comes poisoned with NaN); its bits under the first schedule are left
// there.
template <class Run>
void under_all_schedules(std::vector<float>& out, const Run& run) {
  std::vector<float> first;
  for (const auto& schedule : schedules()) {
    use(schedule);
    out.assign(out.size(), std::numeric_limits<float>::quiet_NaN());
    run();
    wait_for_device();
    if (first.empty()) first = out;
    CHECK(std::memcmp(first.data(), out.data(), out.size() * sizeof(float)) == 0);
  }
  use({});
  out = first;
}

}  // namespace chorus::tests
