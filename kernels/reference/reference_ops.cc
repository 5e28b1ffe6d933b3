// The backend that the others are held to: plain loops in f32 over weights that are dequantised
// when they are used, f32 keys and values. A Program is a list of closures; each runs on every
// worker, with a barrier behind it.
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "kernels/host_sampler.h"
#include "kernels/ops.h"
#include "kernels/reference/attention.h"
#include "kernels/reference/experts.h"
#include "kernels/reference/operations.h"
#include "kernels/reference/team.h"
#include "kernels/reference/weights.h"
#include "kernels/route.h"

namespace chorus::kernels {
namespace {

using reference::Share;

class ReferenceProgram final : public Program {
 public:
  std::vector<std::function<void(Share)>> operations;
};

int thread_count(const CpuOptions& options) {
  if (options.threads > 0) return options.threads;
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

std::byte* at_offset(const View& view, int64_t byte_offset, [[maybe_unused]] int64_t count_bytes) {
  assert(byte_offset >= 0 && count_bytes >= 0 &&
         byte_offset + count_bytes <= view.rows * view.cols * bytes_of(view.type));
  return static_cast<std::byte*>(view.data) + byte_offset;
}

class ReferenceOps final : public Ops {
 public:
  explicit ReferenceOps(const CpuOptions& options)
      : team_(thread_count(options)), collective_(options.collective) {}

  std::string description() const override {
    return "cpu reference, " + std::to_string(team_.count()) +
           (team_.count() == 1 ? " thread" : " threads");
  }
  int block_tokens() const override { return reference::kBlockTokens; }

  View allocate(DType type, int64_t rows, int64_t cols, const int32_t* live_rows) override {
    const auto bytes = static_cast<size_t>(std::max<int64_t>(1, rows * cols * bytes_of(type)));
    memory_.emplace_back(std::calloc(1, bytes));
    if (memory_.back() == nullptr) throw std::bad_alloc();
    return {memory_.back().get(), type, rows, cols, live_rows};
  }
  Weight prepare(const WeightDescription& description) override {
    return std::make_shared<reference::MatrixWeight>(description.parts);
  }
  Weight prepare_vector(const VectorDescription& description) override {
    return std::make_shared<reference::VectorWeight>(description);
  }
  Weight prepare_table(const WeightPart& part) override {
    return std::make_shared<reference::MatrixWeight>(std::vector<WeightPart>{part});
  }
  std::unique_ptr<Rope> make_rope(const RopeDescription& description,
                                  int64_t positions_max) override {
    return std::make_unique<reference::RopeTables>(description, positions_max);
  }
  int64_t kv_block_bytes(const KvShape& shape) const override {
    return reference::KvBlocks::block_floats(shape) * 4;
  }
  std::unique_ptr<KvStore> make_kv(const KvShape& shape) override {
    return std::make_unique<reference::KvBlocks>(shape);
  }

  void upload(View to, const void* bytes, int64_t byte_offset, int64_t count_bytes) override {
    if (count_bytes == 0) return;  // `bytes` may be null then
    std::memcpy(at_offset(to, byte_offset, count_bytes), bytes, static_cast<size_t>(count_bytes));
  }
  void download(void* bytes, View from, int64_t byte_offset, int64_t count_bytes) override {
    if (count_bytes == 0) return;
    std::memcpy(bytes, at_offset(from, byte_offset, count_bytes), static_cast<size_t>(count_bytes));
  }
  void copy_block(KvStore& kv, int32_t from, int32_t to) override {
    const auto& blocks = static_cast<const reference::KvBlocks&>(kv);
    std::memmove(blocks.block(to), blocks.block(from),
                 static_cast<size_t>(kv_block_bytes(kv.shape)));
  }

  void record() override {
    assert(recording_ == nullptr);
    recording_ = std::make_unique<ReferenceProgram>();
  }
  std::unique_ptr<Program> end_record() override {
    assert(recording_ != nullptr);
    return std::move(recording_);
  }
  void run(const Program& program) override {
    assert(recording_ == nullptr);
    const auto& operations = static_cast<const ReferenceProgram&>(program).operations;
    team_.run([&](int worker) {
      for (const auto& operation : operations) {
        operation({worker, team_.count()});
        team_.barrier();
      }
    });
  }

  void embed(View out, Weight table, View tokens, View slots, View last_tokens,
             float scale) override {
    add([call = reference::EmbedCall{out, std::move(table), tokens, slots, last_tokens, scale}](
            Share share) { reference::embed(call, share); });
  }
  void rms_norm(View out, View x, Weight weight, float eps) override {
    add([call = reference::NormCall{out, {}, x, std::move(weight), eps}](Share share) {
      reference::norm(call, share);
    });
  }
  void add_rms_norm(View out, View residual, View x, Weight weight, float eps) override {
    add([call = reference::NormCall{out, residual, x, std::move(weight), eps}](Share share) {
      reference::norm(call, share);
    });
  }
  void matmul(View out, View x, Weight weight, Weight bias) override {
    add([call = reference::MatmulCall{out, x, std::move(weight), std::move(bias)}](Share share) {
      reference::matmul(call, share);
    });
  }
  void gated_activation(View out, View gate_up, Gate gate) override {
    add([=](Share share) { reference::gated_activation(out, gate_up, gate, share); });
  }
  void split_qkv(const QkvArgs& args) override {
    add([args](Share share) { reference::split_qkv(args, share); });
  }
  void attention(const AttentionArgs& args) override {
    add([args](Share share) { reference::attention(args, share); });
  }
  void route_experts(const RouteArgs& args) override {
    add([args](Share share) {
      const Range rows = share.of(reference::live_rows(args.logits));
      for (int64_t row = rows.begin; row < rows.end; ++row) route_row(args, row);
    });
  }
  void experts(const ExpertsArgs& args) override {
    experts_.reserve(args);
    const auto shared = std::make_shared<const ExpertsArgs>(args);
    add([=, this](Share share) { reference::experts_gate_up(*shared, experts_, share); });
    add([=, this](Share share) { reference::experts_activation(*shared, experts_, share); });
    add([=, this](Share share) { reference::experts_down(*shared, experts_, share); });
    add([=, this](Share share) { reference::experts_sum(*shared, experts_, share); });
  }
  void soft_cap(View x, float cap) override {
    add([=](Share share) { reference::soft_cap(x, cap, share); });
  }
  void gather_rows(View out, View x, View index) override {
    add([=](Share share) { reference::gather_rows(out, x, index, share); });
  }
  void all_reduce(View x) override {
    if (collective_ == nullptr) return;
    add([this, x](Share share) {
      collective_->all_reduce(static_cast<float*>(x.data), reference::live_rows(x) * x.cols,
                              share.worker, team_);
    });
  }
  void sample(const SampleArgs& args) override {
    add([this, sampler = std::make_shared<HostSampler>(args, collective_)](Share share) {
      sampler->run(share.worker, team_);
    });
  }

 private:
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  void add(std::function<void(Share)> operation) {
    assert(recording_ != nullptr);
    recording_->operations.push_back(std::move(operation));
  }

  reference::Team team_;
  Collective* collective_;
  std::vector<std::unique_ptr<void, Free>> memory_;
  reference::ExpertsScratch experts_;
  std::unique_ptr<ReferenceProgram> recording_;
};

}  // namespace

std::unique_ptr<Ops> make_reference_ops(const CpuOptions& options) {
  return std::make_unique<ReferenceOps>(options);
}

}  // namespace chorus::kernels
