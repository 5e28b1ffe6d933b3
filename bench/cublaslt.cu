// The dozen functions of cuBLASLt that a matmul needs, looked up by name. The library's matrices
// are column-major, so out [rows, n] is its D [n, rows], and W comes first: D = W^T x with W [k, n]
// transposed and x [k, rows] as it is.
#include "bench/cublaslt.h"

#if __has_include(<cublasLt.h>)

#include <cublasLt.h>
#include <dlfcn.h>

#include <array>
#include <map>
#include <stdexcept>

namespace chorus::kernels::cuda {
namespace {

constexpr const char* kPlaces[] = {"libcublasLt.so.13", "/usr/local/cuda/lib64/libcublasLt.so.13",
                                   "/usr/lib/x86_64-linux-gnu/libcublasLt.so.13"};

// The library's functions, or an error that names the first one that is missing.
class Library {
 public:
  explicit Library(std::string& why_none) {
    for (const char* place : kPlaces) {
      handle_ = dlopen(place, RTLD_NOW | RTLD_LOCAL);
      if (handle_ != nullptr) break;
      if (why_none.empty()) why_none = dlerror();
    }
    if (handle_ == nullptr) return;
    why_none.clear();
    find(create, "cublasLtCreate", why_none);
    find(destroy, "cublasLtDestroy", why_none);
    find(version, "cublasLtGetVersion", why_none);
    find(matmul, "cublasLtMatmul", why_none);
    find(heuristic, "cublasLtMatmulAlgoGetHeuristic", why_none);
    find(layout_create, "cublasLtMatrixLayoutCreate", why_none);
    find(layout_destroy, "cublasLtMatrixLayoutDestroy", why_none);
    find(operation_create, "cublasLtMatmulDescCreate", why_none);
    find(operation_destroy, "cublasLtMatmulDescDestroy", why_none);
    find(operation_set, "cublasLtMatmulDescSetAttribute", why_none);
    find(preference_create, "cublasLtMatmulPreferenceCreate", why_none);
    find(preference_destroy, "cublasLtMatmulPreferenceDestroy", why_none);
    find(preference_set, "cublasLtMatmulPreferenceSetAttribute", why_none);
  }
  // Never unloaded: it keeps state in the CUDA context.

  decltype(&cublasLtCreate) create = nullptr;
  decltype(&cublasLtDestroy) destroy = nullptr;
  decltype(&cublasLtGetVersion) version = nullptr;
  decltype(&cublasLtMatmul) matmul = nullptr;
  decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic = nullptr;
  decltype(&cublasLtMatrixLayoutCreate) layout_create = nullptr;
  decltype(&cublasLtMatrixLayoutDestroy) layout_destroy = nullptr;
  decltype(&cublasLtMatmulDescCreate) operation_create = nullptr;
  decltype(&cublasLtMatmulDescDestroy) operation_destroy = nullptr;
  decltype(&cublasLtMatmulDescSetAttribute) operation_set = nullptr;
  decltype(&cublasLtMatmulPreferenceCreate) preference_create = nullptr;
  decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy = nullptr;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set = nullptr;

 private:
  template <typename Function>
  void find(Function& function, const char* name, std::string& why_none) {
    function = reinterpret_cast<Function>(dlsym(handle_, name));
    if (function == nullptr) why_none = std::string("libcublasLt.so.13 has no ") + name;
  }
  void* handle_ = nullptr;
};

void check(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw std::runtime_error(std::string(what) + " failed with status " + std::to_string(status));
}

cudaDataType type_of(DType type) {
  return type == DType::f32 ? CUDA_R_32F : type == DType::f16 ? CUDA_R_16F : CUDA_R_16BF;
}

// One shape: what cublasLtMatmul is told besides addresses.
struct Prepared {
  bool served = false;
  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatrixLayout_t weight = nullptr, x = nullptr, out = nullptr;
  cublasLtMatmulAlgo_t algorithm{};
};

class LoadedCublasLt final : public CublasLt {
 public:
  explicit LoadedCublasLt(const Library& library) : library_(library) {
    check(library_.create(&handle_), "cublasLtCreate");
  }
  ~LoadedCublasLt() override {
    for (auto& [key, prepared] : prepared_) release(prepared);
    library_.destroy(handle_);
  }

  std::string description() const override {
    const size_t version = library_.version();  // 130002 for 13.0.2
    return "cuBLASLt " + std::to_string(version / 10000) + "." +
           std::to_string(version / 100 % 100) + "." + std::to_string(version % 100);
  }

  bool matmul(const MatmulArgs& args, void* workspace, cudaStream_t stream) override {
    const DeviceWeight& weight = *args.weight;
    const bool halves = weight.format == WeightFormat::bf16 || weight.format == WeightFormat::f16;
    if (args.gated || !halves || args.x.rows == 0) return false;
    if (args.bias != nullptr && args.out.type != DType::f32) return false;
    const Key key{args.x.rows,
                  weight.rows,
                  weight.cols,
                  weight.stride,
                  args.x.cols,
                  int64_t(args.x.type),
                  int64_t(args.out.type),
                  args.bias != nullptr};
    const auto found = prepared_.find(key);
    Prepared& prepared = found != prepared_.end() ? found->second : prepare(key, args);
    if (!prepared.served) return false;
    if (args.bias != nullptr) {
      set(prepared.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, args.bias);
    }
    const float one = 1, zero = 0;
    check(library_.matmul(handle_, prepared.operation, &one, weight.data, prepared.weight,
                          args.x.data, prepared.x, &zero, args.out.data, prepared.out,
                          args.out.data, prepared.out, &prepared.algorithm, workspace,
                          size_t(kCublasLtWorkspaceBytes), stream),
          "cublasLtMatmul");
    return true;
  }

 private:
  using Key = std::array<int64_t, 8>;

  template <typename Value>
  void set(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t attribute, Value value) {
    check(library_.operation_set(operation, attribute, &value, sizeof value),
          "cublasLtMatmulDescSetAttribute");
  }
  cublasLtMatrixLayout_t layout(DType type, int64_t rows, int64_t columns, int64_t stride) {
    cublasLtMatrixLayout_t made = nullptr;
    check(library_.layout_create(&made, type_of(type), uint64_t(rows), uint64_t(columns), stride),
          "cublasLtMatrixLayoutCreate");
    return made;
  }

  Prepared& prepare(const Key& key, const MatmulArgs& args) {
    const DeviceWeight& weight = *args.weight;
    Prepared& prepared = prepared_[key];
    check(library_.operation_create(&prepared.operation, CUBLAS_COMPUTE_32F, CUDA_R_32F),
          "cublasLtMatmulDescCreate");
    set(prepared.operation, CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
    if (args.bias != nullptr) {
      set(prepared.operation, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
      set(prepared.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, args.bias);
    }
    const DType type = type_of(weight.format);
    prepared.weight = layout(type, weight.cols, weight.rows, weight.stride);
    prepared.x = layout(args.x.type, weight.cols, args.x.rows, args.x.cols);
    prepared.out = layout(args.out.type, weight.rows, args.x.rows, args.out.cols);
    prepared.served = args.x.type == type && choose(prepared);
    return prepared;
  }

  // The library's first choice among algorithms that sum each output in one place.
  bool choose(Prepared& prepared) {
    cublasLtMatmulPreference_t preference = nullptr;
    check(library_.preference_create(&preference), "cublasLtMatmulPreferenceCreate");
    const uint64_t bytes = kCublasLtWorkspaceBytes;
    const uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_NONE;
    check(library_.preference_set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes,
                                  sizeof bytes),
          "cublasLtMatmulPreferenceSetAttribute");
    check(library_.preference_set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes,
                                  sizeof schemes),
          "cublasLtMatmulPreferenceSetAttribute");
    cublasLtMatmulHeuristicResult_t result{};
    int count = 0;
    const cublasStatus_t status =
        library_.heuristic(handle_, prepared.operation, prepared.weight, prepared.x, prepared.out,
                           prepared.out, preference, 1, &result, &count);
    library_.preference_destroy(preference);
    if (status != CUBLAS_STATUS_SUCCESS || count == 0) return false;
    prepared.algorithm = result.algo;
    return true;
  }

  void release(Prepared& prepared) {
    if (prepared.operation != nullptr) library_.operation_destroy(prepared.operation);
    for (cublasLtMatrixLayout_t made : {prepared.weight, prepared.x, prepared.out}) {
      if (made != nullptr) library_.layout_destroy(made);
    }
  }

  Library library_;
  cublasLtHandle_t handle_ = nullptr;
  std::map<Key, Prepared> prepared_;
};

}  // namespace

std::unique_ptr<CublasLt> CublasLt::load(std::string& why_none) {
  why_none.clear();
  const Library library(why_none);
  if (!why_none.empty()) return nullptr;
  return std::make_unique<LoadedCublasLt>(library);
}

}  // namespace chorus::kernels::cuda

#else

namespace chorus::kernels::cuda {

std::unique_ptr<CublasLt> CublasLt::load(std::string& why_none) {
  why_none = "this program was built without cublasLt.h";
  return nullptr;
}

}  // namespace chorus::kernels::cuda

#endif
