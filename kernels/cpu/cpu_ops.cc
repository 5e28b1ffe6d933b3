// The CPU backend: records the operations' phases and runs the list on the workers, which are woken
// once for a whole list.
#include <cassert>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#include "kernels/cpu/attention.h"
#include "kernels/cpu/backend.h"
#include "kernels/cpu/experts.h"
#include "kernels/cpu/kv_blocks.h"
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/memory.h"
#include "kernels/cpu/packed_weight.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/sample.h"
#include "kernels/cpu/workers.h"
#include "kernels/ops.h"

namespace chorus::kernels {
namespace {

class CpuProgram final : public Program {
 public:
  Phases phases;
};

const CpuKernels& kernels_of(Isa isa) {
  assert(supported(isa));
  switch (isa) {
    case Isa::scalar:
      return kScalarKernels;
    case Isa::avx2:
      return kAvx2Kernels;
    case Isa::avx512:
      return kAvx512Kernels;
  }
  assert(false);
  return kScalarKernels;
}

int thread_count(const CpuOptions& options) {
  if (options.threads > 0) return options.threads;
  const auto cores = static_cast<int>(std::thread::hardware_concurrency());  // by affinity
  return cores > 0 ? cores : 1;
}

// A weight made by this backend, as what it is. Null stays null.
template <class T>
std::shared_ptr<const T> as(const Weight& weight) {
  auto typed = std::dynamic_pointer_cast<const T>(weight);
  assert((typed != nullptr) == (weight != nullptr));
  return typed;
}

class CpuOps final : public Ops {
 public:
  explicit CpuOps(const CpuOptions& options)
      : isa_(options.isa),
        workers_(thread_count(options)),
        scratch_(workers_.count()),
        backend_{kernels_of(options.isa), workers_, scratch_, group_of(options)} {}

  std::string description() const override {
    const std::string count = std::to_string(workers_.count());
    return "cpu " + std::string(name_of(isa_)) + ", " + count +
           (workers_.count() == 1 ? " thread" : " threads");
  }
  int block_tokens() const override { return kLaneRows; }

  View allocate(DType type, int64_t rows, int64_t cols, const int32_t* live_rows) override {
    memory_.emplace_back(rows * cols * bytes_of(type));
    return {memory_.back().data(), type, rows, cols, live_rows};
  }
  Weight prepare(const WeightDescription& description) override {
    return pack_matrix(description, workers_);
  }
  Weight prepare_vector(const VectorDescription& description) override {
    return pack_vector(description);
  }
  Weight prepare_table(const WeightPart& part) override { return refer_to_table(part); }
  std::unique_ptr<Rope> make_rope(const RopeDescription& description,
                                  int64_t positions_max) override {
    return std::make_unique<RopeTables>(description, positions_max);
  }
  int64_t kv_block_bytes(const KvShape& shape) const override { return kv_block_halves(shape) * 2; }
  std::unique_ptr<KvStore> make_kv(const KvShape& shape) override {
    return std::make_unique<KvBlocks>(shape);
  }

  void upload(View to, const void* bytes, int64_t byte_offset, int64_t count_bytes) override {
    assert(byte_offset >= 0 && byte_offset + count_bytes <= to.rows * to.cols * bytes_of(to.type));
    std::memcpy(static_cast<std::byte*>(to.data) + byte_offset, bytes, count_bytes);
  }
  void download(void* bytes, View from, int64_t byte_offset, int64_t count_bytes) override {
    assert(byte_offset >= 0 &&
           byte_offset + count_bytes <= from.rows * from.cols * bytes_of(from.type));
    std::memcpy(bytes, static_cast<const std::byte*>(from.data) + byte_offset, count_bytes);
  }
  void copy_block(KvStore& kv, int32_t from, int32_t to) override {
    const auto& blocks = static_cast<const KvBlocks&>(kv);
    assert(from >= 0 && from < kv.shape.blocks && to >= 0 && to < kv.shape.blocks);
    std::memmove(blocks.block(to), blocks.block(from), kv_block_bytes(kv.shape));
  }

  void record() override {
    assert(recording_ == nullptr);
    recording_ = std::make_unique<CpuProgram>();
  }
  std::unique_ptr<Program> end_record() override {
    assert(recording_ != nullptr);
    return std::move(recording_);
  }
  void run(const Program& program) override {
    assert(recording_ == nullptr);
    workers_.run(static_cast<const CpuProgram&>(program).phases);
  }

  void embed(View out, Weight table, View tokens, View slots, View last_tokens,
             float scale) override {
    EmbedCall call{out, as<TableWeight>(table), tokens, slots, last_tokens, scale};
    add({embed_phase(call, backend_)});
  }
  void rms_norm(View out, View x, Weight weight, float eps) override {
    NormCall call{out, View{}, x, as<VectorWeight>(weight), eps};
    add({norm_phase(call, backend_)});
  }
  void add_rms_norm(View out, View residual, View x, Weight weight, float eps) override {
    NormCall call{out, residual, x, as<VectorWeight>(weight), eps};
    add({norm_phase(call, backend_)});
  }
  void matmul(View out, View x, Weight weight, Weight bias) override {
    MatmulCall call{out, x, as<MatrixWeight>(weight), as<VectorWeight>(bias)};
    assert(x.cols == weight->cols && out.cols == weight->rows);
    add(matmul_phases(call, backend_));
  }
  void gated_activation(View out, View gate_up, Gate gate) override {
    assert(gate_up.cols == 2 * out.cols);
    add({gate_phase(out, gate_up, gate, backend_)});
  }
  void split_qkv(const QkvArgs& args) override { add({split_qkv_phase(args, backend_)}); }
  void attention(const AttentionArgs& args) override { add({attention_phase(args, backend_)}); }
  void route_experts(const RouteArgs& args) override { add({route_phase(args, backend_)}); }
  void experts(const ExpertsArgs& args) override { add(experts_phases(args, backend_)); }
  void soft_cap(View x, float cap) override { add({soft_cap_phase(x, cap, backend_)}); }
  void gather_rows(View out, View x, View index) override {
    add({gather_phase(out, x, index, backend_)});
  }
  void all_reduce(View x) override {
    if (backend_.collective == nullptr) return;
    add({gang_phase(backend_, [this, x](int place) {
      backend_.collective->all_reduce(static_cast<float*>(x.data), live_rows(x) * x.cols, place,
                                      workers_);
    })});
  }
  void sample(const SampleArgs& args) override { add({sample_phase(args, backend_)}); }

 private:
  static Collective* group_of(const CpuOptions& options) {
    const bool alone = options.collective == nullptr || options.collective->ranks() == 1;
    return alone ? nullptr : options.collective;
  }
  void add(const Phases& phases) {
    assert(recording_ != nullptr);
    recording_->phases.insert(recording_->phases.end(), phases.begin(), phases.end());
  }

  const Isa isa_;
  Workers workers_;
  Scratch scratch_;
  Backend backend_;
  std::vector<Memory> memory_;
  std::unique_ptr<CpuProgram> recording_;
};

}  // namespace

std::unique_ptr<Ops> make_cpu_ops(const CpuOptions& options) {
  return std::make_unique<CpuOps>(options);
}

}  // namespace chorus::kernels
