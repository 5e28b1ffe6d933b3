// Tests the tester on the protocol of kernels/cuda/one_shot.cu: the same in small, with numbers
// instead of rows, and one planted fault each.
#include <catch2/catch.hpp>
#include <vector>

#include "kernels/cuda/ptx.h"
#include "tests/emulation/faults.h"

namespace chorus::kernels::cuda {
namespace {

using tests::check_found;
using tests::every_build;
using tests::tsan;

constexpr int kDevices = 3, kBlocks = 2, kThreads = 64, kRegion = 256;

struct Peers {
  int* buffers[kDevices];     // [buffer][block][kRegion]
  uint32_t* flags[kDevices];  // [block][from device] on each
};

enum class Fault {
  none,
  one_buffer,
  regions_by_shape,  // where a block's numbers stand depends on how many a launch has
  count_not_advanced,
  no_barrier_before_flag,
  no_release,
  no_wait,
  no_acquire,
  no_barrier_behind_wait
};

template <Fault fault>
__device__ void publish(uint32_t* flag, uint32_t epoch) {
  if (fault == Fault::no_release) {
    atomicExch(flag, epoch);
    emulate::note_progress();
  } else {
    ptx::store_release<ptx::Scope::system>(flag, epoch);
  }
}

template <Fault fault>
__device__ void await(const uint32_t* flag, uint32_t epoch) {
  if (fault == Fault::no_wait) return;
  if (fault == Fault::no_acquire) {
    emulate::wait_until([&] { return __atomic_load_n(flag, __ATOMIC_RELAXED) >= epoch; },
                        emulate::Where::current());
  } else {
    ptx::wait_for_flag<ptx::Scope::system>(flag, epoch);
  }
}

// out[block][i] = the sum over devices of what each has there; `count` a block.
template <Fault fault>
__global__ void sum_kernel(int* out, Peers peers, uint32_t* epochs, int own, int count, int round) {
  ptx::wait_for_predecessor();
  const int block = blockIdx.x;
  const uint32_t epoch = epochs[block] + 1;
  const int buffer = fault == Fault::one_buffer ? 0 : epoch % 2;
  const int region =
      buffer * kBlocks * kRegion + block * (fault == Fault::regions_by_shape ? count : kRegion);
  for (int i = threadIdx.x; i < count; i += kThreads)
    peers.buffers[own][region + i] = (own + 1) * (round * 1000 + block * count + i);
  if (fault != Fault::no_barrier_before_flag) __syncthreads();
  if (threadIdx.x < kDevices) {
    publish<fault>(&peers.flags[threadIdx.x][block * kDevices + own], epoch);
    await<fault>(&peers.flags[own][block * kDevices + threadIdx.x], epoch);
  }
  if (fault != Fault::no_barrier_behind_wait) __syncthreads();
  if (fault != Fault::count_not_advanced && threadIdx.x == 0) epochs[block] = epoch;
  for (int i = threadIdx.x; i < count; i += kThreads) {
    int sum = 0;
    for (int device = 0; device < kDevices; ++device) sum += peers.buffers[device][region + i];
    out[block * count + i] = sum;
  }
}

struct Round {
  int blocks, count;
};
// One block goes ahead of the other, and a launch of one block takes as much as two had.
constexpr Round kRounds[] = {{1, 64}, {2, 128}, {1, 256}, {1, 256}, {2, 64}, {2, 128}, {1, 64}};

template <Fault fault>
bool sums_are_right() {
  std::vector<int> buffers[kDevices];
  std::vector<uint32_t> flags[kDevices], epochs[kDevices];
  std::vector<std::vector<int>> out[kDevices];
  Peers peers;
  for (int device = 0; device < kDevices; ++device) {
    buffers[device].assign(2 * kBlocks * kRegion, -1);
    flags[device].assign(kBlocks * kDevices, 0);
    epochs[device].assign(kBlocks, 0);
    for (const Round& round : kRounds) out[device].emplace_back(round.blocks * round.count, -1);
    peers.buffers[device] = buffers[device].data();
    peers.flags[device] = flags[device].data();
  }
  std::vector<std::function<void()>> devices;
  for (int device = 0; device < kDevices; ++device) {
    devices.push_back([&, device] {
      for (int round = 0; round < int(std::size(kRounds)); ++round) {
        launch_together(sum_kernel<fault>, dim3(kRounds[round].blocks), dim3(kThreads), 0, nullptr,
                        out[device][round].data(), peers, epochs[device].data(), device,
                        kRounds[round].count, round);
      }
    });
  }
  emulate::run_together(devices);
  for (const auto& rounds : out) {
    for (int round = 0; round < int(rounds.size()); ++round) {
      for (int i = 0; i < int(rounds[round].size()); ++i) {
        if (rounds[round][i] != 6 * (round * 1000 + i)) return false;
      }
    }
  }
  return true;
}

TEST_CASE("the one-shot protocol without a fault ends well in every build") {
  CHECK(tests::outcome(sums_are_right<Fault::none>) == "right");
}

TEST_CASE("planted faults of the one-shot protocol are found") {
  check_found("one buffer", every_build, sums_are_right<Fault::one_buffer>);
  check_found("regions that move with the shape", every_build,
              sums_are_right<Fault::regions_by_shape>);
  check_found("count of rounds not advanced", every_build,
              sums_are_right<Fault::count_not_advanced>);
  check_found("no barrier before the flag", every_build,
              sums_are_right<Fault::no_barrier_before_flag>);
  check_found("flag set without release", tsan, sums_are_right<Fault::no_release>);
  check_found("flag not waited for, in rounds", every_build, sums_are_right<Fault::no_wait>);
  check_found("flag seen without acquire", tsan, sums_are_right<Fault::no_acquire>);
  check_found("no barrier behind the wait", every_build,
              sums_are_right<Fault::no_barrier_behind_wait>);
}

}  // namespace
}  // namespace chorus::kernels::cuda
