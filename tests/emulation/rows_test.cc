// Norms, copies, gates: against f64 loops, over types, odd sizes and rows that are not live.
#include "kernels/cuda/rows.h"

#include <cmath>

#include "kernels/cuda/device_weight.h"
#include "kernels/half.h"
#include "tests/emulation/schedules.h"
#include "tests/kernels/random_floats.h"

using namespace chorus;
using kernels::DType;
using kernels::Gate;
using kernels::View;
using tests::random_floats;
using tests::under_all_schedules;

namespace {

constexpr DType kFloats[] = {DType::f32, DType::f16, DType::bf16};

// Device memory of any of the three types, aligned as the backend's is.
class Buffer {
 public:
  Buffer(DType type, int64_t rows, int64_t cols) : type_(type), rows_(rows), cols_(cols) {
    bytes_.resize(static_cast<size_t>(rows * cols * kernels::bytes_of(type)) + 16);
  }
  Buffer(DType type, int64_t rows, int64_t cols, const std::vector<float>& values)
      : Buffer(type, rows, cols) {
    put(values);
  }
  View view(const int32_t* live_rows = nullptr) { return {data(), type_, rows_, cols_, live_rows}; }
  void put(const std::vector<float>& values) {
    for (size_t i = 0; i < values.size(); ++i) {
      if (type_ == DType::f32) {
        reinterpret_cast<float*>(data())[i] = values[i];
      } else {
        reinterpret_cast<uint16_t*>(data())[i] =
            type_ == DType::f16 ? kernels::f32_to_f16(values[i]) : kernels::f32_to_bf16(values[i]);
      }
    }
  }
  std::vector<float> get() {
    std::vector<float> values(static_cast<size_t>(rows_ * cols_));
    for (size_t i = 0; i < values.size(); ++i) {
      if (type_ == DType::f32) {
        values[i] = reinterpret_cast<float*>(data())[i];
      } else {
        const uint16_t bits = reinterpret_cast<uint16_t*>(data())[i];
        values[i] = type_ == DType::f16 ? kernels::f16_to_f32(bits) : kernels::bf16_to_f32(bits);
      }
    }
    return values;
  }

 private:
  std::byte* data() {
    const auto at = reinterpret_cast<uintptr_t>(bytes_.data());
    return bytes_.data() + (16 - at % 16) % 16;
  }
  DType type_;
  int64_t rows_, cols_;
  std::vector<std::byte> bytes_;
};

double tolerance(DType type) {
  return type == DType::f32 ? 1e-5 : type == DType::f16 ? 1e-3 : 5e-3;
}

// Runs `launch`, which writes into a buffer of `type`, under all schedules; rows from `live` on
// must still be poison. `wanted(row, col)` in f64.
template <class Launch, class Wanted>
void check(DType type, int64_t rows, int64_t cols, int64_t live, const Launch& launch,
           const Wanted& wanted) {
  Buffer buffer(type, rows, cols);
  std::vector<float> out(static_cast<size_t>(rows * cols));
  if (out.empty()) return launch(buffer);
  under_all_schedules(out, [&] {
    buffer.put(out);
    launch(buffer);
    tests::wait_for_device();
    out = buffer.get();
  });
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t col = 0; col < cols; ++col) {
      const float got = out[static_cast<size_t>(row * cols + col)];
      if (row >= live) {
        REQUIRE(std::isnan(got));
        continue;
      }
      const double expected = wanted(row, col);
      if (std::fabs(got - expected) <= tolerance(type) * (1e-3 + std::fabs(expected))) continue;
      INFO("row " << row << " column " << col);
      REQUIRE(got == Approx(expected));
    }
  }
}

struct Shape {
  int64_t rows, cols;
  int32_t live;
};

// What each row is multiplied by, of x(row, col) in f64.
template <class X>
std::vector<double> norm_factors(const Shape& shape, const X& x, double eps) {
  std::vector<double> factors;
  for (int64_t row = 0; row < shape.rows; ++row) {
    double squares = 0;
    for (int64_t i = 0; i < shape.cols; ++i) squares += x(row, i) * x(row, i);
    factors.push_back(1 / std::sqrt(squares / static_cast<double>(shape.cols) + eps));
  }
  return factors;
}

}  // namespace

TEST_CASE("rms_norm divides a row by its root mean square, whatever the row's length") {
  for (const Shape shape : {Shape{0, 64, 0},
                            {1, 576, 1},
                            {3, 4096, 2},
                            {33, 31, 32},
                            {2, 1, 2},
                            {3, 8200, 3},
                            {2, 9001, 1}}) {
    for (const DType type : kFloats) {
      const auto values = random_floats(shape.rows * shape.cols, 1);
      const auto weight = random_floats(shape.cols, 2);
      Buffer x(DType::f32, shape.rows, shape.cols, values), w(DType::f32, 1, shape.cols, weight);
      const auto* w_data = static_cast<const float*>(w.view().data);
      const auto value = [&](int64_t row, int64_t col) {
        return static_cast<double>(values[static_cast<size_t>(row * shape.cols + col)]);
      };
      const auto factors = norm_factors(shape, value, 1e-5);
      check(
          type, shape.rows, shape.cols, shape.live,
          [&](Buffer& out) {
            kernels::cuda::rms_norm(out.view(), x.view(&shape.live), w_data, 1e-5F, nullptr);
          },
          [&](int64_t row, int64_t col) {
            return value(row, col) * factors[static_cast<size_t>(row)] *
                   weight[static_cast<size_t>(col)];
          });
    }
  }
}

TEST_CASE("rms_norm may write where it reads, and refuses what it is not made for") {
  const auto values = random_floats(3 * 200, 3), weight = random_floats(200, 4);
  Buffer in_place(DType::f32, 3, 200, values), x(DType::f32, 3, 200, values);
  Buffer out(DType::f32, 3, 200), w(DType::f32, 1, 200, weight);
  const auto* w_data = static_cast<const float*>(w.view().data);
  kernels::cuda::rms_norm(out.view(), x.view(), w_data, 1e-5F, nullptr);
  kernels::cuda::rms_norm(in_place.view(), in_place.view(), w_data, 1e-5F, nullptr);
  tests::wait_for_device();
  CHECK(out.get() == in_place.get());
  View wide = x.view();
  wide.rows = 1;
  wide.cols = 16385;
  CHECK_THROWS_WITH(kernels::cuda::rms_norm(wide, wide, w_data, 1e-5F, nullptr),
                    Catch::Contains("16385 columns"));
}

TEST_CASE("add_rms_norm adds to the residual and norms the sum") {
  for (const Shape shape : {Shape{1, 4096, 1}, {33, 72, 32}, {3, 33, 3}, {2, 16384, 2}}) {
    for (const DType type : kFloats) {
      const auto count = shape.rows * shape.cols;
      const auto before = random_floats(count, 5), added = random_floats(count, 6);
      const auto weight = random_floats(shape.cols, 7);
      Buffer x(DType::f32, shape.rows, shape.cols, added), w(DType::f32, 1, shape.cols, weight);
      Buffer residual(DType::f32, shape.rows, shape.cols);
      const auto sum = [&](int64_t row, int64_t col) {
        const auto i = static_cast<size_t>(row * shape.cols + col);
        return static_cast<double>(before[i] + added[i]);
      };
      const auto factors = norm_factors(shape, sum, 1e-6);
      check(
          type, shape.rows, shape.cols, shape.live,
          [&](Buffer& out) {
            residual.put(before);
            kernels::cuda::add_rms_norm(out.view(), residual.view(), x.view(&shape.live),
                                        static_cast<const float*>(w.view().data), 1e-6F, nullptr);
          },
          [&](int64_t row, int64_t col) {
            return sum(row, col) * factors[static_cast<size_t>(row)] *
                   weight[static_cast<size_t>(col)];
          });
      const auto after = residual.get();
      for (int64_t row = 0; row < shape.rows; ++row) {
        for (int64_t col = 0; col < shape.cols; ++col) {
          const auto i = static_cast<size_t>(row * shape.cols + col);
          REQUIRE(after[i] == (row < shape.live ? before[i] + added[i] : before[i]));
        }
      }
    }
  }
}

TEST_CASE("a row's norm does not depend on its neighbours") {
  const auto values = random_floats(33 * 1000, 8), weight = random_floats(1000, 9);
  Buffer x(DType::f32, 33, 1000, values), w(DType::f32, 1, 1000, weight);
  Buffer together(DType::bf16, 33, 1000), alone(DType::bf16, 1, 1000);
  const auto* w_data = static_cast<const float*>(w.view().data);
  kernels::cuda::rms_norm(together.view(), x.view(), w_data, 1e-5F, nullptr);
  tests::wait_for_device();
  const auto all = together.get();
  for (int64_t row = 0; row < 33; row += 16) {
    View one = x.view();
    one.data = static_cast<float*>(one.data) + row * 1000;
    one.rows = 1;
    kernels::cuda::rms_norm(alone.view(), one, w_data, 1e-5F, nullptr);
    tests::wait_for_device();
    CHECK(alone.get() ==
          std::vector<float>(all.begin() + row * 1000, all.begin() + (row + 1) * 1000));
  }
}

TEST_CASE("embed takes rows of any plain type, and the slot's last token for a negative one") {
  constexpr int64_t kIds = 50;
  const std::vector<int32_t> tokens = {3, -1, 49, -1, 0}, slots = {0, 2, 1, 0, 1};
  const std::vector<int32_t> last_tokens = {7, 8, 9};
  const std::vector<int32_t> ids = {3, 9, 49, 7, 0};
  const int32_t live = 4;
  for (const int64_t cols : {64, 2100, 30}) {
    const int64_t stride = (cols + 7) / 8 * 8;
    for (const DType in : kFloats) {
      Buffer table(in, kIds, stride, random_floats(kIds * stride, 10));
      const auto values = table.get();
      auto weight = std::make_shared<kernels::cuda::DeviceWeight>();
      weight->rows = kIds;
      weight->cols = cols;
      weight->stride = stride;
      weight->data = table.view().data;
      weight->format = in == DType::f32   ? kernels::cuda::WeightFormat::f32
                       : in == DType::f16 ? kernels::cuda::WeightFormat::f16
                                          : kernels::cuda::WeightFormat::bf16;
      const auto of = [](const std::vector<int32_t>& list) {
        return View{const_cast<int32_t*>(list.data()), DType::i32,
                    static_cast<int64_t>(list.size()), 1};
      };
      for (const DType out_type : kFloats) {
        check(
            out_type, 5, cols, live,
            [&](Buffer& out) {
              kernels::cuda::embed(out.view(&live), weight, of(tokens), of(slots), of(last_tokens),
                                   1.5F, nullptr);
            },
            [&](int64_t row, int64_t col) {
              return 1.5 *
                     values[static_cast<size_t>(ids[static_cast<size_t>(row)] * stride + col)];
            });
      }
    }
  }
}

TEST_CASE("an id outside the table gives NaN and reads nothing") {
  Buffer table(DType::bf16, 2, 64, random_floats(128, 11)), out(DType::f32, 3, 64);
  auto weight = std::make_shared<kernels::cuda::DeviceWeight>();
  weight->rows = 2;
  weight->cols = weight->stride = 64;
  weight->data = table.view().data;
  int32_t tokens[] = {2, -1, 1}, slots[] = {0, 0, 0}, last_tokens[] = {-1};
  kernels::cuda::embed(out.view(), weight, {tokens, DType::i32, 3, 1}, {slots, DType::i32, 3, 1},
                       {last_tokens, DType::i32, 1, 1}, 1, nullptr);
  tests::wait_for_device();
  const auto got = out.get();
  CHECK(std::isnan(got[0]));
  CHECK(std::isnan(got[64]));
  CHECK(got[128] == table.get()[64]);
}

TEST_CASE("gates multiply what they let through") {
  for (const Shape shape : {Shape{1, 4100, 1}, {33, 40, 32}, {3, 33, 3}}) {
    const auto values = random_floats(shape.rows * shape.cols * 2, 12, 4);
    Buffer gate_up(DType::f32, shape.rows, shape.cols * 2, values);
    for (const Gate gate : {Gate::silu, Gate::gelu_tanh}) {
      for (const DType type : kFloats) {
        check(
            type, shape.rows, shape.cols, shape.live,
            [&](Buffer& out) {
              kernels::cuda::gated_activation(out.view(), gate_up.view(&shape.live), gate, nullptr);
            },
            [&](int64_t row, int64_t col) {
              const float* at = values.data() + row * shape.cols * 2 + col;
              const double x = at[0], up = at[shape.cols];
              if (gate == Gate::silu) return x / (1 + std::exp(-x)) * up;
              const double u = std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);
              return 0.5 * x * (1 + std::tanh(u)) * up;
            });
      }
    }
  }
}

TEST_CASE("soft_cap bends large values and leaves rows that are not live") {
  const int32_t live = 2;
  for (const int64_t cols : {33, 2056}) {
    const auto values = random_floats(3 * cols, 13, 40);
    check(
        DType::f32, 3, cols, 3,
        [&](Buffer& x) {
          x.put(values);
          kernels::cuda::soft_cap(x.view(&live), 30, nullptr);
        },
        [&](int64_t row, int64_t col) {
          const double x = values[static_cast<size_t>(row * cols + col)];
          return row < live ? 30 * std::tanh(x / 30) : x;
        });
  }
}

TEST_CASE("gather_rows copies the rows that the index names") {
  const std::vector<int32_t> index = {4, 0, 4, 2};
  const int32_t live = 3;
  for (const int64_t cols : {64, 2049}) {
    for (const DType type : kFloats) {
      Buffer x(type, 5, cols, random_floats(5 * cols, 14));
      const auto values = x.get();
      check(
          type, 4, cols, live,
          [&](Buffer& out) {
            kernels::cuda::gather_rows(
                out.view(), x.view(), {const_cast<int32_t*>(index.data()), DType::i32, 4, 1, &live},
                nullptr);
          },
          [&](int64_t row, int64_t col) {
            return values[static_cast<size_t>(index[static_cast<size_t>(row)] * cols + col)];
          });
    }
  }
}

TEST_CASE("join_columns puts the ranks' slices of a row side by side") {
  const int32_t live = 2;
  for (const int64_t cols : {5, 2100}) {
    const std::vector<kernels::Range> slices = {
        {0, cols / 2 + 1}, {cols / 2 + 1, cols - 1}, {cols - 1, cols}};
    const int64_t rank_stride = 3 * (cols / 2 + 1) + 7;
    const auto gathered = random_floats(3 * rank_stride, 16);
    check(
        DType::f32, 3, cols, live,
        [&](Buffer& out) {
          kernels::cuda::join_columns(out.view(&live), gathered.data(), rank_stride, slices,
                                      nullptr);
        },
        [&](int64_t row, int64_t col) {
          int64_t rank = 0;
          while (col >= slices[static_cast<size_t>(rank)].end) ++rank;
          const kernels::Range& slice = slices[static_cast<size_t>(rank)];
          return gathered[static_cast<size_t>(rank * rank_stride + row * slice.size() + col -
                                              slice.begin)];
        });
  }
}
