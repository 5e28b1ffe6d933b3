// The emulation's own vocabulary: matrix units against f64 loops by the layouts that the PTX manual
// gives, sums over lanes, bit tricks, and the order of grids on several devices.
#include <catch2/catch.hpp>
#include <numeric>
#include <random>
#include <thread>

#include "kernels/cuda/ptx.h"
#include "tests/emulation/schedules.h"

namespace chorus::kernels::cuda {
namespace {

using tests::under_all_schedules;

// ---- Matrix units: out (16 x 8) = a (16 x k) * b (8 x k)^T ----

// The fragments by the manual's words, with g = lane / 4, t = lane % 4: register r of a holds row g
// (+ 8 for odd r), and of each half of k the elements from t times the register's count on.
template <typename T>
__global__ void matrix_kernel(float* out, const T* a, const T* b) {
  ptx::wait_for_predecessor();
  const int g = threadIdx.x / 4, t = threadIdx.x % 4;
  ptx::Fragment4 a_fragment;
  ptx::Fragment2 b_fragment;
  for (int r = 0; r < 4; ++r)
    std::memcpy(&a_fragment.x[r], a + (g + r % 2 * 8) * 16 + r / 2 * 8 + t * 2, 4);
  for (int r = 0; r < 2; ++r) std::memcpy(&b_fragment.x[r], b + g * 16 + r * 8 + t * 2, 4);
  float d[4] = {};
  for (int twice = 0; twice < 2; ++twice) ptx::mma_m16n8k16<T>(d, a_fragment, b_fragment);
  for (int i = 0; i < 4; ++i) {
    const int row = threadIdx.x / 4 + i / 2 * 8, column = threadIdx.x % 4 * 2 + i % 2;
    out[row * 8 + column] = d[i];
  }
}

template <typename T>
void check_matrix_unit() {
  std::mt19937 generator(7);
  std::vector<T> a(16 * 16), b(8 * 16);
  for (auto* matrix : {&a, &b}) {
    for (T& element : *matrix) element = T(float(int(generator() % 17) - 8));  // exact in both
  }
  std::vector<float> out(16 * 8);
  under_all_schedules(out, [&] {
    launch(matrix_kernel<T>, dim3(1), dim3(32), 0, nullptr, out.data(), a.data(), b.data());
  });
  for (int i = 0; i < 16 * 8; ++i) {
    double sum = 0;
    for (int k = 0; k < 16; ++k)
      sum += double(float(a[i / 8 * 16 + k])) * double(float(b[i % 8 * 16 + k]));
    CHECK(out[i] == 2 * sum);
  }
}

TEST_CASE("emulated matrix units multiply by the manual's layouts") {
  check_matrix_unit<__nv_bfloat16>();
  check_matrix_unit<__half>();
}

struct Tile {
  __align__(16) uint16_t cell[32][8];
};
template <bool transposed>
__global__ void matrices_kernel(float* out) {
  Tile& tile = shared_memory<Tile>();
  ptx::wait_for_predecessor();
  for (int i = 0; i < 8; ++i) tile.cell[threadIdx.x][i] = threadIdx.x * 8 + i;
  __syncwarp();
  const auto* row = tile.cell[threadIdx.x];
  const auto f = transposed ? ptx::ldmatrix_x4_transposed(row) : ptx::ldmatrix_x4(row);
  for (int m = 0; m < 4; ++m) {
    out[(m * 32 + threadIdx.x) * 2] = float(f.x[m] & 0xffff);
    out[(m * 32 + threadIdx.x) * 2 + 1] = float(f.x[m] >> 16);
  }
}

TEST_CASE("emulated ldmatrix gives each lane two neighbours of a row, or of a column") {
  std::vector<float> out(4 * 32 * 2);
  for (const bool transposed : {false, true}) {
    under_all_schedules(out, [&] {
      launch(transposed ? matrices_kernel<true> : matrices_kernel<false>, dim3(1), dim3(32),
             sizeof(Tile), nullptr, out.data());
    });
    for (int i = 0; i < 4 * 32 * 2; ++i) {
      int row = i / 8 % 8, column = i % 8;
      if (transposed) std::swap(row, column);
      CHECK(out[i] == float((i / 64 * 8 + row) * 8 + column));
    }
  }
}

// ---- Warps and blocks ----

__global__ void lanes_kernel(float* out, const float* in) {
  ptx::wait_for_predecessor();
  const int i = threadIdx.x;
  const float value = in[i];
  float* mine = out + i * 8;
  mine[0] = ptx::warp_sum(value);
  mine[1] = ptx::warp_sum<4>(value);
  mine[2] = ptx::warp_max(value);
  mine[3] = ptx::warp_max<8>(i);
  mine[4] = __shfl_up_sync(~0u, value, 3) + __shfl_down_sync(~0u, value, 5, 16);
  mine[5] = float(__popc(__ballot_sync(~0u, value > 0)));
  mine[6] = float(__syncthreads_count(value > 0));
  mine[7] = float(__syncthreads_or(i == 50) + 2 * __syncthreads_and(i < 64));
}

TEST_CASE("emulated warps sum, vote and exchange") {
  const int threads = 64;
  std::vector<float> in(threads), out(threads * 8);
  for (int i = 0; i < threads; ++i) in[i] = float(i * 37 % 23 - 11);
  under_all_schedules(out, [&] {
    launch(lanes_kernel, dim3(1), dim3(threads), 0, nullptr, out.data(), in.data());
  });
  const auto positive = [&](int begin, int end) {
    return float(std::count_if(&in[begin], &in[0] + end, [](float x) { return x > 0; }));
  };
  for (int i = 0; i < threads; ++i) {
    const int warp = i / 32 * 32, quad = i / 4 * 4, lane = i % 32;
    CHECK(out[i * 8] == std::accumulate(&in[warp], &in[warp] + 32, 0.0f));
    CHECK(out[i * 8 + 1] == std::accumulate(&in[quad], &in[quad] + 4, 0.0f));
    CHECK(out[i * 8 + 2] == *std::max_element(&in[warp], &in[warp] + 32));
    CHECK(out[i * 8 + 3] == float(i / 8 * 8 + 7));
    CHECK(out[i * 8 + 4] == in[lane >= 3 ? i - 3 : i] + in[lane % 16 + 5 < 16 ? i + 5 : i]);
    CHECK(out[i * 8 + 5] == positive(warp, warp + 32));
    CHECK(out[i * 8 + 6] == positive(0, threads));
    CHECK(out[i * 8 + 7] == 3);
  }
}

TEST_CASE("emulated bit tricks are CUDA's") {
  CHECK(__byte_perm(0x33221100, 0x77665544, 0x7531) == 0x77553311u);
  CHECK(__byte_perm(0x80000000, 0, 0x000b) == 0x000000ffu);
  CHECK(__dp4a(int(0xff02fe01u), int(0x01020304u), 10) == 10 + 4 - 6 + 4 - 1);
  CHECK(__dp4a(0xff020301u, 0x01020304u, 10u) == 10u + 4 + 9 + 4 + 255);
  CHECK(__funnelshift_r(0x89abcdefu, 0x01234567u, 8) == 0x6789abcdu);
  CHECK(__funnelshift_l(0x89abcdefu, 0x01234567u, 8) == 0x23456789u);
  const float2 halves = ptx::unpack<__half>(ptx::pack<__half>(1.5f, -2));
  CHECK((halves.x == 1.5f && halves.y == -2));
  const float2 brains = ptx::unpack<__nv_bfloat16>(ptx::pack<__nv_bfloat16>(1.5f, -2));
  CHECK((brains.x == 1.5f && brains.y == -2));
}

// ---- Several grids, several devices ----

__global__ void append_kernel(float* list, int* count, int what) {
  ptx::wait_for_predecessor();
  list[(*count)++] = float(what * 10 + int(blockIdx.x));
}

TEST_CASE("the grids of one emulated device run in order") {
  std::vector<float> out(6);
  under_all_schedules(out, [&] {
    int count[2] = {};
    std::vector<std::function<void()>> devices;
    for (int device = 0; device < 2; ++device) {
      devices.push_back([&, device] {
        for (int what = 0; what < 3; ++what)
          launch(append_kernel, dim3(1), dim3(1), 0, nullptr, &out[device * 3], &count[device],
                 what + device * 10);
      });
    }
    emulate::run_together(devices);
  });
  CHECK(out == std::vector<float>{0, 10, 20, 100, 110, 120});
}

// Hands its number to the next device and takes that of the one before.
__global__ void pass_on_kernel(float* out, float* next, uint32_t* next_flag, const float* own,
                               const uint32_t* own_flag, int what, int round) {
  ptx::wait_for_predecessor();
  next[round] = float(what);
  ptx::store_release<ptx::Scope::system>(next_flag, round + 1);
  ptx::wait_for_flag<ptx::Scope::system>(own_flag, round + 1);
  out[round] = own[round];
}

TEST_CASE("emulated devices that are host threads wait for each other's flags") {
  const int devices = 3, rounds = 5;
  std::vector<float> out(devices * rounds);
  under_all_schedules(out, [&] {
    std::vector<float> passed(devices * rounds);
    std::vector<uint32_t> flags(devices);
    std::vector<std::thread> threads;
    for (int device = 0; device < devices; ++device) {
      threads.emplace_back([&, device] {
        const int next = (device + 1) % devices;
        for (int round = 0; round < rounds; ++round)
          launch_together(pass_on_kernel, dim3(1), dim3(1), 0, nullptr, &out[device * rounds],
                          &passed[next * rounds], &flags[next], &passed[device * rounds],
                          &flags[device], device * 10 + round, round);
      });
    }
    for (std::thread& thread : threads) thread.join();
  });
  for (int i = 0; i < devices * rounds; ++i)
    CHECK(out[i] == float((i / rounds + devices - 1) % devices * 10 + i % rounds));
}

}  // namespace
}  // namespace chorus::kernels::cuda
