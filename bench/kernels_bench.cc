// Measures the CPU backend's operations against what the machine can do: the matrix product for one
// row against the memory's read bandwidth (measured here, by the same number of threads), for many
// rows in operations per second, and attention. Weights are rotated through more memory than the
// caches hold, as a model's are.
//
//   kernels_bench [threads] [scalar|avx2|avx512-vnni] [decode|prefill|attention|token|step]
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "kernels/ops.h"
#include "kernels/rounding.h"

namespace {

using namespace chorus::kernels;
using Clock = std::chrono::steady_clock;

struct Format {
  WeightType type;
  const char* name;
  int64_t cols, bytes;
};
constexpr Format kFormats[] = {
    {WeightType::q4_0, "q4_0", 32, 18},   {WeightType::q4_1, "q4_1", 32, 20},
    {WeightType::q5_0, "q5_0", 32, 22},   {WeightType::q5_1, "q5_1", 32, 24},
    {WeightType::q8_0, "q8_0", 32, 34},   {WeightType::q4_k, "q4_k", 256, 144},
    {WeightType::q5_k, "q5_k", 256, 176}, {WeightType::q6_k, "q6_k", 256, 210},
    {WeightType::f16, "f16", 1, 2},       {WeightType::bf16, "bf16", 1, 2},
    {WeightType::f32, "f32", 1, 4},
};

// Best of several runs: what the machine does when nothing else runs. `mean`, where wanted, is what
// it does beside what runs now.
template <class Job>
double seconds(Job job, double least_total = 0.4, double* mean = nullptr) {
  double best = 1e9, total = 0;
  int runs = 0;
  for (; runs < 3 || total < least_total; ++runs) {
    const auto start = Clock::now();
    job();
    const double taken = std::chrono::duration<double>(Clock::now() - start).count();
    best = std::min(best, taken);
    total += taken;
  }
  if (mean != nullptr) *mean = total / runs;
  return best;
}

// GB/s that `threads` threads read together from an area far larger than the caches.
double read_ceiling(int threads) {
  constexpr int64_t kBytes = int64_t{512} << 20;
  const std::vector<uint64_t> area(kBytes / 8, 1);
  std::vector<uint64_t> sums(static_cast<size_t>(threads) * 8);
  const double taken = seconds([&] {
    std::vector<std::thread> readers;
    for (int t = 0; t < threads; ++t) {
      readers.emplace_back([&, t] {
        const size_t share = area.size() / static_cast<size_t>(threads);
        const uint64_t* from = area.data() + share * static_cast<size_t>(t);
        uint64_t parts[8] = {};
        for (size_t i = 0; i + 8 <= share; i += 8) {
          for (size_t j = 0; j < 8; ++j) parts[j] += from[i + j];
        }
        for (size_t j = 0; j < 8; ++j) sums[static_cast<size_t>(t) * 8] += parts[j];
      });
    }
    for (std::thread& reader : readers) reader.join();
  });
  if (sums[0] == 0) fmt::print("nothing read\n");
  return static_cast<double>(kBytes) / taken / 1e9;
}

std::vector<std::byte> random_bytes(int64_t count) {
  std::mt19937_64 random(1);
  std::vector<std::byte> bytes(static_cast<size_t>(count));
  for (size_t i = 0; i + 8 <= bytes.size(); i += 8) {
    const uint64_t bits = random() & 0x33ff33ff33ff33ff;  // no infinities among the f16 scales
    std::memcpy(bytes.data() + i, &bits, 8);
  }
  return bytes;
}

Weight random_weight(Ops& ops, const Format& format, int64_t rows, int64_t cols) {
  const std::vector<std::byte> bytes = random_bytes(rows * cols / format.cols * format.bytes);
  WeightPart part;
  part.data = bytes.data();
  part.type = format.type;
  part.source_cols = cols;
  part.rows = {0, rows};
  part.cols = {0, cols};
  return ops.prepare({{part}});
}

void fill(Ops& ops, View view) {
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(view.rows * view.cols));
  for (float& value : values) value = normal(random);
  ops.upload(view, values.data(), 0, static_cast<int64_t>(values.size()) * 4);
}

void bench_matmul(const CpuOptions& options, int64_t rows, double ceiling) {
  struct Shape {
    int64_t rows, cols;
  };
  for (const Shape shape :
       {Shape{576, 1536}, Shape{3072, 576}, Shape{49152, 576}, Shape{4096, 4096}}) {
    for (const Format& format : kFormats) {
      if (shape.cols % format.cols != 0) continue;
      auto ops = make_cpu_ops(options);
      std::vector<Weight> weights;
      const int64_t wanted = rows == 1 ? int64_t{192} << 20 : 1;
      int64_t held = 0;
      while (held < wanted) {
        weights.push_back(random_weight(*ops, format, shape.rows, shape.cols));
        held += weights.back()->bytes;
      }
      const View x = ops->allocate(DType::f32, rows, shape.cols);
      const View out = ops->allocate(DType::f32, rows, shape.rows);
      fill(*ops, x);
      ops->record();
      for (const Weight& weight : weights) ops->matmul(out, x, weight, nullptr);
      const auto program = ops->end_record();
      const double taken = seconds([&] { ops->run(*program); });
      const auto products = static_cast<double>(weights.size());
      const double bandwidth = static_cast<double>(held) / taken / 1e9;
      const double work = 2e-9 * static_cast<double>(rows * shape.rows * shape.cols) * products;
      fmt::print(
          "matmul {:4} rows  {:5} x {:4}  {:5}  {:8.1f} us  {:7.1f} GB/s {:3.0f} %  {:8.1f} "
          "GOP/s\n",
          rows, shape.rows, shape.cols, format.name, taken / products * 1e6, bandwidth,
          100 * bandwidth / ceiling, work / taken);
    }
  }
}

struct AttentionShape {
  int q_heads, kv_heads, head_dim;
};

void bench_attention(const CpuOptions& options, const AttentionShape& shape, int32_t context,
                     int32_t rows) {
  constexpr int kLayers = 8;
  auto ops = make_cpu_ops(options);
  const int64_t blocks = ceil_div(context, ops->block_tokens());
  auto kv = ops->make_kv({kLayers, shape.kv_heads, shape.head_dim, blocks});
  const RopeDescription description{
      std::vector<float>(static_cast<size_t>(shape.head_dim / 2), 0.1f)};
  auto rope = ops->make_rope(description, context);
  const int64_t qkv_cols = (shape.q_heads + 2 * shape.kv_heads) * shape.head_dim;
  const View all = ops->allocate(DType::f32, context, qkv_cols);
  const View some = ops->allocate(DType::f32, rows, qkv_cols);
  const View out = ops->allocate(DType::f32, rows, shape.q_heads * shape.head_dim);
  const View spans = ops->allocate(DType::i32, 1, 4);
  const View table = ops->allocate(DType::i32, 1, blocks);
  fill(*ops, all);
  fill(*ops, some);
  std::vector<int32_t> order(static_cast<size_t>(blocks));
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
  ops->upload(table, order.data(), 0, blocks * 4);
  QkvArgs split;
  split.q_heads = shape.q_heads;
  split.kv_heads = shape.kv_heads;
  split.head_dim = shape.head_dim;
  split.rope = rope.get();
  split.spans = spans;
  split.block_table = table;
  split.kv = kv.get();
  const auto run_split = [&](View qkv, Span span) {
    ops->upload(spans, &span, 0, sizeof span);
    split.qkv = qkv;
    ops->record();
    for (split.layer = 0; split.layer < kLayers; ++split.layer) ops->split_qkv(split);
    const auto program = ops->end_record();
    return seconds([&] { ops->run(*program); }, 0) / kLayers;
  };
  run_split(all, {0, context, 0, 0});
  const double split_taken = run_split(some, {0, rows, 0, context - rows});
  AttentionArgs args;
  args.out = out;
  args.qkv = some;
  args.q_heads = shape.q_heads;
  args.kv_heads = shape.kv_heads;
  args.head_dim = shape.head_dim;
  for (int h = 0; h < shape.q_heads; ++h) {
    args.kv_head_of.push_back(h * shape.kv_heads / shape.q_heads);
  }
  args.spans = spans;
  args.block_table = table;
  args.kv = kv.get();
  ops->record();
  for (args.layer = 0; args.layer < kLayers; ++args.layer) ops->attention(args);
  const auto program = ops->end_record();
  const double taken = seconds([&] { ops->run(*program); }) / kLayers;
  const double pairs = static_cast<double>(rows) * (context - rows / 2.0);
  const double work = 4e-9 * pairs * shape.q_heads * shape.head_dim;
  const double held = 4e-9 * context * shape.kv_heads * shape.head_dim;
  fmt::print(
      "attention {:2}/{} heads of {:3}, context {:5}, {:4} rows  {:9.1f} us  {:6.1f} GB/s "
      "{:7.1f} GFLOP/s   split_qkv {:7.1f} us\n",
      shape.q_heads, shape.kv_heads, shape.head_dim, context, rows, taken * 1e6, held / taken,
      work / taken, split_taken * 1e6);
}

// All operations of one step of a model shaped like SmolLM2-135M, with random q4_1 weights: what a
// token costs, and how the cost splits.
void bench_token(const CpuOptions& options, int32_t rows, int32_t context) {
  constexpr int kLayers = 30;
  constexpr int64_t kHidden = 576, kFfn = 1536, kVocab = 49152;
  constexpr int kHeads = 9, kKvHeads = 3, kDim = 64;
  const Format& format = kFormats[0];
  auto ops = make_cpu_ops(options);
  const std::vector<float> ones(static_cast<size_t>(kHidden), 1.0f);
  VectorDescription::Part norm_part;
  norm_part.data = reinterpret_cast<const std::byte*>(ones.data());
  norm_part.range = {0, kHidden};
  const Weight norm = ops->prepare_vector({{norm_part}, 0});
  const int64_t blocks = context / ops->block_tokens() + 1;
  auto kv = ops->make_kv({kLayers, kKvHeads, kDim, blocks});
  auto rope = ops->make_rope({std::vector<float>(kDim / 2, 0.1f)}, context + rows);
  const View x = ops->allocate(DType::f32, rows, kHidden);
  const View normed = ops->allocate(DType::f32, rows, kHidden);
  const View qkv = ops->allocate(DType::f32, rows, (kHeads + 2 * kKvHeads) * kDim);
  const View mixed = ops->allocate(DType::f32, rows, kHeads * kDim);
  const View gate_up = ops->allocate(DType::f32, rows, 2 * kFfn);
  const View gated = ops->allocate(DType::f32, rows, kFfn);
  const View last = ops->allocate(DType::f32, 1, kHidden);
  const View logits = ops->allocate(DType::f32, 1, kVocab);
  const View spans = ops->allocate(DType::i32, 1, 4);
  const View table = ops->allocate(DType::i32, 1, blocks);
  const View index = ops->allocate(DType::i32, 1, 1);
  const View params = ops->allocate(DType::u8, 1, sizeof(SamplingParams));
  const View results = ops->allocate(DType::u8, 1, sizeof(Sampled));
  const View last_tokens = ops->allocate(DType::i32, 1, 1);
  const View start = ops->allocate(DType::f32, rows, kHidden);
  const View first_rows = ops->allocate(DType::i32, rows, 1);  // row 0 again and again
  const View zeros = ops->allocate(DType::f32, rows, kHidden);
  fill(*ops, start);
  std::vector<int32_t> order;
  for (int32_t i = 0; i < blocks; ++i) order.push_back(i);
  ops->upload(table, order.data(), 0, blocks * 4);
  const Span span{0, rows, 0, context - rows};
  ops->upload(spans, &span, 0, sizeof span);
  SamplingParams sampling;
  ops->upload(params, &sampling, 0, sizeof sampling);
  QkvArgs split;
  split.qkv = qkv;
  split.q_heads = kHeads;
  split.kv_heads = kKvHeads;
  split.head_dim = kDim;
  split.rope = rope.get();
  split.spans = spans;
  split.block_table = table;
  split.kv = kv.get();
  AttentionArgs mix;
  mix.out = mixed;
  mix.qkv = qkv;
  mix.q_heads = kHeads;
  mix.kv_heads = kKvHeads;
  mix.head_dim = kDim;
  mix.kv_head_of = {0, 0, 0, 1, 1, 1, 2, 2, 2};
  mix.spans = spans;
  mix.block_table = table;
  mix.kv = kv.get();
  int64_t held = 0;
  const auto weight = [&](int64_t out, int64_t in) {
    Weight made = random_weight(*ops, format, out, in);
    held += made->bytes;
    return made;
  };
  ops->record();
  ops->gather_rows(x, start, first_rows);
  for (int layer = 0; layer < kLayers; ++layer) {
    ops->add_rms_norm(normed, x, zeros, norm, 1e-5f);
    ops->matmul(qkv, normed, weight(qkv.cols, kHidden), nullptr);
    split.layer = mix.layer = layer;
    ops->split_qkv(split);
    ops->attention(mix);
    ops->matmul(normed, mixed, weight(kHidden, mixed.cols), nullptr);
    ops->add_rms_norm(normed, x, normed, norm, 1e-5f);
    ops->matmul(gate_up, normed, weight(2 * kFfn, kHidden), nullptr);
    ops->gated_activation(gated, gate_up, Gate::silu);
    ops->matmul(normed, gated, weight(kHidden, kFfn), nullptr);
  }
  ops->gather_rows(last, normed, index);
  ops->matmul(logits, last, weight(kVocab, kHidden), nullptr);
  const auto forward = ops->end_record();
  ops->record();
  ops->sample({logits, {0, kVocab}, kVocab, params, results, last_tokens});
  const auto sample = ops->end_record();
  double mean = 0;
  const double taken = seconds([&] { ops->run(*forward); }, 1.5, &mean);
  fmt::print(
      "token: {} rows at {}: {:.0f} us, {:.0f} tokens/s (mean {:.0f}), weights at {:.1f} GB/s; "
      "a greedy choice {:.0f} us\n",
      rows, context, taken * 1e6, rows / taken, rows / mean,
      static_cast<double>(held) / taken / 1e9, seconds([&] { ops->run(*sample); }, 0.1) * 1e6);
}

// What an operation costs that has nothing to do: waking and barriers.
void bench_step(const CpuOptions& options) {
  auto ops = make_cpu_ops(options);
  const View x = ops->allocate(DType::f32, 1, 64);
  const View index = ops->allocate(DType::i32, 1, 1);
  ops->record();
  for (int i = 0; i < 1000; ++i) ops->gather_rows(x, x, index);
  const auto many = ops->end_record();
  ops->record();
  ops->gather_rows(x, x, index);
  const auto one = ops->end_record();
  fmt::print("an operation without work {:.2f} us, a step of one {:.2f} us\n",
             seconds([&] { ops->run(*many); }) * 1e3, seconds([&] { ops->run(*one); }) * 1e6);
}

}  // namespace

int main(int argc, char** argv) {
  CpuOptions options;
  std::string only;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    bool known = false;
    for (const Isa isa : {Isa::scalar, Isa::avx2, Isa::avx512}) {
      if (word == name_of(isa)) options.isa = isa, known = true;
    }
    if (word == "decode" || word == "prefill" || word == "attention" || word == "step" ||
        word == "token") {
      only = word, known = true;
    }
    if (!known) options.threads = std::atoi(argv[i]);
  }
  if (options.threads <= 0) options.threads = static_cast<int>(std::thread::hardware_concurrency());
  const double ceiling = read_ceiling(options.threads);
  fmt::print("{}; reads {:.1f} GB/s\n", make_cpu_ops(options)->description(), ceiling);
  if (only.empty() || only == "step") bench_step(options);
  if (only.empty() || only == "token") {
    bench_token(options, 1, 128);
    bench_token(options, 1, 2048);
    bench_token(options, 8, 128);
    bench_token(options, 512, 512);
  }
  if (only.empty() || only == "decode") bench_matmul(options, 1, ceiling);
  if (only.empty() || only == "prefill") bench_matmul(options, 512, ceiling);
  if (only.empty() || only == "attention") {
    for (const AttentionShape& shape : {AttentionShape{9, 3, 64}, AttentionShape{32, 8, 128}}) {
      bench_attention(options, shape, 512, 1);
      bench_attention(options, shape, 4096, 1);
      bench_attention(options, shape, 512, 512);
      bench_attention(options, shape, 4096, 512);
    }
  }
  return 0;
}
