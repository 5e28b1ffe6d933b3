// Tests the tester: a warpgroup that multiplies boxes from a ring of two, filled by TMA, with one
// planted fault each; and kernels that wait for other blocks and for predecessors.
#include <catch2/catch.hpp>
#include <vector>

#include "kernels/cuda/hopper.h"
#include "tests/emulation/faults.h"

namespace chorus::kernels::cuda {
namespace {

using tests::check_found;
using tests::every_build;
using tests::plain;
using tests::tsan;

enum class Fault {
  none,
  no_wait_before_release,
  inits_without_barrier,
  wrong_advance_along_k,
  wrong_layout_of_sums,
  no_wait_on_empty,
  no_wait_on_full,
  wrong_arrival_count,
  wrong_byte_count,
  wrong_parity,
  end_without_wait,
};

constexpr int kStages = 2, kSteps = 5, kBox = 64 * 128;

struct Shared {
  unsigned char a[kStages][kBox], b[kStages][kBox];
  hopper::Barrier full[kStages], empty[kStages];
};

template <Fault fault>
__device__ void load_boxes(Shared& shared, const CUtensorMap& a, const CUtensorMap& b) {
  using namespace hopper;
  constexpr int steps = kSteps + (fault == Fault::end_without_wait);
  for (int step = 0; step < steps; ++step) {
    const int stage = step % kStages, lap = step / kStages;
    const int parity = (lap + (fault != Fault::wrong_parity)) % 2;
    if (fault != Fault::no_wait_on_empty) wait(shared.empty[stage], parity);
    arrive_expecting(shared.full[stage], fault == Fault::wrong_byte_count ? kBox : 2 * kBox);
    load_box(shared.a[stage], a, step * 64, 0, shared.full[stage]);
    load_box(shared.b[stage], b, step * 64, 0, shared.full[stage]);
  }
}

template <Fault fault>
__device__ void multiply_boxes(Shared& shared, float* out) {
  using namespace hopper;
  float d[32];
  for (int step = 0; step < kSteps; ++step) {
    const int stage = step % kStages, lap = step / kStages;
    if (fault != Fault::no_wait_on_full) wait(shared.full[stage], lap % 2);
    begin_multiply();
    for (int k = 0; k < 4; ++k) {
      const int advance = fault == Fault::wrong_advance_along_k ? 1 : 2;
      multiply<__nv_bfloat16, 64>(
          d, matrix_descriptor(shared_address(shared.a[stage])) + k * advance,
          matrix_descriptor(shared_address(shared.b[stage])) + k * 2, step + k > 0);
    }
    commit_multiply();
    if (fault != Fault::no_wait_before_release) wait_multiply<0>();
    arrive(shared.empty[stage]);
  }
  wait_multiply<0>();
  for (int i = 0; i < 32; ++i) {
    const int half = fault == Fault::wrong_layout_of_sums ? i / 4 % 2 : i / 2 % 2;
    const int row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4 + half * 8;
    out[row * 64 + i / 4 * 8 + threadIdx.x % 4 * 2 + i % 2] = d[i];
  }
}

template <Fault fault>
__global__ void pipeline_kernel(float* out, const __grid_constant__ CUtensorMap a,
                                const __grid_constant__ CUtensorMap b) {
  Shared& shared = shared_memory<Shared>();
  ptx::wait_for_predecessor();
  if (threadIdx.x == 128) {
    for (int stage = 0; stage < kStages; ++stage) {
      hopper::init(shared.full[stage], 1);
      hopper::init(shared.empty[stage], fault == Fault::wrong_arrival_count ? 129 : 128);
    }
    hopper::publish_inits();
  }
  if (fault != Fault::inits_without_barrier) __syncthreads();
  if (threadIdx.x >= 128) {
    if (threadIdx.x == 128) load_boxes<fault>(shared, a, b);
  } else {
    multiply_boxes<fault>(shared, out);
  }
}

// Small integers: every order of sums is exact.
template <Fault fault>
bool pipeline_is_right() {
  const int depth = (kSteps + 1) * 64;
  std::vector<__nv_bfloat16> a(64 * depth), b(64 * depth);
  for (int i = 0; i < 64 * depth; ++i) {
    a[i] = __float2bfloat16(float(i * 7 % 5 - 2));
    b[i] = __float2bfloat16(float(i * 11 % 7 - 3));
  }
  std::vector<float> out(64 * 64, NAN);
  const auto map_of = [&](const auto& matrix) {
    return hopper::make_tensor_map(
        {.data = matrix.data(), .rows = 64, .columns = depth, .stride = depth}, 64);
  };
  launch(pipeline_kernel<fault>, dim3(1), dim3(160), sizeof(Shared), nullptr, out.data(), map_of(a),
         map_of(b));
  for (int row = 0; row < 64; ++row) {
    for (int column = 0; column < 64; ++column) {
      float sum = 0;
      for (int k = 0; k < kSteps * 64; ++k)
        sum += float(a[row * depth + k]) * float(b[column * depth + k]);
      if (out[row * 64 + column] != sum) return false;
    }
  }
  return true;
}

TEST_CASE("a pipeline without a fault ends well in every build") {
  CHECK(tests::outcome(pipeline_is_right<Fault::none>) == "right");
}

TEST_CASE("planted faults of a pipeline are found") {
  check_found("release before the multiplication is done", every_build,
              pipeline_is_right<Fault::no_wait_before_release>);
  check_found("barriers used before they are set up", every_build,
              pipeline_is_right<Fault::inits_without_barrier>);
  check_found("wrong advance along k", every_build,
              pipeline_is_right<Fault::wrong_advance_along_k>);
  check_found("wrong layout of sums", every_build, pipeline_is_right<Fault::wrong_layout_of_sums>);
  check_found("no wait on empty", every_build, pipeline_is_right<Fault::no_wait_on_empty>);
  check_found("no wait on full", every_build, pipeline_is_right<Fault::no_wait_on_full>);
  check_found("wrong arrival count", every_build, pipeline_is_right<Fault::wrong_arrival_count>);
  check_found("wrong byte count", every_build, pipeline_is_right<Fault::wrong_byte_count>);
  check_found("wrong parity", every_build, pipeline_is_right<Fault::wrong_parity>);
  check_found("end of a block that is still written to", every_build,
              pipeline_is_right<Fault::end_without_wait>);
}

// ---- Blocks that wait for each other, and for the last of them ----

__global__ void ring_kernel(int* out, uint32_t* flags, uint32_t* counter) {
  ptx::wait_for_predecessor();
  const int block = blockIdx.x, blocks = gridDim.x;
  out[block] = block + 1;
  ptx::store_release<ptx::Scope::device>(&flags[block], 1);
  const int next = (block + 1) % blocks;
  ptx::wait_for_flag<ptx::Scope::device>(&flags[next], 1);
  out[blocks + block] = out[next];
  if (ptx::fetch_add(counter, 1) == uint32_t(blocks - 1)) {
    int sum = 0;
    for (int i = 0; i < blocks; ++i) sum += out[blocks + i];
    out[2 * blocks] = sum;
  }
}

bool ring_is_right(bool together) {
  const int blocks = 5;
  std::vector<int> out(2 * blocks + 1, -1);
  std::vector<uint32_t> flags(blocks, 0);
  uint32_t counter = 0;
  if (together) {
    launch_together(ring_kernel, dim3(blocks), dim3(1), 0, nullptr, out.data(), flags.data(),
                    &counter);
  } else {
    launch(ring_kernel, dim3(blocks), dim3(1), 0, nullptr, out.data(), flags.data(), &counter);
  }
  return out[2 * blocks] == blocks * (blocks + 1) / 2 && out[blocks] == 2;
}

TEST_CASE("blocks that live together may wait for each other, others stop") {
  CHECK(tests::outcome([] { return ring_is_right(true); }) == "right");
  check_found("waiting for a block that has not begun", every_build,
              [] { return ring_is_right(false); });
}

// ---- A kernel that begins before its predecessor has ended ----

enum class Early { nothing, read, write };

template <Early early>
__global__ void shift_kernel(int* to, const int* from) {
  ptx::let_successor_start();
  int value = 0;
  if (early == Early::read) value = from[threadIdx.x];
  if (early == Early::write) to[threadIdx.x] = 0;
  ptx::wait_for_predecessor();
  if (early != Early::read) value = from[threadIdx.x];
  to[threadIdx.x] = value + 1;
}

template <Early early>
bool shifts_are_right() {
  std::vector<int> a(64, 1), b(64, -1);
  {
    emulate::Overlap overlap;
    launch(shift_kernel<Early::nothing>, dim3(1), dim3(64), 0, nullptr, b.data(), a.data());
    launch(shift_kernel<early>, dim3(1), dim3(64), 0, nullptr, a.data(), b.data());
    launch(shift_kernel<Early::nothing>, dim3(1), dim3(64), 0, nullptr, b.data(), a.data());
  }
  return b == std::vector<int>(64, 4);
}

TEST_CASE("what a kernel does before its predecessor's end is watched") {
  CHECK(tests::outcome(shifts_are_right<Early::nothing>) == "right");
  check_found("read before the predecessor's end", tsan, shifts_are_right<Early::read>);
  check_found("write of what the predecessor reads", tsan, shifts_are_right<Early::write>);
}

}  // namespace
}  // namespace chorus::kernels::cuda
