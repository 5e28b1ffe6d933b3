// Runs a kernel under every answer that a GPU may give to what CUDA leaves open, and expects the
// same bits from all of them. Memory is the host's: a View may point into a std::vector.
#pragma once

#include <catch2/catch.hpp>
#include <cstring>
#include <limits>
#include <vector>

#ifdef CHORUS_ON_DEVICE
#include <cuda_runtime_api.h>
#else
#include "kernels/emulate/emulate.h"
#endif

namespace chorus::tests {

#ifdef CHORUS_ON_DEVICE

// The same tests on a GPU (device_main.cc): twice, with the same bits.
template <class Run>
void under_all_schedules(std::vector<float>& out, const Run& run) {
  std::vector<float> first;
  for (int i = 0; i < 2; ++i) {
    out.assign(out.size(), std::numeric_limits<float>::quiet_NaN());
    run();
    REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
    if (first.empty()) first = out;
    CHECK(std::memcmp(first.data(), out.data(), out.size() * sizeof(float)) == 0);
  }
}

#else

inline std::vector<emulate::Settings> schedules() {
  std::vector<emulate::Settings> all;
  for (const auto order : {emulate::Order::forward, emulate::Order::reverse, emulate::Order::greedy,
                           emulate::Order::shuffled}) {
    for (const auto copies : {emulate::Copies::early, emulate::Copies::late}) {
      all.push_back({.order = order, .copies = copies, .seed = 7});
    }
  }
  return all;
}

// `run` fills `out` (which comes poisoned with NaN); its bits under the first schedule are left
// there. Under sanitizers one schedule of each order is enough.
template <class Run>
void under_all_schedules(std::vector<float>& out, const Run& run) {
  std::vector<float> first;
  for (const auto& schedule : schedules()) {
    emulate::settings = schedule;
    out.assign(out.size(), std::numeric_limits<float>::quiet_NaN());
    run();
    if (first.empty()) first = out;
    CHECK(std::memcmp(first.data(), out.data(), out.size() * sizeof(float)) == 0);
  }
  emulate::settings = {};
  out = first;
}

#endif

}  // namespace chorus::tests
