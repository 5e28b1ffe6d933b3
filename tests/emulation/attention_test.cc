// The attention kernels against softmax in f64, and against themselves: a position's bits are the
// same whichever kernel computed it and whoever was beside it.
#include "kernels/cuda/attention.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "kernels/cuda/attention_work.h"
#include "kernels/cuda/kv_blocks.h"
#include "tests/emulation/schedules.h"

using namespace chorus;
using namespace chorus::tests;
using kernels::DType;
using kernels::Span;
using kernels::View;
using kernels::cuda::kBlockTokens;

namespace {

struct Shape {
  int q_heads = 4, kv_heads = 1, head_dim = 64;
  int64_t window = 0, chunk = 0;
  float soft_cap = 0;
  DType cache = DType::f16, out = DType::f32;
  int64_t partials_max = 1 << 12;
  std::vector<int> kv_head_of = {};  // empty: even groups
};

// `count` tokens of a sequence that has `before` tokens already.
struct Piece {
  int64_t before = 0, count = 1;
};

std::vector<float> random_values(size_t count, uint64_t seed, float scale) {
  std::mt19937_64 random(seed);
  std::vector<float> values(count);
  for (float& x : values) {
    x = scale * (static_cast<float>(random() >> 40) / static_cast<float>(1 << 23) - 1);
  }
  return values;
}

// As it is stored.
float rounded(float x, DType type) {
  switch (type) {
    case DType::e4m3:
      return static_cast<float>(__nv_fp8_e4m3(x));
    case DType::f16:
      return __half2float(__float2half_rn(x));
    case DType::bf16:
      return __bfloat162float(__float2bfloat16_rn(x));
    default:
      return x;
  }
}

// What keys are multiplied by.
float rounded_query(float x, DType cache) {
  return rounded(x, cache == DType::e4m3 ? DType::f16 : cache);
}

void store(std::vector<std::byte>& to, size_t index, float x, DType type) {
  if (type == DType::e4m3) {
    to[index] = std::byte{__nv_fp8_e4m3(x).__x};
    return;
  }
  const uint16_t bits = type == DType::f16 ? std::bit_cast<uint16_t>(__float2half_rn(x))
                                           : std::bit_cast<uint16_t>(__float2bfloat16_rn(x));
  if (type == DType::f32) {
    std::memcpy(&to[index * 4], &x, 4);
  } else {
    std::memcpy(&to[index * 2], &bits, 2);
  }
}

// Sequences of one token history each: sequence s has the keys, values and queries of seed s at
// every position, so that a piece of it may be asked for in any step.
class Cache {
 public:
  Cache(const Shape& shape, int64_t tokens_max, int64_t sequences)
      : shape_(shape), blocks_of_each_((tokens_max + 31) / 32) {
    if (shape_.kv_head_of.empty()) {
      for (int head = 0; head < shape.q_heads; ++head) {
        shape_.kv_head_of.push_back(head * shape.kv_heads / shape.q_heads);
      }
    }
    kv_.shape = {2, shape.kv_heads, shape.head_dim, sequences * blocks_of_each_ + 1};
    kv_.type = shape.cache;
    // What no sequence has written is NaN in every type.
    for (auto* memory : {&keys_, &values_}) {
      memory->assign(static_cast<size_t>(2 * kv_.layer_elements() * bytes_of(kv_.type)),
                     std::byte{0xff});
    }
    kv_.keys = keys_.data();
    kv_.values = values_.data();
    // Blocks lie scattered: the table counts through them in steps.
    const int64_t blocks = kv_.shape.blocks;
    int64_t step = blocks / 2 + 1;
    while (std::gcd(step, blocks) != 1) ++step;
    for (int64_t i = 0; i < sequences * blocks_of_each_; ++i) {
      table_.push_back(static_cast<int32_t>((i + 1) * step % blocks));
    }
    for (int64_t s = 0; s < sequences; ++s) {
      const auto count = static_cast<size_t>(tokens_max * cols());
      rows_.push_back(random_values(count, static_cast<uint64_t>(s) + 5, 1.0F));
    }
  }

  int64_t cols() const { return int64_t{shape_.q_heads + 2 * shape_.kv_heads} * shape_.head_dim; }
  int64_t out_cols() const { return int64_t{shape_.q_heads} * shape_.head_dim; }
  const float* row(int64_t sequence, int64_t position) const {
    return rows_[static_cast<size_t>(sequence)].data() + position * cols();
  }

  int capability = 90;
  int layers = 1;  // that a step runs after one plan; all alike

  // Attention of one step: piece i of sequence i; `rows_max` and `spans_max` are the buckets. The
  // result has rows_max rows; those beyond the pieces stay as they are.
  void run(const std::vector<Piece>& pieces, std::vector<float>& out, bool deterministic = false,
           int64_t rows_max = 0, int64_t spans_max = 0) {
    std::vector<Span> spans;
    std::vector<float> qkv;
    for (size_t i = 0; i < pieces.size(); ++i) {
      const auto sequence = static_cast<int64_t>(i);
      spans.push_back({static_cast<int32_t>(static_cast<int64_t>(qkv.size()) / cols()),
                       static_cast<int32_t>(pieces[i].count), static_cast<int32_t>(i),
                       static_cast<int32_t>(pieces[i].before)});
      qkv.insert(qkv.end(), row(sequence, pieces[i].before),
                 row(sequence, pieces[i].before) + pieces[i].count * cols());
      write(sequence, pieces[i].before + pieces[i].count);
    }
    const auto live = static_cast<int32_t>(spans.size());
    const int64_t rows = std::max(rows_max, static_cast<int64_t>(qkv.size()) / cols());
    const int64_t spans_rows = std::max<int64_t>(spans_max, live);
    spans.resize(static_cast<size_t>(spans_rows), {1 << 20, 1 << 20, 1 << 20, 1 << 20});
    qkv.resize(static_cast<size_t>(rows * cols()), std::numeric_limits<float>::quiet_NaN());
    kernels::AttentionArgs args;
    args.q_heads = shape_.q_heads;
    args.kv_heads = shape_.kv_heads;
    args.head_dim = shape_.head_dim;
    args.kv_head_of = shape_.kv_head_of;
    args.window = shape_.window;
    args.chunk = shape_.chunk;
    args.soft_cap = shape_.soft_cap;
    args.kv = &kv_;
    args.layer = 1;
    out.resize(static_cast<size_t>(rows * out_cols()));
    std::vector<std::byte> narrow(out.size() * 2, std::byte{0xff});
    args.out = {shape_.out == DType::f32 ? static_cast<void*>(out.data()) : narrow.data(),
                shape_.out, rows, out_cols()};
    args.qkv = {qkv.data(), DType::f32, rows, cols()};
    args.spans = {spans.data(), DType::i32, spans_rows, 4, &live};
    args.block_table = {table_.data(), DType::i32, static_cast<int64_t>(pieces.size()),
                        blocks_of_each_};

    kernels::cuda::AttentionContext context{
        .room = {.tokens_max = rows, .spans_max = spans_rows, .partials_max = shape_.partials_max},
        .capability = capability,
        .multiprocessors = 2,
        .deterministic = deterministic};
    std::vector<std::byte> workspace(
        static_cast<size_t>(kernels::cuda::attention_workspace_bytes(args, context.room)) + 256);
    const auto address = reinterpret_cast<uintptr_t>(workspace.data());
    context.workspace = workspace.data() + (256 - address % 256);
    kernels::cuda::attention_plan(args, context, nullptr);
    for (int layer = 0; layer < layers; ++layer) kernels::cuda::attention(args, context, nullptr);
    for (size_t i = 0; shape_.out != DType::f32 && i < out.size(); ++i) {
      uint16_t bits;
      std::memcpy(&bits, &narrow[2 * i], 2);
      out[i] = shape_.out == DType::f16 ? __half2float(std::bit_cast<__half>(bits))
                                        : __bfloat162float(std::bit_cast<__nv_bfloat16>(bits));
    }
  }

  // The greatest difference between `out` and softmax in f64 over the rounded keys and values.
  double difference(const std::vector<Piece>& pieces, const std::vector<float>& out) const {
    double greatest = 0;
    int64_t at = 0;
    for (size_t i = 0; i < pieces.size(); ++i) {
      for (int64_t t = 0; t < pieces[i].count; ++t, ++at) {
        for (int head = 0; head < shape_.q_heads; ++head) {
          const auto wanted = expected(static_cast<int64_t>(i), pieces[i].before + t, head);
          const float* got = out.data() + at * out_cols() + head * shape_.head_dim;
          for (size_t d = 0; d < wanted.size(); ++d) {
            const double off = std::abs(wanted[d] - double{got[d]});
            greatest = std::isnan(off) ? INFINITY : std::max(greatest, off);
          }
        }
      }
    }
    return greatest;
  }

  void clear_tables_before(const std::vector<int64_t>& first_visible) {
    for (size_t s = 0; s < first_visible.size(); ++s) {
      for (int64_t b = 0; b < first_visible[s] / kBlockTokens; ++b) {
        table_[s * static_cast<size_t>(blocks_of_each_) + static_cast<size_t>(b)] = 1 << 30;
      }
    }
  }

 private:
  // Stores the keys and values of positions [0, end), as split_qkv did in this step and before.
  void write(int64_t sequence, int64_t end) {
    for (int64_t position = 0; position < end; ++position) {
      const int32_t block =
          table_[static_cast<size_t>(sequence * blocks_of_each_ + position / kBlockTokens)];
      if (block >= kv_.shape.blocks) continue;
      for (int head = 0; head < shape_.kv_heads; ++head) {
        const int64_t to =
            kv_.layer_elements() +
            ((int64_t{block} * shape_.kv_heads + head) * kBlockTokens + position % kBlockTokens) *
                shape_.head_dim;
        for (int d = 0; d < shape_.head_dim; ++d) {
          store(keys_, static_cast<size_t>(to + d), key(sequence, position, head)[d], kv_.type);
          store(values_, static_cast<size_t>(to + d), value(sequence, position, head)[d], kv_.type);
        }
      }
    }
  }
  const float* key(int64_t sequence, int64_t position, int head) const {
    return row(sequence, position) + (shape_.q_heads + head) * shape_.head_dim;
  }
  const float* value(int64_t sequence, int64_t position, int head) const {
    return key(sequence, position, head + shape_.kv_heads);
  }
  std::vector<double> expected(int64_t sequence, int64_t position, int head) const {
    const int kv_head = shape_.kv_head_of[static_cast<size_t>(head)];
    const float* q = row(sequence, position) + head * shape_.head_dim;
    const int64_t first = shape_.chunk > 0    ? position - position % shape_.chunk
                          : shape_.window > 0 ? std::max<int64_t>(0, position - shape_.window + 1)
                                              : 0;
    std::vector<double> sums(static_cast<size_t>(shape_.head_dim));
    double total = 0;
    for (int64_t p = first; p <= position; ++p) {
      double score = 0;
      for (int d = 0; d < shape_.head_dim; ++d) {
        score += double{rounded_query(q[d], kv_.type)} *
                 double{rounded(key(sequence, p, kv_head)[d], kv_.type)};
      }
      if (shape_.soft_cap > 0) score = shape_.soft_cap * std::tanh(score / shape_.soft_cap);
      const double weight = std::exp(score);
      total += weight;
      for (int d = 0; d < shape_.head_dim; ++d) {
        sums[static_cast<size_t>(d)] +=
            weight * double{rounded(value(sequence, p, kv_head)[d], kv_.type)};
      }
    }
    for (double& x : sums) x /= total;
    return sums;
  }

  Shape shape_;
  int64_t blocks_of_each_;
  kernels::cuda::KvBlocks kv_;
  std::vector<std::byte> keys_, values_;
  std::vector<int32_t> table_;
  std::vector<std::vector<float>> rows_;
};

int64_t longest(const std::vector<Piece>& pieces) {
  int64_t tokens = 0;
  for (const Piece& piece : pieces) tokens = std::max(tokens, piece.before + piece.count);
  return tokens;
}

// Near f64, and the same under all schedules; pieces of 64 tokens and more by both of the kernels
// that may serve them (fp8 has one).
void check(const Shape& shape, const std::vector<Piece>& pieces, double tolerance) {
  Cache cache(shape, longest(pieces), static_cast<int64_t>(pieces.size()));
  for (const bool deterministic : {false, true}) {
    CAPTURE(deterministic);
    std::vector<float> out;
    cache.run(pieces, out, deterministic);
    under_all_schedules(out, [&] { cache.run(pieces, out, deterministic); });
    CHECK(cache.difference(pieces, out) < tolerance);
    if (shape.cache == DType::e4m3 ||
        std::none_of(pieces.begin(), pieces.end(), [](const auto& p) { return p.count >= 64; })) {
      return;
    }
  }
}

bool same_bits(const float* a, const float* b, int64_t count) {
  return std::memcmp(a, b, static_cast<size_t>(count) * sizeof(float)) == 0;
}

constexpr double kTolerance = 5e-3;

}  // namespace

TEST_CASE("attention of single tokens is near f64 at every length") {
  for (const auto& [heads, kv_heads, dim] :
       {std::tuple{4, 1, 64}, {3, 1, 64}, {8, 1, 128}, {2, 2, 64}, {4, 1, 80}}) {
    CAPTURE(heads, kv_heads, dim);
    check({.q_heads = heads, .kv_heads = kv_heads, .head_dim = dim},
          {{0, 1}, {30, 1}, {31, 1}, {32, 1}, {63, 1}, {64, 1}, {70, 1}}, kTolerance);
  }
}

TEST_CASE("attention of single tokens merges the parts of long sequences") {
  check({.q_heads = 4, .kv_heads = 2, .head_dim = 64}, {{255, 1}, {256, 1}, {800, 1}}, kTolerance);
  check({.q_heads = 8, .head_dim = 128}, {{300, 1}}, kTolerance);
  // More than a warp merges at once.
  check({.q_heads = 1, .head_dim = 16}, {{33 * 256 + 5, 1}}, kTolerance);
}

TEST_CASE("attention takes bf16 keys, wide heads and any result type") {
  check({.cache = DType::bf16}, {{100, 1}, {300, 2}}, 1e-2);
  check({.q_heads = 2, .head_dim = 256}, {{40, 1}, {290, 1}, {0, 66}}, kTolerance);
  check({.q_heads = 2, .head_dim = 192}, {{40, 3}}, kTolerance);
  check({.out = DType::f16}, {{100, 1}, {0, 70}}, kTolerance);
  check({.out = DType::bf16}, {{100, 1}, {0, 70}}, 1e-2);
}

TEST_CASE("attention of layer after layer goes by one plan") {
  const std::vector<Piece> pieces = {{600, 1}, {300, 2}, {0, 64}};
  Cache cache({}, longest(pieces), 3);
  cache.layers = 3;
  std::vector<float> out;
  cache.run(pieces, out);
  CHECK(cache.difference(pieces, out) < kTolerance);
}

TEST_CASE("attention of prompts is near f64, alone and among single tokens") {
  check({.q_heads = 1}, {{530, 64}}, kTolerance);  // the ring of tiles, round and round
  check({}, {{0, 64}}, kTolerance);
  check({.q_heads = 3, .head_dim = 64}, {{0, 97}, {40, 1}, {7, 65}}, kTolerance);
  check({.q_heads = 4, .head_dim = 128}, {{225, 65}}, kTolerance);
  check({.q_heads = 2, .kv_heads = 2, .head_dim = 80}, {{5, 5}, {3, 70}, {0, 1}}, kTolerance);
}

TEST_CASE("attention of short chunks takes tiles of a few rows") {
  check({.q_heads = 4}, {{0, 3}, {60, 5}, {254, 4}, {0, 33}}, kTolerance);
  check({.q_heads = 24, .kv_heads = 1, .head_dim = 64}, {{10, 1}, {300, 2}}, kTolerance);
}

TEST_CASE("attention within a window reads nothing before it") {
  const Shape shape{.window = 40};
  const std::vector<Piece> pieces = {{0, 1}, {39, 1}, {40, 1}, {330, 1}, {290, 5}, {200, 90}};
  check(shape, pieces, kTolerance);
  Cache cache(shape, longest(pieces), 6);
  cache.clear_tables_before({0, 0, 1, 291, 251, 161});
  std::vector<float> out;
  cache.run(pieces, out);
  CHECK(cache.difference(pieces, out) < kTolerance);
}

TEST_CASE("attention within chunks, and with capped scores") {
  check({.chunk = 48}, {{0, 1}, {47, 1}, {48, 1}, {300, 1}, {40, 10}, {30, 80}}, kTolerance);
  check({.soft_cap = 2}, {{0, 1}, {100, 1}, {260, 3}, {10, 70}}, kTolerance);
}

TEST_CASE("attention serves groups of different sizes") {
  check({.q_heads = 5, .kv_heads = 2, .kv_head_of = {0, 0, 0, 1, 1}},
        {{20, 1}, {300, 1}, {290, 7}, {0, 66}}, kTolerance);
  check({.q_heads = 17,
         .kv_heads = 2,
         .kv_head_of = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}},
        {{20, 2}, {300, 3}}, kTolerance);
}

TEST_CASE("attention in f32 is exact to 1e-5") {
  for (const int dim : {64, 128, 80}) {
    CAPTURE(dim);
    check({.q_heads = 3, .head_dim = dim, .cache = DType::f32},
          {{0, 1}, {31, 1}, {32, 1}, {0, 20}, {90, 3}}, 1e-5);
  }
  check({.window = 33, .cache = DType::f32}, {{0, 1}, {40, 1}, {70, 5}}, 1e-5);
  check({.chunk = 16, .soft_cap = 3, .cache = DType::f32}, {{0, 1}, {40, 1}, {70, 5}}, 1e-5);
}

TEST_CASE("attention over fp8 keys and values is near f64 at every length") {
  for (const auto& [heads, kv_heads, dim] :
       {std::tuple{4, 1, 64}, {3, 1, 48}, {8, 1, 128}, {2, 2, 80}, {2, 1, 256}}) {
    CAPTURE(heads, kv_heads, dim);
    check({.q_heads = heads, .kv_heads = kv_heads, .head_dim = dim, .cache = DType::e4m3},
          {{0, 1}, {31, 1}, {32, 3}, {64, 1}, {70, 1}, {300, 1}}, kTolerance);
  }
}

TEST_CASE("attention of prompts over fp8 keys and values is near f64") {
  check({.q_heads = 1, .cache = DType::e4m3}, {{530, 64}}, kTolerance);
  check({.q_heads = 3, .head_dim = 64, .cache = DType::e4m3}, {{0, 97}, {40, 1}, {7, 65}},
        kTolerance);
  check({.q_heads = 4, .head_dim = 128, .cache = DType::e4m3}, {{225, 65}}, kTolerance);
  check({.q_heads = 2, .kv_heads = 2, .head_dim = 80, .cache = DType::e4m3, .out = DType::f16},
        {{5, 5}, {3, 70}, {0, 1}}, kTolerance);
  check({.q_heads = 2, .head_dim = 256, .cache = DType::e4m3}, {{40, 1}, {0, 66}}, kTolerance);
}

TEST_CASE("attention over fp8 keys and values keeps to windows, chunks, caps and groups") {
  const Shape shape{.window = 40, .cache = DType::e4m3};
  const std::vector<Piece> pieces = {{0, 1}, {40, 1}, {290, 5}, {200, 90}};
  check(shape, pieces, kTolerance);
  Cache cache(shape, longest(pieces), 4);
  cache.clear_tables_before({0, 1, 251, 161});
  std::vector<float> out;
  cache.run(pieces, out);
  CHECK(cache.difference(pieces, out) < kTolerance);
  check({.chunk = 48, .cache = DType::e4m3}, {{47, 1}, {48, 1}, {30, 80}}, kTolerance);
  check({.soft_cap = 2, .cache = DType::e4m3}, {{100, 1}, {260, 3}, {10, 70}}, kTolerance);
  check({.q_heads = 5, .kv_heads = 2, .cache = DType::e4m3, .kv_head_of = {0, 0, 0, 1, 1}},
        {{20, 1}, {290, 7}, {0, 66}}, kTolerance);
}

TEST_CASE("attention leaves rows beyond the live spans alone") {
  for (const DType type : {DType::f16, DType::e4m3, DType::f32}) {
    Cache cache({.cache = type}, 80, 2);
    std::vector<float> out(size_t{128} * 256, 17.0F);
    const std::vector<Piece> pieces = {{70, 1}, {0, 66}};
    cache.run(pieces, out, false, 128, 8);
    CHECK(cache.difference(pieces, out) < kTolerance);
    CHECK(std::count(out.begin() + 67 * 256, out.end(), 17.0F) == (128 - 67) * 256);
  }
}

TEST_CASE("attention without room for partial results has the same bits") {
  const std::vector<Piece> pieces = {{500, 1}, {700, 1}, {300, 3}, {20, 1}, {600, 1}};
  Cache cache({}, longest(pieces), 5);
  Cache narrow({.partials_max = 30}, longest(pieces), 5);  // the first two spans find room
  Cache none({.partials_max = 1}, longest(pieces), 5);
  std::vector<float> out, other, last;
  cache.run(pieces, out);
  narrow.run(pieces, other);
  none.run(pieces, last);
  CHECK(same_bits(out.data(), other.data(), static_cast<int64_t>(out.size())));
  CHECK(same_bits(out.data(), last.data(), static_cast<int64_t>(out.size())));
}

TEST_CASE("runs of key spans are long where there is work for all, short where there is not") {
  using kernels::cuda::attention_work::run_of;
  // Items of one, two, four ... spans, of `sequences` that have `spans` each, for one KV head.
  const auto run = [](int sequences, int spans, int blocks) {
    int items[kernels::cuda::attention_work::kRunChoices];
    for (int c = 0; c < kernels::cuda::attention_work::kRunChoices; ++c) {
      items[c] = sequences * ((spans + (1 << c) - 1) >> c);
    }
    return run_of(items, spans, blocks);
  };
  CHECK(run(8, 32, 264) == 1);        // one sequence of eight heads
  CHECK(run(8 * 8, 32, 264) == 8);    // 256 items
  CHECK(run(64 * 8, 32, 264) >= 32);  // two rows each, whole
  CHECK(run(64 * 8, 2, 264) >= 2);
  CHECK(run(300, 32, 264) == 8);   // whole rows would keep some blocks twice as long
  CHECK(run(1, 4096, 264) == 16);  // 256 items
  const int uneven[] = {760, 632, 568, 536, 520, 512, 512, 512};  // 8 of 32 spans, 504 of one
  CHECK(run_of(uneven, 32, 264) == 1);
}

TEST_CASE("attention over runs of any length has the same bits") {
  // With 4 blocks at once: 17 spans for two heads each, then more and more beside them.
  Cache cache({.q_heads = 4, .kv_heads = 2, .head_dim = 128}, 17 * 256 - 3, 12);
  std::vector<float> alone, together;
  cache.run({{17 * 256 - 5, 1}}, alone);
  CHECK(cache.difference({{17 * 256 - 5, 1}}, alone) < kTolerance);
  for (const size_t others : {size_t{1}, size_t{3}, size_t{11}}) {
    std::vector<Piece> pieces(others + 1, Piece{1500, 1});
    pieces[0] = {17 * 256 - 5, 1};
    pieces.back() = {2000, 2};
    CAPTURE(others);
    cache.run(pieces, together);
    CHECK(same_bits(alone.data(), together.data(), cache.out_cols()));
    CHECK(cache.difference(pieces, together) < kTolerance);
  }
}

TEST_CASE("attention over runs keeps to windows, groups, and the room for partial results") {
  const std::vector<Piece> pieces = {{3000, 1}, {2800, 3}, {1500, 1}, {40, 1}};
  for (const Shape& shape :
       {Shape{.head_dim = 128, .window = 1400}, Shape{.head_dim = 128, .partials_max = 100},
        Shape{.q_heads = 5, .kv_heads = 2, .head_dim = 128, .kv_head_of = {0, 0, 0, 1, 1}}}) {
    Cache cache(shape, longest(pieces), 4);
    std::vector<float> alone, together;
    cache.run({pieces[0]}, alone);
    cache.run(pieces, together);
    CHECK(cache.difference(pieces, together) < kTolerance);
    CHECK(same_bits(alone.data(), together.data(), cache.out_cols()));
  }
}

TEST_CASE("attention of a row has the same bits alone and among others") {
  for (const Shape& shape : {Shape{}, Shape{.q_heads = 3, .head_dim = 128}, Shape{.window = 100},
                             Shape{.q_heads = 3, .cache = DType::e4m3}}) {
    const std::vector<Piece> pieces = {{450, 1}, {3, 1}, {100, 40}, {290, 1}, {120, 80}};
    Cache cache(shape, longest(pieces), 5);
    std::vector<float> alone, together;
    cache.run({pieces[0]}, alone);
    cache.run(pieces, together, false, 192, 16);
    CHECK(same_bits(alone.data(), together.data(), cache.out_cols()));
  }
}

TEST_CASE("attention of a prompt has the same bits whole, in chunks, and token by token") {
  for (const Shape& shape :
       {Shape{.q_heads = 2}, Shape{.q_heads = 3, .head_dim = 80, .cache = DType::bf16},
        Shape{.q_heads = 2, .window = 90}, Shape{.q_heads = 1, .soft_cap = 1.5F},
        Shape{.q_heads = 1, .head_dim = 256}, Shape{.q_heads = 2, .cache = DType::e4m3},
        Shape{.q_heads = 3, .head_dim = 80, .window = 90, .cache = DType::e4m3},
        Shape{.q_heads = 1, .head_dim = 256, .soft_cap = 1.5F, .cache = DType::e4m3}}) {
    constexpr int64_t tokens = 560;
    Cache cache(shape, tokens, 1);
    std::vector<float> whole, part;
    cache.run({{0, tokens}}, whole, true);
    CHECK(cache.difference({{0, tokens}}, whole) < 1e-2);
    for (const Piece& piece : {Piece{0, 1},
                               {33, 1},
                               {255, 1},
                               {256, 1},
                               {300, 1},
                               {513, 1},
                               {559, 1},
                               {250, 10},
                               {200, 100},
                               {500, 60}}) {
      CAPTURE(piece.before, piece.count);
      cache.run({piece}, part, true);
      CHECK(same_bits(part.data(), whole.data() + piece.before * cache.out_cols(),
                      piece.count * cache.out_cols()));
    }
  }
}

TEST_CASE("attention has the same bits on devices with less shared memory") {
  const std::vector<Piece> pieces = {{500, 1}, {20, 70}};
  for (const auto& [dim, type] :
       {std::pair{128, DType::f16}, {256, DType::f16}, {128, DType::e4m3}, {256, DType::e4m3}}) {
    Cache cache({.q_heads = 2, .head_dim = dim, .cache = type}, longest(pieces), 2);
    std::vector<float> out, other;
    cache.run(pieces, out, true);
    for (const int capability : {80, 86, 100}) {
      CAPTURE(dim, int(type), capability);
      cache.capability = capability;
      cache.run(pieces, other);
      CHECK(same_bits(out.data(), other.data(), static_cast<int64_t>(out.size())));
    }
  }
}

TEST_CASE("attention refuses shapes it has no kernel for") {
  std::vector<float> out;
  CHECK_THROWS_WITH(Cache({.head_dim = 264}, 4, 1).run({{0, 1}}, out),
                    Catch::Contains("head_dim must be a multiple of 8 up to 256"));
  CHECK_THROWS_WITH(Cache({.head_dim = 72, .cache = DType::e4m3}, 4, 1).run({{0, 1}}, out),
                    Catch::Contains("fp8 head_dim must be a multiple of 16"));
  CHECK_THROWS_WITH(
      Cache({.q_heads = 3, .kv_heads = 2, .kv_head_of = {0, 1, 0}}, 4, 1).run({{0, 1}}, out),
      Catch::Contains("must stand together"));
}
