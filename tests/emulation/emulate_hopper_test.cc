// The emulation's TMA, mbarriers and wgmma: one warpgroup multiplies boxes that come through a ring
// of one, every width, type and way of giving the operands, against f64 loops.
#include <catch2/catch.hpp>
#include <random>

#include "kernels/cuda/hopper.h"
#include "tests/emulation/schedules.h"

namespace chorus::kernels::cuda {
namespace {

constexpr int kSteps = 3, kDepth = 64 * kSteps - 24;  // the last box reaches over the edge

struct Shared {
  unsigned char a[64 * 128];
  unsigned char b[4 * 8192];
  hopper::Barrier full, empty;
};

enum class Operand { shared, in_registers };

// The 16 x 16 piece `k` of this warp's rows of a swizzled box, as mma takes it.
ptx::Fragment4 load_fragment(const unsigned char* box, int k) {
  const int row = threadIdx.x / 32 * 16 + threadIdx.x % 16;
  const int piece = (k * 2 + threadIdx.x % 32 / 16) ^ (row % 8);
  return ptx::ldmatrix_x4(box + row * 128 + piece * 16);
}

template <typename T, int n, bool transposed, Operand a_operand>
__global__ void multiply_kernel(float* out, const __grid_constant__ CUtensorMap a_map,
                                const __grid_constant__ CUtensorMap b_map) {
  using namespace hopper;
  Shared& shared = shared_memory<Shared>();
  ptx::wait_for_predecessor();
  if (threadIdx.x == 0) {
    init(shared.full, 1);
    init(shared.empty, 128);
    publish_inits();
  }
  __syncthreads();
  float d[n / 2];
  for (int step = 0; step < kSteps; ++step) {
    if (threadIdx.x == 0) {
      if (step > 0) wait(shared.empty, (step - 1) % 2);
      arrive_expecting(shared.full, 8192 + n * 128);
      load_box(shared.a, a_map, step * 64, 0, shared.full);
      for (int p = 0; p < n / 64; ++p) {
        const int along_n = p * 64, along_k = step * 64;
        load_box(shared.b + p * 8192, b_map, transposed ? along_n : along_k,
                 transposed ? along_k : along_n, shared.full);
      }
    }
    wait(shared.full, step % 2);
    for (int k = 0; k < 4; ++k) {
      const bool accumulate = step + k > 0;
      const uint32_t b_address = shared_address(shared.b);
      const uint64_t b = transposed ? transposed_descriptor(b_address, 8192) + k * (2048 / 16)
                                    : matrix_descriptor(b_address) + 2 * k;
      if constexpr (a_operand == Operand::in_registers) {
        const auto a = load_fragment(shared.a, k);
        begin_multiply();
        multiply<T, n, transposed>(d, a, b, accumulate);
      } else {
        begin_multiply();
        multiply<T, n, transposed>(d, matrix_descriptor(shared_address(shared.a)) + 2 * k, b,
                                   accumulate);
      }
      commit_multiply();
    }
    wait_multiply<0>();
    arrive(shared.empty);
  }
  for (int i = 0; i < n / 2; ++i) {
    const int row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4 + i / 2 % 2 * 8;
    out[row * n + i / 4 * 8 + threadIdx.x % 4 * 2 + i % 2] = d[i];
  }
}

template <typename T>
std::vector<T> random_values(int64_t count) {
  static std::mt19937 generator(7);
  std::normal_distribution<float> normal;
  std::vector<T> values(count);
  for (T& value : values) value = T(normal(generator));
  return values;
}

template <typename T, int n, bool transposed, Operand a_operand>
void check_multiply() {
  const int rows = 50;  // of 64: the rest reads zeros
  const int depth_stride = kDepth + 8, b_stride = transposed ? n : depth_stride;
  const auto a = random_values<T>(rows * depth_stride);
  const auto b = random_values<T>(int64_t{transposed ? kDepth : n} * b_stride);
  const auto element = std::is_same_v<T, __half> ? hopper::Element::f16 : hopper::Element::bf16;
  const auto a_map = hopper::make_tensor_map({a.data(), element, rows, kDepth, depth_stride}, 64);
  const auto b_map = hopper::make_tensor_map(
      {b.data(), element, transposed ? kDepth : n, transposed ? n : kDepth, b_stride}, 64);
  std::vector<float> out(64 * n);
  tests::under_all_schedules(out, [&] {
    launch(multiply_kernel<T, n, transposed, a_operand>, dim3(1), dim3(128), sizeof(Shared),
           nullptr, out.data(), a_map, b_map);
  });
  double worst = 0;
  for (int row = 0; row < 64; ++row) {
    for (int column = 0; column < n; ++column) {
      double sum = 0;
      for (int k = 0; k < kDepth && row < rows; ++k) {
        const T& other = b[transposed ? k * b_stride + column : column * b_stride + k];
        sum += double(float(a[row * depth_stride + k])) * double(float(other));
      }
      const double difference = std::abs(sum - out[row * n + column]);
      worst = std::max(worst, std::isfinite(difference) ? difference : 1e9);
    }
  }
  CHECK(worst < 1e-4);
}

TEST_CASE("an emulated warpgroup multiplies boxes of shared memory") {
  check_multiply<__nv_bfloat16, 64, false, Operand::shared>();
  check_multiply<__half, 128, false, Operand::shared>();
  check_multiply<__nv_bfloat16, 256, false, Operand::shared>();
}

TEST_CASE("an emulated warpgroup multiplies from registers, and transposed boxes") {
  check_multiply<__half, 64, false, Operand::in_registers>();
  check_multiply<__nv_bfloat16, 128, true, Operand::in_registers>();
  check_multiply<__half, 256, true, Operand::shared>();
}

}  // namespace
}  // namespace chorus::kernels::cuda
