// The attention kernels on a GPU: held to a plain kernel in f32, to themselves bit for bit, and to
// the clock. One JSON line a figure; exit code 1 where a result is wrong. Half a minute on one GPU.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "bench/gpu_bench.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/kv_blocks.h"

using namespace chorus::kernels;
using namespace chorus::bench;
using chorus::kernels::cuda::AttentionContext;
using chorus::kernels::cuda::kBlockTokens;
using chorus::kernels::cuda::KvBlocks;

namespace {

constexpr double kRelativeDifference = 1e-2;  // of the greatest result; bf16 weights make 4e-3
bool all_right = true;

// What the kernels are held to: a block per token row and head, scores in shared memory.
struct NaiveArgs {
  const float* qkv;
  const void* keys;
  const void* values;
  const int32_t* table;
  const Span* spans;
  float* out;
  int64_t qkv_cols;
  int span_count, blocks_max, q_heads, kv_heads, dim, window;
  float soft_cap;
  DType cache;
};
__global__ void naive_kernel(NaiveArgs a) {
  extern __shared__ float scores[];
  __shared__ float reduced[128];
  const int row = int(blockIdx.x), head = int(blockIdx.y), thread = int(threadIdx.x);
  Span span{};
  for (int i = 0; i < a.span_count; ++i) {
    if (row >= a.spans[i].row && row < a.spans[i].row + a.spans[i].count) span = a.spans[i];
  }
  const int position = span.position + row - span.row;
  const int first = a.window > 0 ? max(0, position - a.window + 1) : 0;
  const int kv_head = head * a.kv_heads / a.q_heads;
  const auto element = [&](const void* of, int64_t at) {
    switch (a.cache) {
      case DType::bf16:
        return __bfloat162float(static_cast<const __nv_bfloat16*>(of)[at]);
      case DType::e4m3:
        return float(static_cast<const __nv_fp8_e4m3*>(of)[at]);
      default:
        return __half2float(static_cast<const __half*>(of)[at]);
    }
  };
  const auto place = [&](int token) {
    const int64_t block = a.table[span.slot * a.blocks_max + token / kBlockTokens];
    return ((block * a.kv_heads + kv_head) * kBlockTokens + token % kBlockTokens) * a.dim;
  };
  const float* q = a.qkv + row * a.qkv_cols + head * a.dim;
  float highest = -INFINITY;
  for (int token = first + thread; token <= position; token += 128) {
    float score = 0;
    for (int d = 0; d < a.dim; ++d) score += q[d] * element(a.keys, place(token) + d);
    if (a.soft_cap > 0) score = a.soft_cap * tanhf(score / a.soft_cap);
    scores[token - first] = score;
    highest = fmaxf(highest, score);
  }
  reduced[thread] = highest;
  __syncthreads();
  for (int i = 0; i < 128; ++i) highest = fmaxf(highest, reduced[i]);
  for (int d = thread; d < a.dim; d += 128) {
    float sum = 0, value = 0;
    for (int token = first; token <= position; ++token) {
      const float weight = expf(scores[token - first] - highest);
      sum += weight;
      value += weight * element(a.values, place(token) + d);
    }
    a.out[(int64_t{row} * a.q_heads + head) * a.dim + d] = value / sum;
  }
}

struct Piece {  // `count` tokens after `before` others
  int before, count;
};

template <typename T>
T* on_device(const std::vector<T>& values) {
  T* memory = device_array<T>(static_cast<int64_t>(values.size()));
  check(cudaMemcpy(memory, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice),
        "copy");
  return memory;
}

struct Setting {
  int q_heads = 32, kv_heads = 8, dim = 128;
  DType cache = DType::f16;
  int window = 0;
  float soft_cap = 0;
  bool deterministic = false;
  int layers = 1;
};

// A step's attention over random keys and values of sequences that have blocks of their own.
class Step {
 public:
  Step(const Setting& setting, const std::vector<Piece>& pieces, int capability,
       int multiprocessors, cudaStream_t stream)
      : setting_(setting), stream_(stream) {
    int rows = 0, blocks_max = 0;
    for (const Piece& piece : pieces) {
      spans_.push_back({rows, piece.count, int(spans_.size()), piece.before});
      rows += piece.count;
      blocks_max = std::max(blocks_max, (piece.before + piece.count + 31) / 32);
    }
    const int64_t blocks = int64_t{blocks_max} * int64_t(pieces.size());
    std::vector<int32_t> table(static_cast<size_t>(blocks));
    int64_t step = blocks / 3 + 1;
    while (std::gcd(step, blocks) != 1) ++step;
    for (int64_t i = 0; i < blocks; ++i) table[size_t(i)] = int32_t((i + 1) * step % blocks);
    kv_.shape = {setting.layers, setting.kv_heads, setting.dim, blocks};
    kv_.type = setting.cache;
    const int64_t elements = kv_.layer_elements() * setting.layers;
    kv_.keys = filled(elements, 1);
    kv_.values = filled(elements, 2);
    const int64_t cols = int64_t{setting.q_heads + 2 * setting.kv_heads} * setting.dim;
    auto* qkv = device_array<float>(rows * cols);
    fill(qkv, rows * cols, 3, 2.0F / std::sqrt(float(setting.dim)));
    out_ = device_array<float>(rows * setting.q_heads * setting.dim);
    check(cudaStreamSynchronize(stream), "filling");
    args_.out = {out_, DType::f32, rows, int64_t{setting.q_heads} * setting.dim};
    args_.qkv = {qkv, DType::f32, rows, cols};
    args_.q_heads = setting.q_heads;
    args_.kv_heads = setting.kv_heads;
    args_.head_dim = setting.dim;
    for (int h = 0; h < setting.q_heads; ++h) {
      args_.kv_head_of.push_back(h * setting.kv_heads / setting.q_heads);
    }
    args_.window = setting.window;
    args_.soft_cap = setting.soft_cap;
    args_.spans = {on_device(spans_), DType::i32, int64_t(spans_.size()), 4};
    args_.block_table = {on_device(table), DType::i32, int64_t(pieces.size()), blocks_max};
    args_.kv = &kv_;
    context_.room = cuda::attention_room(args_);
    context_.workspace = device_array<char>(cuda::attention_workspace_bytes(args_, context_.room));
    context_.capability = capability;
    context_.multiprocessors = multiprocessors;
    context_.deterministic = setting.deterministic;
    plan();
    check(cudaStreamSynchronize(stream), "plan");
  }
  ~Step() {
    for (const void* memory : {kv_.keys, kv_.values, args_.out.data, args_.qkv.data,
                               args_.spans.data, args_.block_table.data, context_.workspace}) {
      check(cudaFree(const_cast<void*>(memory)), "free");
    }
  }
  Step(const Step&) = delete;
  Step& operator=(const Step&) = delete;

  void plan() { cuda::attention_plan(args_, context_, stream_); }
  void attend(int layer = 0) {
    args_.layer = layer;
    cuda::attention(args_, context_, stream_);
  }
  std::vector<float> result() {
    attend();
    return read();
  }
  std::vector<float> naive() {
    const NaiveArgs naive{.qkv = static_cast<const float*>(args_.qkv.data),
                          .keys = kv_.keys,
                          .values = kv_.values,
                          .table = static_cast<const int32_t*>(args_.block_table.data),
                          .spans = static_cast<const Span*>(args_.spans.data),
                          .out = out_,
                          .qkv_cols = args_.qkv.cols,
                          .span_count = int(spans_.size()),
                          .blocks_max = int(args_.block_table.cols),
                          .q_heads = setting_.q_heads,
                          .kv_heads = setting_.kv_heads,
                          .dim = setting_.dim,
                          .window = setting_.window,
                          .soft_cap = setting_.soft_cap,
                          .cache = setting_.cache};
    const size_t bytes = size_t(args_.block_table.cols) * kBlockTokens * sizeof(float);
    check(
        cudaFuncSetAttribute(naive_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(bytes)),
        "shared memory");
    naive_kernel<<<dim3(unsigned(args_.out.rows), unsigned(setting_.q_heads)), 128, bytes,
                   stream_>>>(naive);
    check(cudaGetLastError(), "the naive kernel");
    return read();
  }
  // Of a piece of the only sequence, in a step of its own.
  std::vector<float> result_of(const Piece& piece) {
    const Span span{0, piece.count, 0, piece.before};
    AttentionArgs args = args_;
    args.layer = 0;
    args.spans.data = on_device(std::vector<Span>{span});
    args.out.rows = args.qkv.rows = piece.count;
    args.qkv.data = static_cast<float*>(args.qkv.data) + piece.before * args.qkv.cols;
    cuda::attention_plan(args, context_, stream_);
    cuda::attention(args, context_, stream_);
    auto out = read();
    check(cudaFree(args.spans.data), "free");
    out.resize(static_cast<size_t>(piece.count * args.out.cols));
    return out;
  }
  int64_t row_floats() const { return args_.out.cols; }

 private:
  void* filled(int64_t elements, uint64_t seed) {
    if (setting_.cache == DType::bf16) return filled_as<__nv_bfloat16>(elements, seed);
    if (setting_.cache == DType::e4m3) return filled_as<__nv_fp8_e4m3>(elements, seed);
    return filled_as<__half>(elements, seed);
  }
  template <typename Kv>
  void* filled_as(int64_t elements, uint64_t seed) {
    auto* memory = device_array<Kv>(elements);
    fill(memory, elements, seed);
    return memory;
  }
  std::vector<float> read() {
    std::vector<float> out(static_cast<size_t>(args_.out.rows * args_.out.cols));
    check(cudaStreamSynchronize(stream_), "attention");
    check(cudaMemcpy(out.data(), out_, out.size() * sizeof(float), cudaMemcpyDeviceToHost), "copy");
    check(cudaMemset(out_, 0xff, out.size() * sizeof(float)), "memory");  // NaN
    return out;
  }

  Setting setting_;
  cudaStream_t stream_;
  std::vector<Span> spans_;
  KvBlocks kv_;
  AttentionArgs args_;
  AttentionContext context_;
  float* out_ = nullptr;
};

class Check {
 public:
  Check() {
    const cudaDeviceProp properties = device_properties();
    capability_ = properties.major * 10 + properties.minor;
    multiprocessors_ = properties.multiProcessorCount;
    check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "stream");
    std::printf("{\"kernel\": \"device\", \"shape\": \"%s\"}\n", properties.name);
  }

  void values(const char* kernel, const Setting& setting, const std::vector<Piece>& pieces) {
    Step step(setting, pieces, capability_, multiprocessors_, stream_);
    const auto wanted = step.naive(), got = step.result(), again = step.result();
    double greatest = 0, difference = 0;
    for (size_t i = 0; i < wanted.size(); ++i) {
      greatest = std::max(greatest, double(std::abs(wanted[i])));
      const double off = std::abs(double(wanted[i]) - double(got[i]));
      difference = std::isnan(off) ? INFINITY : std::max(difference, off);
    }
    const bool same = std::memcmp(got.data(), again.data(), got.size() * sizeof(float)) == 0;
    const bool right = difference <= kRelativeDifference * greatest && same;
    std::printf(
        "{\"kernel\": \"%s\", \"shape\": \"%s\", \"max_rel_diff\": %.2e, \"repeats\": %s, "
        "\"right\": %s}\n",
        kernel, shape_of(setting, pieces).c_str(), difference / greatest, same ? "true" : "false",
        right ? "true" : "false");
    all_right = all_right && right;
  }

  // Rows computed in a step of their own have the bits that they have within the whole prompt.
  void bits(const Setting& setting, int tokens, const std::vector<Piece>& parts) {
    Step step(setting, {{0, tokens}}, capability_, multiprocessors_, stream_);
    const auto whole = step.result();
    bool right = true;
    for (const Piece& part : parts) {
      const auto got = step.result_of(part);
      const float* wanted = whole.data() + part.before * step.row_floats();
      right = right && std::memcmp(got.data(), wanted, got.size() * sizeof(float)) == 0;
    }
    std::printf("{\"kernel\": \"whole = parts, bits\", \"shape\": \"%s\", \"right\": %s}\n",
                shape_of(setting, {{0, tokens}}).c_str(), right ? "true" : "false");
    all_right = all_right && right;
  }

  void decode_speed(DType cache, int batch, int context) {
    Setting setting{.cache = cache};
    const double bytes =
        2.0 * double(bytes_of(cache)) * batch * context * setting.kv_heads * setting.dim;
    setting.layers = std::clamp(int(240e6 / bytes) + 1, 1, 64);
    Step step(setting, std::vector<Piece>(size_t(batch), Piece{context - 1, 1}), capability_,
              multiprocessors_, stream_);
    const double us = median_us([&](int i) { step.attend(i % setting.layers); });
    std::printf(
        "{\"kernel\": \"decode attention%s\", \"shape\": \"batch %d, context %d\", "
        "\"us_median\": %.2f, \"gb_s\": %.0f}\n",
        suffix_of(cache), batch, context, us, bytes / us / 1e3);
  }

  void prefill_speed(DType cache, int tokens, bool deterministic) {
    const Setting setting{.cache = cache, .deterministic = deterministic};
    Step step(setting, {{0, tokens}}, capability_, multiprocessors_, stream_);
    const double us = median_us([&](int) { step.attend(); });
    const double flops = 2.0 * setting.q_heads * setting.dim * tokens * (tokens + 1.0);
    std::printf(
        "{\"kernel\": \"prefill attention%s%s\", \"shape\": \"%d tokens\", "
        "\"us_median\": %.2f, \"tflops\": %.1f}\n",
        suffix_of(cache), deterministic ? ", deterministic" : "", tokens, us, flops / us / 1e6);
  }

  void plan_speed(int batch, int context) {
    Step step({}, std::vector<Piece>(size_t(batch), Piece{context - 1, 1}), capability_,
              multiprocessors_, stream_);
    std::printf(
        "{\"kernel\": \"attention plan\", \"shape\": \"batch %d, context %d\", "
        "\"us_median\": %.2f}\n",
        batch, context, median_us([&](int) { step.plan(); }));
  }

 private:
  static const char* name_of(DType cache) {
    return cache == DType::bf16 ? "bf16" : cache == DType::e4m3 ? "fp8" : "f16";
  }
  static const char* suffix_of(DType cache) { return cache == DType::e4m3 ? ", fp8" : ""; }
  static std::string shape_of(const Setting& setting, const std::vector<Piece>& pieces) {
    std::string text = name_of(setting.cache);
    text += ", heads " + std::to_string(setting.q_heads) + "/" + std::to_string(setting.kv_heads) +
            ", dim " + std::to_string(setting.dim);
    if (setting.window > 0) text += ", window " + std::to_string(setting.window);
    if (setting.soft_cap > 0) text += ", capped";
    if (setting.deterministic) text += ", deterministic";
    for (const Piece& piece : pieces) {
      text += ", " + std::to_string(piece.before) + "+" + std::to_string(piece.count);
    }
    return text;
  }

  double median_us(const std::function<void(int)>& launch) {
    constexpr int kLaunches = 20;
    return graph_median_us(stream_, 10, kLaunches, [&] {
      for (int i = 0; i < kLaunches; ++i) launch(i);
    });
  }

  int capability_ = 0, multiprocessors_ = 0;
  cudaStream_t stream_ = nullptr;
};

}  // namespace

int main() {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // a line is there even if the next figure fails
  Check check;
  const std::vector<Piece> single = {{0, 1}, {31, 1}, {32, 1}, {255, 1}, {300, 2}, {5000, 1}};
  const std::vector<Piece> mixed = {{0, 700}, {100, 1}, {300, 130}, {0, 5}, {1999, 1}};
  for (const DType cache : {DType::f16, DType::bf16, DType::e4m3}) {
    check.values("decode attention", {.cache = cache}, single);
    check.values("prefill attention", {.cache = cache}, mixed);
    check.values("prefill attention", {.cache = cache, .deterministic = true}, mixed);
  }
  for (const Setting& setting :
       {Setting{.q_heads = 9, .kv_heads = 3, .dim = 64}, Setting{.q_heads = 8, .dim = 80},
        Setting{.q_heads = 16, .kv_heads = 2, .dim = 256}, Setting{.window = 150},
        Setting{.soft_cap = 1.5F},
        Setting{.q_heads = 9, .kv_heads = 3, .dim = 64, .cache = DType::e4m3},
        Setting{.q_heads = 16, .kv_heads = 2, .dim = 256, .cache = DType::e4m3}}) {
    check.values("decode attention", setting, single);
    check.values("prefill attention", setting, mixed);
  }
  for (const Setting& setting :
       {Setting{.deterministic = true}, Setting{.cache = DType::e4m3, .deterministic = true},
        Setting{.q_heads = 9, .kv_heads = 3, .dim = 64, .deterministic = true},
        Setting{.q_heads = 4, .kv_heads = 1, .dim = 256, .deterministic = true}}) {
    check.bits(setting, 1100,
               {{0, 1}, {33, 1}, {256, 1}, {700, 1}, {1099, 1}, {512, 10}, {100, 300}, {700, 400}});
  }
  for (const int context : {512, 2048, 8192}) {
    for (const int batch : {1, 8, 64}) {
      check.decode_speed(DType::f16, batch, context);
      check.decode_speed(DType::e4m3, batch, context);
    }
  }
  for (const int tokens : {512, 2048, 8192}) {
    check.prefill_speed(DType::f16, tokens, false);
    check.prefill_speed(DType::f16, tokens, true);
    check.prefill_speed(DType::e4m3, tokens, true);
  }
  check.plan_speed(1, 512);
  check.plan_speed(64, 8192);
  return all_right ? 0 : 1;
}
