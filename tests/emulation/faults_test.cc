// Tests the tester: small kernels with one planted fault each. In a right kernel of this file
// thread i writes its right neighbour's number, (i + 1) % 128, to out[i].
#include "tests/emulation/faults.h"

#include <catch2/catch.hpp>
#include <numeric>
#include <vector>

#include "kernels/cuda/ptx.h"

#if defined(__SANITIZE_THREAD__)
// A process that has something to report waits for a second else.
extern "C" const char* __tsan_default_options();
extern "C" const char* __tsan_default_options() {
  return "atexit_sleep_ms=0";
}
#endif

namespace chorus::kernels::cuda {
namespace {

using tests::asan;
using tests::check_found;
using tests::every_build;
using tests::plain;
using tests::tsan;

constexpr int kThreads = 128;

struct Shared {
  __align__(16) int cell[kThreads];
};

__device__ int right_neighbour() {
  return (threadIdx.x + 1) % kThreads;
}

// Brings in[] to shared memory, each of the first 32 threads 16 bytes.
__device__ void begin_copies(Shared& shared, const int* in) {
  if (threadIdx.x < kThreads / 4)
    ptx::copy_async_16(&shared.cell[threadIdx.x * 4], in + threadIdx.x * 4);
  ptx::commit_copies();
}

__global__ void correct(int* out, const int* in) {
  Shared& shared = shared_memory<Shared>();
  ptx::wait_for_predecessor();
  begin_copies(shared, in);
  ptx::wait_copies<0>();
  __syncthreads();
  out[threadIdx.x] = shared.cell[right_neighbour()];
}
__global__ void missing_barrier(int* out, const int*) {
  Shared& shared = shared_memory<Shared>();
  ptx::wait_for_predecessor();
  shared.cell[threadIdx.x] = threadIdx.x;
  out[threadIdx.x] = shared.cell[right_neighbour()];
}
__global__ void missing_barrier_before_reuse(int* out, const int*) {
  Shared& shared = shared_memory<Shared>();
  ptx::wait_for_predecessor();
  for (int round = 0; round < 2; ++round) {
    shared.cell[threadIdx.x] = threadIdx.x * (1 + round);
    __syncthreads();
    int value = shared.cell[right_neighbour()];
    if (round == 0) out[threadIdx.x] = value;
  }
}
__global__ void missing_syncwarp(int* out, const int*) {
  Shared& shared = shared_memory<Shared>();
  ptx::wait_for_predecessor();
  shared.cell[threadIdx.x] = threadIdx.x;
  __shfl_xor_sync(~0u, 0, 1);  // brings the warp together but orders no memory
  out[threadIdx.x] = shared.cell[threadIdx.x ^ 1] - (threadIdx.x ^ 1) + right_neighbour();
}
__global__ void lost_update(int* out, const int*) {
  Shared& shared = shared_memory<Shared>();
  ptx::wait_for_predecessor();
  if (threadIdx.x == 0) shared.cell[0] = 0;
  __syncthreads();
  shared.cell[0] += 1;
  __syncthreads();
  out[threadIdx.x] = shared.cell[0] - kThreads + right_neighbour();
}
__global__ void copy_not_waited_for(int* out, const int* in) {
  Shared& shared = shared_memory<Shared>();
  ptx::wait_for_predecessor();
  begin_copies(shared, in);
  __syncthreads();
  out[threadIdx.x] = shared.cell[right_neighbour()];
}
__global__ void copy_waited_for_without_barrier(int* out, const int* in) {
  Shared& shared = shared_memory<Shared>();
  ptx::wait_for_predecessor();
  begin_copies(shared, in);
  ptx::wait_copies<0>();
  out[threadIdx.x] = shared.cell[right_neighbour()];
}
// The blocks meet barriers of their own first: these must not order one block after the other.
__global__ void blocks_write_the_same(int* out, const int*) {
  ptx::wait_for_predecessor();
  __syncthreads();
  if (blockIdx.x == 0) out[threadIdx.x] = right_neighbour();
  if (blockIdx.x == 1) out[threadIdx.x] = right_neighbour();
  __syncthreads();
}
// Of so many that not each has ThreadSanitizer's threads to itself (take_block in emulate.cc).
__global__ void every_16th_block_writes_the_same(int* out, const int*) {
  ptx::wait_for_predecessor();
  __syncthreads();
  if (blockIdx.x % 16 == 5) out[threadIdx.x] = right_neighbour();
  __syncthreads();
}
__global__ void one_past_shared(int* out, const int*) {
  Shared& shared = shared_memory<Shared>();
  ptx::wait_for_predecessor();
  shared.cell[threadIdx.x + 1] = threadIdx.x + 1;
  __syncthreads();
  out[threadIdx.x] = right_neighbour();
}
__global__ void one_past_global(int* out, const int* in) {
  ptx::wait_for_predecessor();
  out[threadIdx.x] = min(in[threadIdx.x + 1], 0) + right_neighbour();
}
__global__ void shared_never_written(int* out, const int*) {
  Shared& shared = shared_memory<Shared>();
  ptx::wait_for_predecessor();
  out[threadIdx.x] = right_neighbour() + (shared.cell[threadIdx.x] != 0);
}
__global__ void divergent_barrier(int* out, const int*) {
  ptx::wait_for_predecessor();
  if (threadIdx.x < 64) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  out[threadIdx.x] = right_neighbour();
}
__global__ void lanes_missing_from_shuffle(int* out, const int*) {
  ptx::wait_for_predecessor();
  int value = right_neighbour();
  if (threadIdx.x % 32 < 16) value = __shfl_sync(~0u, value, threadIdx.x % 32);
  __syncthreads();
  out[threadIdx.x] = value;
}
__global__ void lanes_missing_from_sum(int* out, const int*) {
  ptx::wait_for_predecessor();
  int value = right_neighbour();
  if (threadIdx.x % 32 < 16) value += ptx::warp_sum(0);
  __syncthreads();
  out[threadIdx.x] = value;
}
__global__ void misaligned_vector(int* out, const int* in) {
  ptx::wait_for_predecessor();
  int4 value = *reinterpret_cast<const int4*>(in + 1);
  out[threadIdx.x] = right_neighbour() + min(value.x, 0);
}
__global__ void misaligned_streaming_load(int* out, const int* in) {
  ptx::wait_for_predecessor();
  const uint4 value = ptx::load_streaming_16(in + 1);
  out[threadIdx.x] = right_neighbour() + min(int(value.x), 0);
}
__global__ void predecessor_not_waited_for(int* out, const int*) {
  out[threadIdx.x] = right_neighbour();
}
// The first half hands over to the second half at barrier 1.
template <int arrivals>
__global__ void hand_over(int* out, const int*) {
  Shared& shared = shared_memory<Shared>();
  ptx::wait_for_predecessor();
  if (threadIdx.x < 64) {
    shared.cell[threadIdx.x] = threadIdx.x + 1;
    if (arrivals > 0) ptx::barrier_arrive(1, kThreads);
    if (arrivals > 1) ptx::barrier_arrive(1, kThreads);
    out[threadIdx.x] = right_neighbour();
  } else {
    ptx::barrier_sync(1, arrivals > 0 ? kThreads : 64);
    out[threadIdx.x] = shared.cell[threadIdx.x - 64] + 64;
    if (threadIdx.x == kThreads - 1) out[threadIdx.x] = 0;
  }
}

using Kernel = void (*)(int*, const int*);

bool is_right(Kernel kernel, int blocks = 1) {
  std::vector<int> in(kThreads), out(kThreads, -1), expected(kThreads);
  std::iota(in.begin(), in.end(), 0);
  for (int i = 0; i < kThreads; ++i) expected[i] = (i + 1) % kThreads;
  launch(kernel, dim3(blocks), dim3(kThreads), sizeof(Shared), nullptr, out.data(), in.data());
  return out == expected;
}

void check_kernel(const char* name, unsigned finders, Kernel kernel, int blocks = 1) {
  check_found(name, finders, [&] { return is_right(kernel, blocks); });
}

TEST_CASE("kernels without a fault end well in every build") {
  CHECK(tests::outcome([] { return is_right(correct); }) == "right");
  CHECK(tests::outcome([] { return is_right(hand_over<1>); }) == "right");
}

TEST_CASE("planted faults of order are found") {
  check_kernel("missing barrier", every_build, missing_barrier);
  check_kernel("missing barrier before reuse", every_build, missing_barrier_before_reuse);
  check_kernel("missing __syncwarp", tsan, missing_syncwarp);
  check_kernel("lost update", tsan, lost_update);
  check_kernel("copy not waited for", every_build, copy_not_waited_for);
  check_kernel("copy waited for, no barrier", every_build, copy_waited_for_without_barrier);
  check_kernel("two blocks write the same", tsan, blocks_write_the_same, 2);
  check_kernel("every 16th of 96 blocks writes the same", tsan, every_16th_block_writes_the_same,
               96);
  check_kernel("a named barrier that leaves the writers out", tsan, hand_over<0>);
}

TEST_CASE("planted faults of memory are found") {
  check_kernel("one past shared memory", asan, one_past_shared);
  check_kernel("one past global memory", asan, one_past_global);
  check_kernel("shared memory never written", every_build, shared_never_written);
  check_kernel("misaligned vector load", asan, misaligned_vector);
  check_kernel("misaligned streaming load", every_build, misaligned_streaming_load);
}

TEST_CASE("planted faults of meetings are found") {
  check_kernel("barrier in divergent code", every_build, divergent_barrier);
  check_kernel("lanes missing from shuffle", every_build, lanes_missing_from_shuffle);
  check_kernel("lanes missing from a warp's sum", every_build, lanes_missing_from_sum);
  check_kernel("two arrivals in one round", every_build, hand_over<2>);
  check_kernel("predecessor not waited for", every_build, predecessor_not_waited_for);
}

}  // namespace
}  // namespace chorus::kernels::cuda
