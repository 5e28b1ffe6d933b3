// The contracts of ops.h as code: an Ops that wraps another one and looks at every call first. A
// broken contract is a fault of ours, told as std::logic_error that names the operation, the
// argument, what was expected and what came.
//
// What is known when an operation is recorded (shapes, types, memory, aliasing) is checked then.
// With `nan_checks` every operation becomes a program of its own, so that what stands in device
// memory can be looked at in between: indices before the operation, results after it. Slow, and
// for tests; without it the recorded list runs as it is.
#include <cmath>
#include <functional>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "kernels/half.h"
#include "kernels/ops.h"
#include "kernels/quant.h"

namespace chorus::kernels {
namespace {

std::string text(DType type) {
  switch (type) {
    case DType::f32:
      return "f32";
    case DType::f16:
      return "f16";
    case DType::bf16:
      return "bf16";
    case DType::e4m3:
      return "e4m3";
    case DType::i32:
      return "i32";
    case DType::u8:
      return "u8";
  }
  return "an unknown type";
}

// Throws about one operation.
class Contract {
 public:
  explicit Contract(std::string operation) : operation_(std::move(operation)) {}

  [[noreturn]] void fail(const std::string& argument, const std::string& problem) const {
    throw std::logic_error(operation_ + ": " + argument + " " + problem);
  }
  void holds(bool condition, const std::string& argument, const std::string& problem) const {
    if (!condition) fail(argument, problem);
  }
  void equal(int64_t got, int64_t expected, const std::string& argument,
             const std::string& what) const {
    if (got == expected) return;
    fail(argument,
         "has " + std::to_string(got) + " " + what + ", expected " + std::to_string(expected));
  }
  void inside(int64_t got, int64_t end, const std::string& argument,
              const std::string& what) const {
    if (got >= 0 && got < end) return;
    fail(argument,
         "names " + what + " " + std::to_string(got) + ", there are " + std::to_string(end));
  }

 private:
  std::string operation_;
};

struct Argument {
  const char* name;
  const View& view;
};

bool overlap(const View& a, const View& b) {
  const auto* a_begin = static_cast<const std::byte*>(a.data);
  const auto* b_begin = static_cast<const std::byte*>(b.data);
  return a_begin < b_begin + b.rows * b.cols * bytes_of(b.type) &&
         b_begin < a_begin + a.rows * a.cols * bytes_of(a.type);
}

class CheckedProgram final : public Program {
 public:
  struct Step {
    std::unique_ptr<Program> program;
    std::function<void()> before, after;  // empty where there is nothing to look at
  };
  std::vector<Step> steps;
};

class CheckedOps final : public Ops {
 public:
  CheckedOps(std::unique_ptr<Ops> ops, bool nan_checks)
      : ops_(std::move(ops)), nan_checks_(nan_checks) {}

  std::string description() const override { return ops_->description() + ", checked"; }
  int block_tokens() const override { return ops_->block_tokens(); }
  DType operand_type() const override { return ops_->operand_type(); }
  std::optional<int64_t> kv_bytes_max() const override { return ops_->kv_bytes_max(); }

  View allocate(DType type, int64_t rows, int64_t cols, const int32_t* live_rows) override {
    const Contract contract("allocate");
    contract.holds(rows >= 0 && cols >= 0, "the size", "is negative");
    if (live_rows != nullptr) check_memory(contract, "live_rows", live_rows, 4);
    const View view = ops_->allocate(type, rows, cols, live_rows);
    memory_[static_cast<const std::byte*>(view.data)] = rows * cols * bytes_of(type);
    return view;
  }
  Weight prepare(const WeightDescription& description) override {
    const Contract contract("prepare");
    contract.holds(!description.parts.empty(), "the description", "has no parts");
    for (const WeightPart& part : description.parts) {
      check_part(contract, part);
      contract.holds(part.cols == description.parts.front().cols, "a part's columns",
                     "differ from the first part's");
    }
    return ops_->prepare(description);
  }
  Weight prepare_vector(const VectorDescription& description) override;
  Weight prepare_table(const WeightPart& part) override {
    check_part(Contract("prepare_table"), part);
    return ops_->prepare_table(part);
  }
  std::unique_ptr<Rope> make_rope(const RopeDescription& description,
                                  int64_t positions_max) override {
    const Contract contract("make_rope");
    contract.holds(!description.frequencies.empty(), "frequencies", "is empty");
    contract.holds(positions_max > 0, "positions_max", "is not positive");
    auto rope = ops_->make_rope(description, positions_max);
    ropes_[rope.get()] = {static_cast<int64_t>(description.frequencies.size()), positions_max};
    return rope;
  }
  int64_t kv_block_bytes(const KvShape& shape) const override {
    return ops_->kv_block_bytes(shape);
  }
  std::unique_ptr<KvStore> make_kv(const KvShape& shape) override {
    const Contract contract("make_kv");
    contract.holds(
        shape.layers >= 0 && shape.kv_heads >= 0 && shape.head_dim > 0 && shape.blocks >= 0,
        "shape", "has a negative size or no head_dim");
    return ops_->make_kv(shape);
  }

  void upload(View to, const void* bytes, int64_t byte_offset, int64_t count_bytes) override {
    check_transfer(Contract("upload"), to, bytes, byte_offset, count_bytes);
    ops_->upload(to, bytes, byte_offset, count_bytes);
  }
  void download(void* bytes, View from, int64_t byte_offset, int64_t count_bytes) override {
    check_transfer(Contract("download"), from, bytes, byte_offset, count_bytes);
    ops_->download(bytes, from, byte_offset, count_bytes);
  }
  void copy_block(KvStore& kv, int32_t from, int32_t to) override {
    const Contract contract("copy_block");
    contract.holds(recording_ == nullptr, "the call", "comes while recording");
    contract.inside(from, kv.shape.blocks, "from", "block");
    contract.inside(to, kv.shape.blocks, "to", "block");
    ops_->copy_block(kv, from, to);
  }

  void record() override {
    Contract("record").holds(recording_ == nullptr, "the call", "comes while recording");
    recording_ = std::make_unique<CheckedProgram>();
    if (!nan_checks_) ops_->record();
  }
  std::unique_ptr<Program> end_record() override {
    Contract("end_record").holds(recording_ != nullptr, "the call", "comes without record()");
    if (!nan_checks_) recording_->steps.push_back({ops_->end_record(), {}, {}});
    return std::move(recording_);
  }
  void run(const Program& program) override {
    const Contract contract("run");
    contract.holds(recording_ == nullptr, "the call", "comes while recording");
    const auto* checked = dynamic_cast<const CheckedProgram*>(&program);
    contract.holds(checked != nullptr, "program", "was not recorded here");
    for (const CheckedProgram::Step& step : checked->steps) {
      if (step.before) step.before();
      ops_->run(*step.program);
      if (step.after) step.after();
    }
  }

  void embed(View out, Weight table, View tokens, View slots, View last_tokens,
             float scale) override;
  void rms_norm(View out, View x, Weight weight, float eps) override;
  void add_rms_norm(View out, View residual, View x, Weight weight, float eps) override;
  void matmul(View out, View x, Weight weight, Weight bias) override;
  void gated_activation(View out, View gate_up, Gate gate) override;
  void split_qkv(const QkvArgs& args) override;
  void attention(const AttentionArgs& args) override;
  void route_experts(const RouteArgs& args) override;
  void experts(const ExpertsArgs& args) override;
  void soft_cap(View x, float cap) override;
  void gather_rows(View out, View x, View index) override;
  void all_reduce(View x) override;
  void sample(const SampleArgs& args) override;

 private:
  struct RopeFacts {
    int64_t half;
    int64_t positions;
  };

  void check_memory(const Contract& contract, const char* name, const void* data,
                    int64_t bytes) const;
  void check_view(const Contract& contract, const Argument& argument, DType type) const;
  // f32, or the type that the backend's matmul reads.
  void check_operand(const Contract& contract, const Argument& argument) const {
    check_view(contract, argument,
               argument.view.type == DType::f32 ? DType::f32 : ops_->operand_type());
  }
  void check_shape(const Contract& contract, const Argument& argument, int64_t rows,
                   int64_t cols) const;
  static void check_apart(const Contract& contract, const Argument& a, const Argument& b);
  static void check_live(const Contract& contract, const Argument& a, const Argument& b);
  void check_transfer(const Contract& contract, const View& view, const void* bytes,
                      int64_t byte_offset, int64_t count_bytes) const;
  static void check_part(const Contract& contract, const WeightPart& part);
  static void check_order(const Contract& contract, RowOrder order, int64_t head_dim);
  static void check_vector(const Contract& contract, const char* name, const Weight& weight,
                           int64_t size);
  void check_norm(const Contract& contract, const Argument& x, const Weight& weight,
                  float eps) const;
  void check_paging(const Contract& contract, const View& spans, const View& block_table,
                    const KvStore* kv, int layer) const;

  template <class T>
  std::vector<T> read(const View& view) const;
  int64_t live_rows(const Contract& contract, const View& view) const;
  void look_at_spans(const Contract& contract, const View& spans, const View& block_table,
                     const KvStore& kv, int64_t token_rows) const;
  void look_at_results(const Contract& contract, const Argument& argument) const;
  void look_at_tokens(const Contract& contract, const View& tokens, const View& slots,
                      const View& last_tokens, int64_t ids) const;
  void look_at_experts(const Contract& contract, const View& experts, int64_t count) const;
  void look_at_adjustments(const Contract& contract, const SampleArgs& args, int32_t slot) const;
  void look_at_sampled(const Contract& contract, const SampleArgs& args) const;

  template <class Operation>
  void add(const Contract& contract, const Operation& operation, std::function<void()> before,
           std::function<void()> after);

  std::unique_ptr<Ops> ops_;
  bool nan_checks_;
  std::unique_ptr<CheckedProgram> recording_;
  std::map<const std::byte*, int64_t> memory_;  // what allocate() gave, in bytes
  std::map<const Rope*, RopeFacts> ropes_;
};

// --- what is known when recording

void CheckedOps::check_memory(const Contract& contract, const char* name, const void* data,
                              int64_t bytes) const {
  const auto* begin = static_cast<const std::byte*>(data);
  contract.holds(begin != nullptr, name, "is null");
  auto region = memory_.upper_bound(begin);
  const bool known = region != memory_.begin();
  if (known) --region;
  contract.holds(known && begin + bytes <= region->first + region->second, name,
                 "reaches outside memory that allocate() gave");
}

void CheckedOps::check_view(const Contract& contract, const Argument& argument, DType type) const {
  const View& view = argument.view;
  contract.holds(view.data != nullptr, argument.name, "is null");
  contract.holds(view.type == type, argument.name,
                 "is " + text(view.type) + ", expected " + text(type));
  check_memory(contract, argument.name, view.data, view.rows * view.cols * bytes_of(view.type));
  if (view.live_rows != nullptr) {
    check_memory(contract, (std::string(argument.name) + ".live_rows").c_str(), view.live_rows, 4);
  }
}

void CheckedOps::check_shape(const Contract& contract, const Argument& argument, int64_t rows,
                             int64_t cols) const {
  contract.equal(argument.view.rows, rows, argument.name, "rows");
  contract.equal(argument.view.cols, cols, argument.name, "columns");
}

void CheckedOps::check_apart(const Contract& contract, const Argument& a, const Argument& b) {
  contract.holds(!overlap(a.view, b.view), a.name, std::string("overlaps ") + b.name);
}

void CheckedOps::check_live(const Contract& contract, const Argument& a, const Argument& b) {
  contract.holds(a.view.live_rows == b.view.live_rows, a.name,
                 std::string("has other live rows than ") + b.name);
}

void CheckedOps::check_transfer(const Contract& contract, const View& view, const void* bytes,
                                int64_t byte_offset, int64_t count_bytes) const {
  contract.holds(recording_ == nullptr, "the call", "comes while recording");
  check_memory(contract, "the buffer", view.data, view.rows * view.cols * bytes_of(view.type));
  contract.holds(bytes != nullptr || count_bytes == 0, "bytes", "is null");
  const int64_t size = view.rows * view.cols * bytes_of(view.type);
  contract.holds(byte_offset >= 0 && count_bytes >= 0 && byte_offset <= size - count_bytes,
                 "the range",
                 "[" + std::to_string(byte_offset) + ", +" + std::to_string(count_bytes) +
                     ") leaves the buffer's " + std::to_string(size) + " bytes");
}

void CheckedOps::check_order(const Contract& contract, RowOrder order, int64_t head_dim) {
  contract.holds(order == RowOrder::as_stored || (head_dim > 0 && head_dim % 2 == 0), "head_dim",
                 "is not a positive even number, as pairs of rows need");
}

void CheckedOps::check_part(const Contract& contract, const WeightPart& part) {
  contract.holds(part.data != nullptr, "a part's data", "is null");
  contract.holds(part.source_cols % block_elements(part.type) == 0, "source_cols",
                 "is not a whole number of blocks");
  contract.holds(part.rows.begin >= 0 && part.rows.begin <= part.rows.end, "a part's rows",
                 "are no range");
  contract.holds(
      part.cols.begin >= 0 && part.cols.begin <= part.cols.end && part.cols.end <= part.source_cols,
      "a part's columns", "are no range of the source");
  check_order(contract, part.order, part.head_dim);
  if (!has_scales(part.type)) return;
  contract.holds(part.scales.scales != nullptr, "a part's scales", "are null");
  contract.holds(part.source_rows >= part.rows.end, "source_rows", "is less than the rows");
}

Weight CheckedOps::prepare_vector(const VectorDescription& description) {
  const Contract contract("prepare_vector");
  contract.holds(!description.parts.empty(), "the description", "has no parts");
  for (const VectorDescription::Part& part : description.parts) {
    contract.holds(part.data != nullptr, "a part's data", "is null");
    contract.holds(block_elements(part.type) == 1, "a part's type", "is made of blocks");
    contract.holds(part.range.begin >= 0 && part.range.begin <= part.range.end, "a part's range",
                   "is no range");
    check_order(contract, part.order, part.head_dim);
  }
  return ops_->prepare_vector(description);
}

void CheckedOps::check_vector(const Contract& contract, const char* name, const Weight& weight,
                              int64_t size) {
  contract.holds(weight != nullptr, name, "is null");
  contract.equal(weight->rows, size, name, "elements");
  contract.equal(weight->cols, 1, name, "columns");
}

void CheckedOps::check_norm(const Contract& contract, const Argument& x, const Weight& weight,
                            float eps) const {
  check_view(contract, x, DType::f32);
  check_vector(contract, "weight", weight, x.view.cols);
  contract.holds(eps >= 0, "eps", "is negative");
}

void CheckedOps::check_paging(const Contract& contract, const View& spans, const View& block_table,
                              const KvStore* kv, int layer) const {
  check_view(contract, {"spans", spans}, DType::i32);
  contract.equal(spans.cols, 4, "spans", "columns");
  check_view(contract, {"block_table", block_table}, DType::i32);
  contract.holds(kv != nullptr, "kv", "is null");
  contract.inside(layer, kv->shape.layers, "layer", "layer");
}

// --- what can be seen between operations

template <class T>
std::vector<T> CheckedOps::read(const View& view) const {
  std::vector<T> values(static_cast<size_t>(view.rows * view.cols * bytes_of(view.type)) /
                        sizeof(T));
  if (values.empty()) return values;
  ops_->download(values.data(), view, 0, static_cast<int64_t>(values.size() * sizeof(T)));
  return values;
}

int64_t CheckedOps::live_rows(const Contract& contract, const View& view) const {
  if (view.live_rows == nullptr) return view.rows;
  int32_t live = 0;
  ops_->download(&live, {const_cast<int32_t*>(view.live_rows), DType::i32, 1, 1}, 0, 4);
  contract.holds(live >= 0 && live <= view.rows, "live_rows",
                 "says " + std::to_string(live) + " of " + std::to_string(view.rows) + " rows");
  return live;
}

void CheckedOps::look_at_spans(const Contract& contract, const View& spans, const View& block_table,
                               const KvStore& kv, int64_t token_rows) const {
  const auto numbers = read<int32_t>(spans);
  const auto table = read<int32_t>(block_table);
  const int64_t block = ops_->block_tokens();
  for (int64_t i = 0; i < live_rows(contract, spans); ++i) {
    const int32_t* at = numbers.data() + i * 4;
    const Span span{at[0], at[1], at[2], at[3]};
    if (span.count == 0) continue;
    contract.inside(span.row, token_rows, "a span", "row");
    contract.inside(int64_t{span.row} + span.count - 1, token_rows, "a span", "last row");
    contract.inside(span.slot, block_table.rows, "a span", "slot");
    contract.holds(span.position >= 0, "a span's position", "is negative");
    const int64_t last = int64_t{span.position} + span.count - 1;
    contract.inside(last / block, block_table.cols, "a span", "block table entry");
    for (int64_t b = span.position / block; b <= last / block; ++b) {
      contract.inside(table[static_cast<size_t>(span.slot * block_table.cols + b)], kv.shape.blocks,
                      "the block table", "block");
    }
  }
}

void CheckedOps::look_at_results(const Contract& contract, const Argument& argument) const {
  const int64_t cols = argument.view.cols;
  View live = argument.view;
  live.rows = live_rows(contract, argument.view);
  std::vector<float> values;
  if (live.type == DType::f32) {
    values = read<float>(live);
  } else {
    for (const uint16_t bits : read<uint16_t>(live)) {
      values.push_back(live.type == DType::f16 ? f16_to_f32(bits) : bf16_to_f32(bits));
    }
  }
  for (size_t i = 0; i < values.size(); ++i) {
    if (std::isfinite(values[i])) continue;
    const auto at = static_cast<int64_t>(i);
    contract.fail(argument.name, "[" + std::to_string(at / cols) + "][" +
                                     std::to_string(at % cols) + "] is " +
                                     std::to_string(values[i]) + " afterwards");
  }
}

void CheckedOps::look_at_tokens(const Contract& contract, const View& tokens, const View& slots,
                                const View& last_tokens, int64_t ids) const {
  const auto token = read<int32_t>(tokens);
  const auto slot = read<int32_t>(slots);
  const auto last = read<int32_t>(last_tokens);
  for (int64_t i = 0; i < live_rows(contract, tokens); ++i) {
    const auto row = static_cast<size_t>(i);
    if (token[row] >= 0) {
      contract.inside(token[row], ids, "tokens", "id");
    } else {
      contract.inside(slot[row], last_tokens.rows, "slots", "slot");
      contract.inside(last[static_cast<size_t>(slot[row])], ids, "last_tokens", "id");
    }
  }
}

void CheckedOps::look_at_experts(const Contract& contract, const View& experts,
                                 int64_t count) const {
  const auto ids = read<int32_t>(experts);
  for (int64_t i = 0; i < live_rows(contract, experts) * experts.cols; ++i) {
    const auto at = static_cast<size_t>(i);
    contract.inside(ids[at], count, "experts", "expert");
    contract.holds(i % experts.cols == 0 || ids[at] > ids[at - 1], "experts", "do not rise");
  }
}

void CheckedOps::look_at_adjustments(const Contract& contract, const SampleArgs& args,
                                     int32_t slot) const {
  contract.holds(args.adjustments.data != nullptr && slot >= 0, "adjustments",
                 "are missing for an adjusted row");
  const auto counts = read<int32_t>(args.adjustment_counts);
  const int32_t count = counts[static_cast<size_t>(slot)];
  const auto room = args.adjustments.cols / static_cast<int64_t>(sizeof(Adjustment));
  contract.inside(count, room + 1, "adjustment_counts", "entry");
  std::vector<Adjustment> list(static_cast<size_t>(count));
  ops_->download(list.data(), args.adjustments, slot * args.adjustments.cols,
                 count * static_cast<int64_t>(sizeof(Adjustment)));
  std::set<int32_t> ids;
  for (const Adjustment& adjustment : list) {
    contract.inside(adjustment.id, args.vocab_size, "adjustments", "id");
    contract.holds(ids.insert(adjustment.id).second, "adjustments",
                   "name id " + std::to_string(adjustment.id) + " twice");
  }
}

void CheckedOps::look_at_sampled(const Contract& contract, const SampleArgs& args) const {
  const auto results = read<Sampled>(args.results);
  for (int64_t i = 0; i < live_rows(contract, args.logits); ++i) {
    const Sampled& result = results[static_cast<size_t>(i)];
    contract.inside(result.token, args.vocab_size, "results", "token");
    contract.holds(result.logprob <= 0, "results", "has a logprob that is no logarithm");
    contract.inside(result.top_count, kTopLogprobsMax + 1, "results", "alternative count");
  }
}

// --- operations

template <class Operation>
void CheckedOps::add(const Contract& contract, const Operation& operation,
                     std::function<void()> before, std::function<void()> after) {
  contract.holds(recording_ != nullptr, "the call", "comes without record()");
  if (!nan_checks_) {
    operation();
    return;
  }
  ops_->record();
  operation();
  recording_->steps.push_back({ops_->end_record(), std::move(before), std::move(after)});
}

void CheckedOps::embed(View out, Weight table, View tokens, View slots, View last_tokens,
                       float scale) {
  const Contract contract("embed");
  check_view(contract, {"out", out}, DType::f32);
  for (const Argument& argument : {Argument{"tokens", tokens}, Argument{"slots", slots}}) {
    check_view(contract, argument, DType::i32);
    check_shape(contract, argument, out.rows, 1);
  }
  check_view(contract, {"last_tokens", last_tokens}, DType::i32);
  contract.equal(last_tokens.cols, 1, "last_tokens", "columns");
  check_live(contract, {"out", out}, {"tokens", tokens});
  contract.holds(table != nullptr, "table", "is null");
  contract.equal(table->cols, out.cols, "table", "columns");
  add(
      contract, [&] { ops_->embed(out, table, tokens, slots, last_tokens, scale); },
      [=, this] { look_at_tokens(contract, tokens, slots, last_tokens, table->rows); },
      [=, this] {
        look_at_results(contract, {"out", out});
      });
}

void CheckedOps::rms_norm(View out, View x, Weight weight, float eps) {
  const Contract contract("rms_norm");
  check_norm(contract, {"x", x}, weight, eps);
  check_operand(contract, {"out", out});
  check_shape(contract, {"out", out}, x.rows, x.cols);
  check_live(contract, {"out", out}, {"x", x});
  if (out.data != x.data) check_apart(contract, {"out", out}, {"x", x});
  add(
      contract, [&] { ops_->rms_norm(out, x, weight, eps); }, {},
      [=, this] {
        look_at_results(contract, {"out", out});
      });
}

void CheckedOps::add_rms_norm(View out, View residual, View x, Weight weight, float eps) {
  const Contract contract("add_rms_norm");
  check_norm(contract, {"x", x}, weight, eps);
  check_operand(contract, {"out", out});
  check_view(contract, {"residual", residual}, DType::f32);
  for (const Argument& argument : {Argument{"out", out}, Argument{"residual", residual}}) {
    check_shape(contract, argument, x.rows, x.cols);
    check_live(contract, argument, {"x", x});
    check_apart(contract, argument, {"x", x});
  }
  check_apart(contract, {"out", out}, {"residual", residual});
  add(
      contract, [&] { ops_->add_rms_norm(out, residual, x, weight, eps); }, {},
      [=, this] {
        look_at_results(contract, {"out", out});
      });
}

void CheckedOps::matmul(View out, View x, Weight weight, Weight bias) {
  const Contract contract("matmul");
  check_operand(contract, {"x", x});
  check_view(contract, {"out", out}, DType::f32);
  contract.holds(weight != nullptr, "weight", "is null");
  contract.equal(x.cols, weight->cols, "x", "columns");
  check_shape(contract, {"out", out}, x.rows, weight->rows);
  check_live(contract, {"out", out}, {"x", x});
  check_apart(contract, {"out", out}, {"x", x});
  if (bias != nullptr) check_vector(contract, "bias", bias, weight->rows);
  add(
      contract, [&] { ops_->matmul(out, x, weight, bias); }, {},
      [=, this] {
        look_at_results(contract, {"out", out});
      });
}

void CheckedOps::gated_activation(View out, View gate_up, Gate gate) {
  const Contract contract("gated_activation");
  check_operand(contract, {"out", out});
  check_view(contract, {"gate_up", gate_up}, DType::f32);
  check_shape(contract, {"gate_up", gate_up}, out.rows, 2 * out.cols);
  check_live(contract, {"out", out}, {"gate_up", gate_up});
  check_apart(contract, {"out", out}, {"gate_up", gate_up});
  add(
      contract, [&] { ops_->gated_activation(out, gate_up, gate); }, {},
      [=, this] {
        look_at_results(contract, {"out", out});
      });
}

void CheckedOps::split_qkv(const QkvArgs& args) {
  const Contract contract("split_qkv");
  check_view(contract, {"qkv", args.qkv}, DType::f32);
  const int64_t heads = int64_t{args.q_heads} + 2 * args.kv_heads;
  contract.equal(args.qkv.cols, heads * args.head_dim, "qkv", "columns");
  if (args.q_norm != nullptr) check_vector(contract, "q_norm", args.q_norm, args.head_dim);
  if (args.k_norm != nullptr) check_vector(contract, "k_norm", args.k_norm, args.head_dim);
  check_paging(contract, args.spans, args.block_table, args.kv, args.layer);
  contract.equal(args.kv->shape.kv_heads, args.kv_heads, "kv", "heads");
  contract.equal(args.kv->shape.head_dim, args.head_dim, "kv", "elements a head");
  if (args.rope != nullptr) {
    const auto rope = ropes_.find(args.rope);
    contract.holds(rope != ropes_.end(), "rope", "was not made here");
    contract.inside(2 * rope->second.half, args.head_dim + 1, "rope", "elements a head");
  }
  contract.holds(args.q_growth_positions > 0, "q_growth_positions", "is not positive");
  add(
      contract, [&] { ops_->split_qkv(args); },
      [=, this] {
        look_at_spans(contract, args.spans, args.block_table, *args.kv,
                      live_rows(contract, args.qkv));
      },
      [=, this] {
        look_at_results(contract, {"qkv", args.qkv});
      });
}

void CheckedOps::attention(const AttentionArgs& args) {
  const Contract contract("attention");
  check_operand(contract, {"out", args.out});
  check_view(contract, {"qkv", args.qkv}, DType::f32);
  const int64_t heads = int64_t{args.q_heads} + 2 * args.kv_heads;
  contract.equal(args.qkv.cols, heads * args.head_dim, "qkv", "columns");
  check_shape(contract, {"out", args.out}, args.qkv.rows, int64_t{args.q_heads} * args.head_dim);
  check_live(contract, {"out", args.out}, {"qkv", args.qkv});
  check_apart(contract, {"out", args.out}, {"qkv", args.qkv});
  check_paging(contract, args.spans, args.block_table, args.kv, args.layer);
  contract.equal(args.kv->shape.kv_heads, args.kv_heads, "kv", "heads");
  contract.equal(args.kv->shape.head_dim, args.head_dim, "kv", "elements a head");
  contract.equal(static_cast<int64_t>(args.kv_head_of.size()), args.q_heads, "kv_head_of",
                 "entries");
  for (const int head : args.kv_head_of) contract.inside(head, args.kv_heads, "kv_head_of", "head");
  contract.holds(args.window >= 0, "window", "is negative");
  contract.holds(args.chunk >= 0, "chunk", "is negative");
  contract.holds(args.window == 0 || args.chunk == 0, "chunk", "comes with a window");
  contract.holds(args.soft_cap >= 0, "soft_cap", "is negative");
  add(
      contract, [&] { ops_->attention(args); },
      [=, this] {
        look_at_spans(contract, args.spans, args.block_table, *args.kv,
                      live_rows(contract, args.qkv));
      },
      [=, this] {
        look_at_results(contract, {"out", args.out});
      });
}

void CheckedOps::route_experts(const RouteArgs& args) {
  const Contract contract("route_experts");
  check_view(contract, {"logits", args.logits}, DType::f32);
  check_view(contract, {"experts", args.experts}, DType::i32);
  check_view(contract, {"weights", args.weights}, DType::f32);
  contract.inside(args.experts.cols - 1, args.logits.cols, "experts", "the last place");
  for (const Argument& argument :
       {Argument{"experts", args.experts}, Argument{"weights", args.weights}}) {
    check_shape(contract, argument, args.logits.rows, args.experts.cols);
    check_live(contract, argument, {"logits", args.logits});
    check_apart(contract, argument, {"logits", args.logits});
  }
  check_apart(contract, {"experts", args.experts}, {"weights", args.weights});
  add(
      contract, [&] { ops_->route_experts(args); }, {},
      [=, this] {
        look_at_experts(contract, args.experts, args.logits.cols);
        look_at_results(contract, {"weights", args.weights});
      });
}

void CheckedOps::experts(const ExpertsArgs& args) {
  const Contract contract("experts");
  check_operand(contract, {"x", args.x});
  check_view(contract, {"out", args.out}, DType::f32);
  check_view(contract, {"experts", args.experts}, DType::i32);
  check_view(contract, {"weights", args.weights}, DType::f32);
  contract.equal(args.out.rows, args.x.rows, "out", "rows");
  check_live(contract, {"out", args.out}, {"x", args.x});
  check_apart(contract, {"out", args.out}, {"x", args.x});
  for (const Argument& argument :
       {Argument{"experts", args.experts}, Argument{"weights", args.weights}}) {
    check_shape(contract, argument, args.x.rows, args.experts.cols);
    check_live(contract, argument, {"x", args.x});
  }
  const auto count = static_cast<int64_t>(args.gate_up.size());
  contract.holds(count > 0, "gate_up", "is empty");
  contract.equal(static_cast<int64_t>(args.down.size()), count, "down", "experts");
  contract.inside(args.experts.cols - 1, count, "experts", "the last place");
  for (size_t i = 0; i < args.gate_up.size(); ++i) {
    contract.holds(args.gate_up[i] != nullptr && args.down[i] != nullptr, "an expert", "is null");
    contract.equal(args.gate_up[i]->cols, args.x.cols, "gate_up", "columns");
    contract.equal(args.down[i]->rows, args.out.cols, "down", "rows");
    contract.equal(args.down[i]->cols, args.down.front()->cols, "down", "columns");
    contract.equal(args.gate_up[i]->rows, 2 * args.down[i]->cols, "gate_up", "rows");
  }
  add(
      contract, [&] { ops_->experts(args); },
      [=, this] { look_at_experts(contract, args.experts, count); },
      [=, this] {
        look_at_results(contract, {"out", args.out});
      });
}

void CheckedOps::soft_cap(View x, float cap) {
  const Contract contract("soft_cap");
  check_view(contract, {"x", x}, DType::f32);
  contract.holds(cap > 0, "cap", "is not positive");
  add(
      contract, [&] { ops_->soft_cap(x, cap); }, {},
      [=, this] {
        look_at_results(contract, {"x", x});
      });
}

void CheckedOps::gather_rows(View out, View x, View index) {
  const Contract contract("gather_rows");
  check_view(contract, {"x", x}, x.type);
  check_view(contract, {"out", out}, x.type);
  check_view(contract, {"index", index}, DType::i32);
  check_shape(contract, {"index", index}, out.rows, 1);
  contract.equal(out.cols, x.cols, "out", "columns");
  check_live(contract, {"out", out}, {"index", index});
  check_apart(contract, {"out", out}, {"x", x});
  add(
      contract, [&] { ops_->gather_rows(out, x, index); },
      [=, this] {
        const auto rows = read<int32_t>(index);
        for (int64_t i = 0; i < live_rows(contract, index); ++i) {
          contract.inside(rows[static_cast<size_t>(i)], live_rows(contract, x), "index", "row");
        }
      },
      [=, this] {
        if (out.type != DType::i32 && out.type != DType::u8)
          look_at_results(contract, {"out", out});
      });
}

void CheckedOps::all_reduce(View x) {
  const Contract contract("all_reduce");
  check_view(contract, {"x", x}, DType::f32);
  add(
      contract, [&] { ops_->all_reduce(x); }, {},
      [=, this] {
        look_at_results(contract, {"x", x});
      });
}

void CheckedOps::sample(const SampleArgs& args) {
  const Contract contract("sample");
  check_view(contract, {"logits", args.logits}, DType::f32);
  contract.holds(args.vocab.begin >= 0 && args.vocab.begin <= args.vocab.end &&
                     args.vocab.end <= args.vocab_size,
                 "vocab", "is no part of the vocabulary");
  contract.equal(args.logits.cols, args.vocab.size(), "logits", "columns");
  check_view(contract, {"params", args.params}, DType::u8);
  check_shape(contract, {"params", args.params}, args.logits.rows, sizeof(SamplingParams));
  check_view(contract, {"results", args.results}, DType::u8);
  check_shape(contract, {"results", args.results}, args.logits.rows, sizeof(Sampled));
  check_view(contract, {"last_tokens", args.last_tokens}, DType::i32);
  if (args.adjustments.data != nullptr) {
    const int64_t slots = args.last_tokens.rows;
    check_view(contract, {"adjustments", args.adjustments}, DType::u8);
    contract.equal(args.adjustments.rows, slots, "adjustments", "rows");
    contract.holds(args.adjustments.cols % static_cast<int64_t>(sizeof(Adjustment)) == 0,
                   "adjustments", "do not consist of whole entries");
    check_view(contract, {"adjustment_counts", args.adjustment_counts}, DType::i32);
    check_shape(contract, {"adjustment_counts", args.adjustment_counts}, slots, 1);
  }
  add(
      contract, [&] { ops_->sample(args); },
      [=, this] {
        const auto params = read<SamplingParams>(args.params);
        for (int64_t i = 0; i < live_rows(contract, args.logits); ++i) {
          const SamplingParams& row = params[static_cast<size_t>(i)];
          if (row.slot != -1) contract.inside(row.slot, args.last_tokens.rows, "params", "slot");
          contract.inside(row.top_logprobs, kTopLogprobsMax + 1, "params", "alternative count");
          contract.holds(row.forced < args.vocab_size, "params.forced", "is not in the vocabulary");
          contract.holds(row.top_p > 0, "params.top_p", "is not positive");
          contract.holds(row.typical_p > 0, "params.typical_p", "is not positive");
          contract.holds(row.min_p >= 0 && row.min_p <= 1, "params.min_p", "is no probability");
          contract.holds(row.repetition_penalty > 0, "params.repetition_penalty",
                         "is not positive");
          if (row.adjusted != 0) look_at_adjustments(contract, args, row.slot);
        }
      },
      [=, this] { look_at_sampled(contract, args); });
}

}  // namespace

std::unique_ptr<Ops> make_checked_ops(std::unique_ptr<Ops> ops, bool nan_checks) {
  return std::make_unique<CheckedOps>(std::move(ops), nan_checks);
}

}  // namespace chorus::kernels
