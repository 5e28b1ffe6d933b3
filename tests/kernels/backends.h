// Every backend that this machine can run, each wrapped in the checks of checked.cc, and a bench to
// put numbers in and take results out.
#pragma once

#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/ops.h"

namespace chorus::tests {

using kernels::DType;
using kernels::Ops;
using kernels::View;
using kernels::Weight;

struct Backend {
  std::string name;
  bool exact_inputs;  // activations are not quantised
  std::function<std::unique_ptr<Ops>(int threads)> make;
};

// In f32 and with one order of sums, so that it is held to what the reference is.
inline constexpr kernels::CudaOptions kExactGpu{.operand = DType::f32, .deterministic = true};

inline std::vector<Backend> backends() {
  std::vector<Backend> all = {{"reference", true, [](int threads) {
                                 return kernels::make_checked_ops(
                                     kernels::make_reference_ops({.threads = threads}), true);
                               }}};
  for (const auto isa : {kernels::Isa::scalar, kernels::Isa::avx2, kernels::Isa::avx512}) {
    if (!kernels::supported(isa)) continue;
    all.push_back({std::string(kernels::name_of(isa)), false, [isa](int threads) {
                     return kernels::make_checked_ops(
                         kernels::make_cpu_ops({.threads = threads, .isa = isa}), true);
                   }});
  }
#ifdef CHORUS_HAS_EMULATION
  all.push_back({"emulated", true, [](int) {
                   return kernels::make_checked_ops(kernels::make_emulated_ops(kExactGpu), true);
                 }});
#endif
#ifdef CHORUS_HAS_CUDA
  std::string why_none;
  if (kernels::cuda_device_count(why_none) > 0) {
    all.push_back({"cuda", true, [](int) {
                     return kernels::make_checked_ops(kernels::make_cuda_ops(kExactGpu), true);
                   }});
  }
#endif
  return all;
}

class Bench {
 public:
  explicit Bench(std::unique_ptr<Ops> own) : ops_(std::move(own)) {}
  Ops& ops() { return *ops_; }

  // A number in device memory that says how many rows are live.
  const int32_t* live(int32_t count) {
    return static_cast<const int32_t*>(integers({count}, 1, 1).data);
  }
  View floats(int64_t rows, int64_t cols, const int32_t* live_rows = nullptr) {
    return ops_->allocate(DType::f32, rows, cols, live_rows);
  }
  // `values` fill the first rows of a buffer with room for `rows`.
  View floats(const std::vector<float>& values, int64_t rows, int64_t cols,
              const int32_t* live_rows = nullptr) {
    return filled(values, ops_->allocate(DType::f32, rows, cols, live_rows));
  }
  View integers(const std::vector<int32_t>& values, int64_t rows, int64_t cols,
                const int32_t* live_rows = nullptr) {
    return filled(values, ops_->allocate(DType::i32, rows, cols, live_rows));
  }
  // An f32 vector that outlives the bench's use of it.
  Weight vector(const std::vector<float>& values) {
    return ops_->prepare_vector(
        {.parts = {{.data = reinterpret_cast<const std::byte*>(values.data()),
                    .range = {0, static_cast<int64_t>(values.size())}}}});
  }
  template <class Record>
  void run(const Record& record) {
    ops_->record();
    record();
    ops_->run(*ops_->end_record());
  }
  std::vector<float> read(const View& view, int64_t rows) {
    std::vector<float> values(static_cast<size_t>(rows * view.cols));
    if (rows > 0) ops_->download(values.data(), view, 0, rows * view.cols * 4);
    return values;
  }

 private:
  template <class T>
  View filled(const std::vector<T>& values, View view) {
    if (!values.empty()) {
      ops_->upload(view, values.data(), 0, static_cast<int64_t>(values.size() * sizeof(T)));
    }
    return view;
  }

  std::unique_ptr<Ops> ops_;
};

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * 4) == 0);
}

// One row of a result.
inline std::vector<float> row_of(const std::vector<float>& values, int64_t row, int64_t cols) {
  return {values.begin() + row * cols, values.begin() + (row + 1) * cols};
}

}  // namespace chorus::tests
