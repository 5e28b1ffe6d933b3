// The backend: what ops.h records becomes a list of launches, and for steps of few rows a CUDA
// graph of it, captured once per bucket of row counts. A launch is sized for the bucket; the
// kernels read the exact counts from device memory. How many rows are live the backend knows on the
// host as well, from what was uploaded: so a view's rows can be cut before each launch.
#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstring>
#include <list>
#include <map>
#include <optional>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/device_group.h"
#include "kernels/cuda/device_weight.h"
#include "kernels/cuda/experts.h"
#include "kernels/cuda/group_rows.h"
#include "kernels/cuda/kv_blocks.h"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/rows.h"
#include "kernels/cuda/runtime.h"
#include "kernels/cuda/sample.h"
#include "kernels/cuda/split_qkv.h"
#include "kernels/cuda/upload_queue.h"
#include "kernels/cuda/weights.h"
#include "kernels/cuda_ranks.h"
#include "kernels/ops.h"
#include "kernels/rounding.h"

namespace chorus::kernels::cuda {
namespace {

constexpr int64_t kShadowBytesMax = 4096;  // of i32 buffers that may hold row counts
constexpr int64_t kGraphRowsMax = 256;     // steps of more rows are long enough to be launched
// Shares of L2: what memory brings while a norm runs, or a split and the attention behind it (of an
// H200's 60 MB: 12 and 36).
constexpr double kNormAhead = 0.2;
constexpr double kSplitAhead = 0.6;
constexpr size_t kGraphsMax = 64;  // kept for one program, the least recently used go first

// Row counts that share a graph.
int64_t bucket_of(int64_t rows) {
  if (rows <= 2) return rows;
  if (rows <= 4) return 4;
  for (int64_t step = 8; step <= 64; step *= 2) {
    if (rows <= step * 4) return round_up(rows, step);
  }
  return rows;
}

std::string name_of(DType type) {
  return type == DType::f32    ? "f32"
         : type == DType::f16  ? "f16"
         : type == DType::bf16 ? "bf16"
                               : "fp8";
}

struct Operation {
  enum class Kind : uint8_t { matmul, gate, all_reduce, add_norm, other };
  Kind kind = Kind::other;
  std::function<void()> launch;
  MatmulArgs matmul = {};  // of Kind::matmul, to be joined with a gate
  View gated = {};         // of Kind::gate: what it writes
  View gate_up = {};       // and what it reads
  Gate gate = Gate::silu;
  View sum = {};                        // of Kind::all_reduce and Kind::add_norm: the x of both
  std::function<void()> with_sum = {};  // of Kind::add_norm: launches the two as one
  // What a norm or a split brings into L2 for the product behind it; filled when all is recorded.
  std::shared_ptr<Prefetch> ahead = {};
  int64_t ahead_bytes_max = 0;
};

class CudaProgram final : public Program {
 public:
  struct CachedGraph {
    std::vector<int64_t> buckets;
    std::unique_ptr<Graph> graph;
  };
  std::vector<Operation> operations;
  std::vector<const int32_t*> counts;  // host shadows of all live counts that the launches look at
  Memory matmul_workspace, sample_workspace, experts_workspace;
  std::vector<Memory> expert_pointers;                    // of each mixture
  std::map<const KvStore*, Memory> attention_workspaces;  // by KV group
  int64_t matmul_bytes = 0, sample_bytes = 0, experts_bytes = 0;
  mutable std::list<CachedGraph> graphs;  // most recently used first
};

class CudaOps final : public Ops {
 public:
  CudaOps(const CudaOptions& options, const RanksWatch& watch)
      : options_(options),
        facts_(select_device(options.device)),
        loader_(options.operand, stream()),
        uploads_(stream()) {
    if (options.collective != nullptr && options.collective->ranks() > 1) {
      group_ = make_device_group(*options.collective, watch);
    }
  }
  ~CudaOps() override { wait_quietly(stream()); }

  std::string description() const override {
    return facts_.name + ", " + name_of(options_.operand) +
           (options_.kv.has_value() ? ", keys and values " + name_of(*options_.kv) : "") +
           (options_.deterministic ? ", deterministic" : "") +
           (one_shot() != nullptr ? ", one-shot all-reduce" : "");
  }
  int block_tokens() const override { return kBlockTokens; }
  DType operand_type() const override { return options_.operand; }

  // --- at load
  View allocate(DType type, int64_t rows, int64_t cols, const int32_t* live_rows) override {
    const int64_t bytes = rows * cols * bytes_of(type);
    memory_.push_back(cuda::allocate(bytes));
    void* data = memory_.back().get();
    if (type == DType::i32 && bytes <= kShadowBytesMax) {
      shadows_[static_cast<const std::byte*>(data)].resize(static_cast<size_t>(bytes));
    }
    return {data, type, rows, cols, live_rows};
  }
  Weight prepare(const WeightDescription& description) override {
    return loader_.product_matrix(description.parts);
  }
  Weight prepare_vector(const VectorDescription& description) override {
    return loader_.vector(description);
  }
  Weight prepare_table(const WeightPart& part) override { return loader_.matrix({part}); }
  std::unique_ptr<Rope> make_rope(const RopeDescription& description,
                                  int64_t positions_max) override;
  int64_t kv_block_bytes(const KvShape& shape) const override {
    return 2 * int64_t{shape.layers} * shape.kv_heads * kBlockTokens * shape.head_dim *
           bytes_of(kv_type());
  }
  std::optional<int64_t> kv_bytes_max() const override {
    // What is not in use yet: graphs, room for what the driver and NCCL take later.
    return std::max<int64_t>(0, free_bytes() - facts_.memory_bytes / 20 - (int64_t{1} << 30));
  }
  std::unique_ptr<KvStore> make_kv(const KvShape& shape) override;

  // --- between the host and the fixed buffers
  void upload(View to, const void* bytes, int64_t byte_offset, int64_t count_bytes) override;
  void download(void* bytes, View from, int64_t byte_offset, int64_t count_bytes) override;
  void copy_block(KvStore& kv, int32_t from, int32_t to) override;

  // --- recording and running
  void record() override {
    assert(recording_ == nullptr);
    loader_.finish();
    recording_ = std::make_unique<CudaProgram>();
  }
  std::unique_ptr<Program> end_record() override;
  void run(const Program& program) override;

  // --- operations
  void embed(View out, Weight table, View tokens, View slots, View last_tokens,
             float scale) override {
    watch(out);
    add([=, this] {
      const View rows = cut(out);
      if (rows.rows > 0) {
        cuda::embed(rows, table, tokens, slots, last_tokens, scale, stream());
      }
    });
  }
  void rms_norm(View out, View x, Weight weight, float eps) override {
    watch(x);
    const auto ahead = std::make_shared<Prefetch>();
    add({.launch =
             [=, this] {
               if (cut(x).rows == 0) return;
               cuda::rms_norm(cut(out), cut(x), vector(weight), eps, stream(), of_decode(*ahead));
             },
         .ahead = ahead,
         .ahead_bytes_max = of_l2(kNormAhead)});
  }
  void add_rms_norm(View out, View residual, View x, Weight weight, float eps) override {
    watch(x);
    const auto ahead = std::make_shared<Prefetch>();
    add({.kind = Operation::Kind::add_norm,
         .launch =
             [=, this] {
               if (cut(x).rows == 0) return;
               cuda::add_rms_norm(cut(out), cut(residual), cut(x), vector(weight), eps, stream(),
                                  of_decode(*ahead));
             },
         .sum = x,
         .with_sum =
             [=, this] {
               one_shot()->all_reduce_add_rms_norm(cut(out), cut(residual), cut(x), vector(weight),
                                                   eps, stream(), of_decode(*ahead));
             },
         .ahead = ahead,
         .ahead_bytes_max = of_l2(kNormAhead)});
  }
  void matmul(View out, View x, Weight weight, Weight bias) override;
  void gated_activation(View out, View gate_up, Gate gate) override;
  void split_qkv(const QkvArgs& args) override {
    watch(args.qkv);
    watch(args.spans);
    const auto ahead = std::make_shared<Prefetch>();
    add({.launch =
             [=, this] {
               QkvArgs call = args;
               call.qkv = cut(args.qkv);
               call.spans = cut(args.spans);
               if (call.qkv.rows > 0) cuda::split_qkv(call, stream(), of_decode(*ahead));
             },
         .ahead = ahead,
         .ahead_bytes_max = of_l2(kSplitAhead)});
  }
  void attention(const AttentionArgs& args) override;
  void route_experts(const RouteArgs& args) override {
    watch(args.logits);
    add([=, this] {
      RouteArgs call = args;
      call.logits = cut(args.logits);
      cuda::route_experts(call, stream());
    });
  }
  void experts(const ExpertsArgs& args) override;
  void soft_cap(View x, float cap) override {
    watch(x);
    add([=, this] {
      if (cut(x).rows > 0) cuda::soft_cap(cut(x), cap, stream());
    });
  }
  void gather_rows(View out, View x, View index) override {
    watch(index);
    add([=, this] {
      if (cut(index).rows > 0) cuda::gather_rows(cut(out), x, cut(index), stream());
    });
  }
  void all_reduce(View x) override;
  void sample(const SampleArgs& args) override;

 private:
  cudaStream_t stream() const { return stream_.get(); }
  DeviceLimits limits() const {
    return {.capability = facts_.capability, .multiprocessors = facts_.multiprocessors};
  }
  DType kv_type() const {
    return options_.kv.value_or(options_.operand == DType::f32 ? DType::f32 : DType::f16);
  }
  void add(std::function<void()> launch) { add({.launch = std::move(launch)}); }
  void add(Operation operation) {
    assert(recording_ != nullptr);
    recording_->operations.push_back(std::move(operation));
  }
  // The host's copy of a live count; null for views whose rows are all live.
  const int32_t* shadow_of(const View& view) const;
  void watch(const View& view);
  int64_t live(const View& view) const;
  // The view with the rows that this launch is for.
  View cut(View view) const;
  int64_t of_l2(double share) const {
    return static_cast<int64_t>(share * static_cast<double>(facts_.l2_bytes)) / 256 * 256;
  }
  // Long steps keep memory busy by themselves.
  Prefetch of_decode(const Prefetch& ahead) const { return in_buckets_ ? ahead : Prefetch{}; }
  void launch_matmul(const MatmulArgs& args);
  std::shared_ptr<OrderedSum> ordered_sum_of(const View& x);
  std::shared_ptr<WholeRows> whole_logits_of(const SampleArgs& args);
  // Null where a rank is alone or its group has none.
  const OneShot* one_shot() const { return group_ == nullptr ? nullptr : group_->one_shot(); }
  bool goes_one_shot(const View& rows) const {
    return one_shot() != nullptr && OneShot::takes(rows.rows, rows.cols);
  }
  void join_gates(std::vector<Operation>& operations);
  void join_sums(std::vector<Operation>& operations);
  static void look_ahead(std::vector<Operation>& operations);
  const CudaProgram& running() const { return *running_; }

  CudaOptions options_;
  DeviceFacts facts_;
  Stream stream_;
  WeightLoader loader_;
  UploadQueue uploads_;
  std::unique_ptr<DeviceGroup> group_;                               // null: a rank alone
  std::map<const void*, std::shared_ptr<OrderedSum>> ordered_sums_;  // by what is summed
  std::map<const void*, std::shared_ptr<WholeRows>> whole_logits_;   // by the slice
  std::vector<Memory> memory_;
  std::map<const std::byte*, std::vector<std::byte>> shadows_;
  std::unique_ptr<CudaProgram> recording_;
  const CudaProgram* running_ = nullptr;
  bool in_buckets_ = false;  // this run's launches are for a graph
};

std::unique_ptr<Rope> CudaOps::make_rope(const RopeDescription& description,
                                         int64_t positions_max) {
  auto table = std::make_unique<RopeTable>();
  const auto half = std::ssize(description.frequencies);
  std::vector<float> cosines, sines;
  cosines.reserve(static_cast<size_t>(positions_max * half));
  sines.reserve(static_cast<size_t>(positions_max * half));
  for (int64_t position = 0; position < positions_max; ++position) {
    for (const float frequency : description.frequencies) {
      const double angle = static_cast<double>(position) * static_cast<double>(frequency);
      const double magnitude = description.magnitude;
      cosines.push_back(static_cast<float>(std::cos(angle) * magnitude));
      sines.push_back(static_cast<float>(std::sin(angle) * magnitude));
    }
  }
  table->positions = positions_max;
  table->rotated = static_cast<int>(2 * half);
  const auto bytes = static_cast<int64_t>(cosines.size() * sizeof(float));
  for (const auto& [values, to] : {std::pair{&cosines, &table->cosines}, {&sines, &table->sines}}) {
    memory_.push_back(cuda::allocate(bytes));
    copy_to_device(memory_.back().get(), values->data(), bytes, stream());
    *to = static_cast<const float*>(memory_.back().get());
  }
  wait_for(stream());
  return table;
}

std::unique_ptr<KvStore> CudaOps::make_kv(const KvShape& shape) {
  auto kv = std::make_unique<KvBlocks>();
  kv->shape = shape;
  kv->type = kv_type();
  const int64_t bytes = shape.blocks * kv_block_bytes(shape) / 2;
  kv->keys_memory = cuda::allocate(bytes);
  kv->values_memory = cuda::allocate(bytes);
  kv->keys = kv->keys_memory.get();
  kv->values = kv->values_memory.get();
  return kv;
}

void CudaOps::upload(View to, const void* bytes, int64_t byte_offset, int64_t count_bytes) {
  if (count_bytes == 0) return;
  assert(byte_offset >= 0 && byte_offset + count_bytes <= to.rows * to.cols * bytes_of(to.type));
  auto* data = static_cast<std::byte*>(to.data) + byte_offset;
  const auto shadow = shadows_.find(static_cast<const std::byte*>(to.data));
  if (shadow != shadows_.end()) {
    std::memcpy(shadow->second.data() + byte_offset, bytes, static_cast<size_t>(count_bytes));
  }
  uploads_.add(data, bytes, count_bytes);
}

void CudaOps::download(void* bytes, View from, int64_t byte_offset, int64_t count_bytes) {
  if (count_bytes == 0) return;
  uploads_.flush();
  copy_to_host(bytes, static_cast<const std::byte*>(from.data) + byte_offset, count_bytes,
               stream());
  wait_for(stream());
}

void CudaOps::copy_block(KvStore& kv, int32_t from, int32_t to) {
  const auto& blocks = static_cast<const KvBlocks&>(kv);
  const int64_t bytes = blocks.block_elements() * bytes_of(blocks.type);
  const int64_t pitch = blocks.layer_elements() * bytes_of(blocks.type);
  uploads_.flush();
  for (void* half : {blocks.keys, blocks.values}) {
    auto* data = static_cast<std::byte*>(half);
    copy_rows_on_device(data + to * bytes, data + from * bytes, pitch, bytes, kv.shape.layers,
                        stream());
  }
}

const int32_t* CudaOps::shadow_of(const View& view) const {
  if (view.live_rows == nullptr) return nullptr;
  const auto* at = reinterpret_cast<const std::byte*>(view.live_rows);
  auto region = shadows_.upper_bound(at);
  assert(region != shadows_.begin());
  --region;
  const auto offset = static_cast<size_t>(at - region->first);
  assert(offset + sizeof(int32_t) <= region->second.size());
  return reinterpret_cast<const int32_t*>(region->second.data() + offset);
}

void CudaOps::watch(const View& view) {
  const int32_t* shadow = shadow_of(view);
  auto& counts = recording_->counts;
  if (shadow != nullptr && std::find(counts.begin(), counts.end(), shadow) == counts.end()) {
    counts.push_back(shadow);
  }
}

int64_t CudaOps::live(const View& view) const {
  const int32_t* shadow = shadow_of(view);
  return shadow == nullptr ? view.rows : std::clamp<int64_t>(*shadow, 0, view.rows);
}

View CudaOps::cut(View view) const {
  const int64_t rows = live(view);
  view.rows = in_buckets_ ? std::min(bucket_of(rows), view.rows) : rows;
  return view;
}

void CudaOps::launch_matmul(const MatmulArgs& args) {
  MatmulArgs call = args;
  call.x = cut(args.x);
  call.out.rows = call.x.rows;
  call.limits = limits();
  if (call.x.rows == 0) return;
  cuda::matmul(call, running().matmul_workspace.get(), options_.deterministic, stream());
}

void CudaOps::matmul(View out, View x, Weight weight, Weight bias) {
  watch(x);
  auto& bytes = recording_->matmul_bytes;
  bytes = std::max(bytes, matmul_workspace_bytes(cuda::matrix(weight), x.rows, limits(),
                                                 options_.deterministic));
  const MatmulArgs args{
      .out = out, .x = x, .weight = &cuda::matrix(weight), .bias = cuda::vector(bias)};
  add({.kind = Operation::Kind::matmul,
       .launch = [this, args, weight, bias] { launch_matmul(args); },
       .matmul = args});
}

void CudaOps::gated_activation(View out, View gate_up, Gate gate) {
  watch(gate_up);
  add({.kind = Operation::Kind::gate,
       .launch =
           [=, this] {
             if (cut(gate_up).rows == 0) return;
             cuda::gated_activation(cut(out), cut(gate_up), gate, stream());
           },
       .gated = out,
       .gate_up = gate_up,
       .gate = gate});
}

void CudaOps::attention(const AttentionArgs& args) {
  watch(args.out);
  watch(args.spans);
  const AttentionRoom room = attention_room(args);
  auto& workspaces = recording_->attention_workspaces;
  const int64_t bytes = attention_workspace_bytes(args, room);  // looks at every layer's arguments
  const bool first = !workspaces.contains(args.kv);             // of the group's layers
  if (first) workspaces[args.kv] = cuda::allocate(bytes);
  void* workspace = workspaces[args.kv].get();
  add([=, this] {
    AttentionArgs call = args;
    call.out = cut(args.out);
    call.qkv = cut(args.qkv);
    call.spans = cut(args.spans);
    if (call.out.rows == 0) return;
    const AttentionContext context{.workspace = workspace,
                                   .room = room,
                                   .capability = facts_.capability,
                                   .multiprocessors = facts_.multiprocessors,
                                   .deterministic = options_.deterministic};
    if (first) attention_plan(call, context, stream());
    cuda::attention(call, context, stream());
  });
}

void CudaOps::experts(const ExpertsArgs& args) {
  watch(args.x);
  const std::vector<const void*> pointers = cuda::expert_pointers(args);
  auto& bytes = recording_->experts_bytes;
  bytes = std::max(bytes, experts_workspace_bytes(args));
  const auto pointers_bytes = static_cast<int64_t>(pointers.size() * sizeof(void*));
  recording_->expert_pointers.push_back(cuda::allocate(pointers_bytes));
  void* on_device = recording_->expert_pointers.back().get();
  copy_to_device(on_device, pointers.data(), pointers_bytes, stream());
  add([=, this] {
    cuda::experts(args, cut(args.x).rows, limits(), static_cast<const void* const*>(on_device),
                  running().experts_workspace.get(), stream());
  });
}

void CudaOps::all_reduce(View x) {
  if (group_ == nullptr) return;
  watch(x);
  // The sum of two numbers has no order.
  const bool in_order = options_.deterministic && group_->ranks() > 2;
  std::shared_ptr<OrderedSum> ordered = in_order ? ordered_sum_of(x) : nullptr;
  add({.kind = Operation::Kind::all_reduce,
       .launch =
           [=, this] {
             const View rows = cut(x);
             if (rows.rows == 0) return;
             if (goes_one_shot(rows)) {
               one_shot()->all_reduce(rows, stream());
             } else if (ordered != nullptr) {
               ordered->add(rows, stream());
             } else {
               group_->all_reduce(static_cast<float*>(rows.data), rows.rows * rows.cols, stream());
             }
           },
       .sum = x});
}

std::shared_ptr<OrderedSum> CudaOps::ordered_sum_of(const View& x) {
  auto& ordered = ordered_sums_[x.data];
  if (ordered == nullptr) ordered = std::make_shared<OrderedSum>(*group_, x.rows * x.cols);
  return ordered;
}

// Rows that all ranks hold slices of are put together on every rank, which then draws the same
// tokens as the others.
std::shared_ptr<WholeRows> CudaOps::whole_logits_of(const SampleArgs& args) {
  if (group_ == nullptr) return nullptr;
  auto& whole = whole_logits_[args.logits.data];
  if (whole == nullptr) {
    whole = std::make_shared<WholeRows>(*group_, args.logits.rows,
                                        ranges_of_ranks(*options_.collective, args.vocab));
  }
  return whole;
}

void CudaOps::sample(const SampleArgs& args) {
  watch(args.logits);
  auto& bytes = recording_->sample_bytes;
  const auto whole = whole_logits_of(args);
  SampleArgs all = args;
  if (whole != nullptr) all.vocab = {0, args.vocab_size};
  bytes = std::max(bytes, sample_workspace_bytes(all));
  add([=, this] {
    SampleArgs call = all;
    call.logits = cut(args.logits);
    if (call.logits.rows == 0) return;
    if (whole != nullptr) call.logits = whole->join(call.logits, stream());
    cuda::sample(call, running().sample_workspace.get(), stream());
  });
}

// A product whose result only feeds a gate takes the gate into its epilogue.
void CudaOps::join_gates(std::vector<Operation>& operations) {
  for (size_t i = 0; i + 1 < operations.size(); ++i) {
    const Operation& product = operations[i];
    const Operation& gate = operations[i + 1];
    if (product.kind != Operation::Kind::matmul || gate.kind != Operation::Kind::gate) continue;
    if (product.matmul.out.data != gate.gate_up.data || product.matmul.gated) continue;
    MatmulArgs joined = product.matmul;
    joined.out = gate.gated;
    joined.gated = true;
    joined.gate = gate.gate;
    auto keep = product.launch;  // holds the weight
    operations[i] = {.kind = Operation::Kind::matmul,
                     .launch = [this, joined, keep] { launch_matmul(joined); },
                     .matmul = joined};
    operations.erase(operations.begin() + static_cast<ptrdiff_t>(i) + 1);
  }
}

// A sum over ranks and the norm behind it become one launch where the rows are few.
void CudaOps::join_sums(std::vector<Operation>& operations) {
  if (one_shot() == nullptr) return;
  for (size_t i = 0; i + 1 < operations.size(); ++i) {
    const Operation& sum = operations[i];
    Operation& norm = operations[i + 1];
    if (sum.kind != Operation::Kind::all_reduce || norm.kind != Operation::Kind::add_norm) continue;
    if (sum.sum.data != norm.sum.data) continue;
    norm.launch = [this, x = norm.sum, first = sum.launch, then = norm.launch,
                   both = norm.with_sum] {
      const View rows = cut(x);
      if (rows.rows > 0 && goes_one_shot(rows)) return both();
      first();
      then();
    };
    operations.erase(operations.begin() + static_cast<ptrdiff_t>(i));
  }
}

// Norms and splits learn where the weights of the next product begin.
void CudaOps::look_ahead(std::vector<Operation>& operations) {
  Prefetch next;
  for (auto operation = operations.rbegin(); operation != operations.rend(); ++operation) {
    if (operation->kind == Operation::Kind::matmul) {
      const DeviceWeight& weight = *operation->matmul.weight;
      next = {.data = weight.data, .bytes = weight.bytes};
    }
    if (operation->ahead == nullptr) continue;
    *operation->ahead = {.data = next.data,
                         .bytes = std::min(next.bytes, operation->ahead_bytes_max)};
    next = {};
  }
}

std::unique_ptr<Program> CudaOps::end_record() {
  assert(recording_ != nullptr);
  auto program = std::move(recording_);
  join_gates(program->operations);
  join_sums(program->operations);
  look_ahead(program->operations);
  program->matmul_workspace = cuda::allocate(program->matmul_bytes);
  program->sample_workspace = cuda::allocate(program->sample_bytes);
  program->experts_workspace = cuda::allocate(program->experts_bytes);
  return program;
}

void CudaOps::run(const Program& recorded) {
  assert(recording_ == nullptr);
  const auto& program = static_cast<const CudaProgram&>(recorded);
  running_ = &program;
  uploads_.flush();
  const auto launch_all = [&] {
    for (const Operation& operation : program.operations) operation.launch();
  };
  std::vector<int64_t> buckets;
  int64_t most = 0;
  for (const int32_t* count : program.counts) {
    buckets.push_back(bucket_of(*count));
    most = std::max<int64_t>(most, *count);
  }
  in_buckets_ = most <= kGraphRowsMax;
  if (!in_buckets_) {
    launch_all();
    if (group_ != nullptr) group_->step_queued(stream());
    return;
  }
  auto& graphs = program.graphs;
  auto found = std::find_if(graphs.begin(), graphs.end(),
                            [&](const auto& cached) { return cached.buckets == buckets; });
  if (found == graphs.end()) {
    if (graphs.size() == kGraphsMax) graphs.pop_back();
    graphs.push_front({buckets, std::make_unique<Graph>(stream(), launch_all)});
  } else {
    graphs.splice(graphs.begin(), graphs, found);
  }
  graphs.front().graph->replay(stream());
  if (group_ != nullptr) group_->step_queued(stream());
}

}  // namespace
}  // namespace chorus::kernels::cuda

namespace chorus::kernels {

#ifdef __CUDACC__
int cuda_device_count(std::string& why_none) {
  return cuda::device_count(why_none);
}
bool cuda_ranks_can_meet(std::string& why_not) {
  return cuda::can_form_groups(why_not);
}
std::unique_ptr<Ops> make_cuda_ops(const CudaOptions& options, const RanksWatch& watch) {
  return std::make_unique<cuda::CudaOps>(options, watch);
}
std::unique_ptr<Ops> make_cuda_ops(const CudaOptions& options) {
#else
std::unique_ptr<Ops> make_emulated_ops(const CudaOptions& options) {
#endif
  return std::make_unique<cuda::CudaOps>(options, RanksWatch{});
}

}  // namespace chorus::kernels
