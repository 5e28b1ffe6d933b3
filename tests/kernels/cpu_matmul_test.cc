// The CPU backend's matrix product on random blocks of every weight type: against sums in f64 over
// weights decoded here, and bit for bit among instruction sets, row counts and worker counts.
#include "kernels/cpu/matmul.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/ops.h"
#include "tests/kernels/random_floats.h"

namespace chorus::kernels {
namespace {

using tests::random_floats;

struct Format {
  WeightType type;
  const char* name;
  int64_t cols, bytes;  // of a block
};
constexpr Format kFormats[] = {
    {WeightType::f32, "f32", 1, 4},       {WeightType::f16, "f16", 1, 2},
    {WeightType::bf16, "bf16", 1, 2},     {WeightType::q8_0, "q8_0", 32, 34},
    {WeightType::q4_1, "q4_1", 32, 20},   {WeightType::q5_0, "q5_0", 32, 22},
    {WeightType::q4_k, "q4_k", 256, 144}, {WeightType::q6_k, "q6_k", 256, 210},
};

double half(const uint8_t* p) {
  const int bits = p[0] | p[1] << 8;
  const double magnitude = (bits >> 10 & 31) == 0
                               ? std::ldexp(bits & 1023, -24)
                               : std::ldexp(1024 + (bits & 1023), (bits >> 10 & 31) - 25);
  return bits & 0x8000 ? -magnitude : magnitude;
}

// Element i of one block, by the words of the GGUF specification.
double element(const Format& format, const uint8_t* p, int i) {
  const auto nibble = [&](const uint8_t* q, int at, bool high) {
    return high ? q[at] >> 4 : q[at] & 15;
  };
  switch (format.type) {
    case WeightType::f32: {
      float value;
      std::memcpy(&value, p, 4);
      return value;
    }
    case WeightType::f16:
      return half(p);
    case WeightType::bf16: {
      const uint32_t bits = static_cast<uint32_t>(p[0] | p[1] << 8) << 16;
      float value;
      std::memcpy(&value, &bits, 4);
      return value;
    }
    case WeightType::q8_0:
      return half(p) * static_cast<int8_t>(p[2 + i]);
    case WeightType::q4_1:
      return half(p) * nibble(p + 4, i % 16, i >= 16) + half(p + 2);
    case WeightType::q5_0: {
      uint32_t top;
      std::memcpy(&top, p + 2, 4);
      const int q = nibble(p + 6, i % 16, i >= 16) | static_cast<int>(top >> i & 1) << 4;
      return half(p) * (q - 16);
    }
    case WeightType::q4_k: {
      const uint8_t* s = p + 4;
      const int j = i / 32;
      const int scale = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | (s[j - 4] >> 6) << 4;
      const int least = j < 4 ? s[j + 4] & 63 : s[j + 4] >> 4 | (s[j] >> 6) << 4;
      const int q = nibble(p + 16 + i / 64 * 32, i % 32, i % 64 >= 32);
      return half(p) * scale * q - half(p + 2) * least;
    }
    case WeightType::q6_k: {
      const int part = i / 128, in = i % 128, quarter = in / 32, l = in % 32;
      const int low = nibble(p + 64 * part, l + 32 * (quarter % 2), quarter >= 2);
      const int high = p[128 + 32 * part + l] >> (2 * quarter) & 3;
      return half(p + 208) * static_cast<int8_t>(p[192 + i / 16]) * ((low | high << 4) - 32);
    }
    default:  // not made of blocks
      return 0;
  }
}

struct Source {
  Format format;
  int64_t rows, cols;
  std::vector<uint8_t> bytes;

  double at(int64_t row, int64_t col) const {
    const int64_t block = (row * cols + col) / format.cols;
    return element(format, bytes.data() + block * format.bytes,
                   static_cast<int>(col % format.cols));
  }
  WeightPart part() const {
    WeightPart part;
    part.data = reinterpret_cast<const std::byte*>(bytes.data());
    part.type = format.type;
    part.source_cols = cols;
    part.rows = {0, rows};
    part.cols = {0, cols};
    return part;
  }
};

// Random bits with scales between 2^-8 and 2^-7, so that sums neither vanish nor overflow.
Source random_source(const Format& format, int64_t rows, int64_t cols, uint32_t seed) {
  std::mt19937 random(seed);
  Source source{format, rows, cols, {}};
  source.bytes.resize(static_cast<size_t>(rows * cols / format.cols * format.bytes));
  for (uint8_t& byte : source.bytes) byte = static_cast<uint8_t>(random());
  const auto put_half = [&](uint8_t* at) { at[1] = static_cast<uint8_t>(0x1c | (at[1] & 0x83)); };
  for (size_t i = 0; i < source.bytes.size(); i += static_cast<size_t>(format.bytes)) {
    uint8_t* block = source.bytes.data() + i;
    if (format.type == WeightType::f32) {
      const float value = static_cast<float>(random() % 2001) / 1000.0f - 1;
      std::memcpy(block, &value, 4);
    } else if (format.type == WeightType::bf16) {
      block[1] = static_cast<uint8_t>(0x3e | (block[1] & 0x81));
    } else if (format.type == WeightType::q6_k) {
      put_half(block + 208);
    } else {
      put_half(block);
      if (format.cols > 1)
        put_half(block + 2 * (format.type != WeightType::q5_0 && format.type != WeightType::q8_0));
    }
  }
  return source;
}

struct Setup {
  Setup(Isa isa, int threads)
      : workers(threads),
        scratch(threads),
        backend{isa == Isa::scalar ? kScalarKernels
                                   : (isa == Isa::avx2 ? kAvx2Kernels : kAvx512Kernels),
                workers, scratch} {}
  Workers workers;
  Scratch scratch;
  Backend backend;

  std::vector<float> product(const WeightDescription& description, std::vector<float> x,
                             int64_t rows, std::shared_ptr<const VectorWeight> bias = nullptr) {
    MatmulCall call;
    call.weight = pack_matrix(description, workers);
    call.bias = std::move(bias);
    std::vector<float> out(static_cast<size_t>(rows * call.weight->rows), NAN);
    call.x = {x.data(), DType::f32, rows, call.weight->cols};
    call.out = {out.data(), DType::f32, rows, call.weight->rows};
    workers.run(matmul_phases(call, backend));
    return out;
  }
};

std::vector<Isa> isas() {
  std::vector<Isa> present;
  for (const Isa isa : {Isa::scalar, Isa::avx2, Isa::avx512}) {
    if (supported(isa)) present.push_back(isa);
  }
  return present;
}

bool same_bits(const float* a, const float* b, int64_t count) {
  return std::memcmp(a, b, static_cast<size_t>(count) * 4) == 0;
}

// Largest difference relative to the sum of the products' magnitudes, for quantised activations:
// each is off by at most amax / 254 of its block.
double worst_difference(const Source& source, Range cols, const std::vector<float>& x, int64_t rows,
                        const std::vector<float>& out) {
  double worst = 0;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t n = 0; n < source.rows; ++n) {
      double sum = 0, size = 0;
      for (int64_t c = cols.begin; c < cols.end; ++c) {
        const double term = source.at(n, c) * x[r * cols.size() + c - cols.begin];
        sum += term;
        size += std::fabs(term);
      }
      const double difference = std::fabs(out[r * source.rows + n] - sum) / (size + 1e-9);
      worst = std::isfinite(difference) ? std::max(worst, difference) : INFINITY;
    }
  }
  return worst;
}

}  // namespace

TEST_CASE("a product with packed weights is near the sum in f64 for every type") {
  for (const Format& format : kFormats) {
    for (const int64_t weight_rows : {1, 16, 37}) {
      for (const int64_t rows : {1, 2, 7, 8, 9, 17}) {
        CAPTURE(format.name, weight_rows, rows);
        const Source source = random_source(format, weight_rows, 512, 7);
        const std::vector<float> x = random_floats(rows * 512, 8);
        Setup setup(best_isa(), 2);
        const std::vector<float> out = setup.product({{source.part()}}, x, rows);
        CHECK(worst_difference(source, {0, 512}, x, rows, out) < (format.cols == 1 ? 1e-6 : 4e-3));
      }
    }
  }
}

TEST_CASE("instruction sets and worker counts agree bit for bit") {
  for (const Format& format : kFormats) {
    for (const int64_t rows : {1, 5, 19}) {
      CAPTURE(format.name, rows);
      const Source source = random_source(format, 53, 768, 3);
      const std::vector<float> x = random_floats(rows * 768, 4);
      Setup first(Isa::scalar, 1);
      const std::vector<float> expected = first.product({{source.part()}}, x, rows);
      for (const Isa isa : isas()) {
        for (const int threads : {1, 3}) {
          CAPTURE(name_of(isa), threads);
          Setup setup(isa, threads);
          const std::vector<float> out = setup.product({{source.part()}}, x, rows);
          CHECK(same_bits(out.data(), expected.data(), rows * 53));
        }
      }
    }
  }
}

TEST_CASE("a row alone gives the bits that it gives in a batch") {
  for (const Format& format : kFormats) {
    for (const Isa isa : isas()) {
      CAPTURE(format.name, name_of(isa));
      const Source source = random_source(format, 40, 512, 5);
      const std::vector<float> x = random_floats(21 * 512, 6);
      Setup setup(isa, 2);
      const std::vector<float> batch = setup.product({{source.part()}}, x, 21);
      for (const int64_t rows : {1, 2, 3, 5, 8, 12}) {
        CAPTURE(rows);
        const std::vector<float> some(x.begin() + 4 * 512, x.begin() + (4 + rows) * 512);
        const std::vector<float> out = setup.product({{source.part()}}, some, rows);
        CHECK(same_bits(out.data(), batch.data() + 4 * 40, rows * 40));
      }
    }
  }
}

TEST_CASE("columns may be cut inside a block and rows anywhere") {
  for (const Format& format : kFormats) {
    for (const Range cols : {Range{0, 512}, Range{40, 300}, Range{256, 257}, Range{511, 512}}) {
      CAPTURE(format.name, cols.begin, cols.end);
      const Source source = random_source(format, 20, 512, 9);
      WeightPart part = source.part();
      part.cols = cols;
      const std::vector<float> x = random_floats(3 * cols.size(), 10);
      Setup setup(best_isa(), 2);
      const std::vector<float> out = setup.product({{part}}, x, 3);
      CHECK(worst_difference(source, cols, x, 3, out) < (format.cols == 1 ? 1e-6 : 1e-2));

      part.rows = {3, 19};
      const std::vector<float> rows_cut = setup.product({{part}}, x, 3);
      for (int64_t r = 0; r < 3; ++r) {
        CHECK(same_bits(rows_cut.data() + r * 16, out.data() + r * 20 + 3, 16));
      }
    }
  }
}

TEST_CASE("parts of different types stand below each other, with one bias") {
  std::vector<Source> sources;
  WeightDescription description;
  int64_t weight_rows = 0;
  for (const Format& format : kFormats) {
    sources.push_back(random_source(format, 19, 256, 11));
    weight_rows += 19;
  }
  for (const Source& source : sources) description.parts.push_back(source.part());
  auto bias = std::make_shared<VectorWeight>();
  for (int64_t i = 0; i < weight_rows; ++i) bias->values.push_back(static_cast<float>(i) * 8);
  for (const int64_t rows : {1, 4, 11}) {
    const std::vector<float> x = random_floats(rows * 256, 12);
    Setup setup(best_isa(), 2);
    const std::vector<float> out = setup.product(description, x, rows, bias);
    for (size_t part = 0; part < sources.size(); ++part) {
      const std::vector<float> alone = setup.product({{sources[part].part()}}, x, rows);
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t n = 0; n < 19; ++n) {
          const int64_t at = static_cast<int64_t>(part) * 19 + n;
          CHECK(out[r * weight_rows + at] == alone[r * 19 + n] + bias->values[at]);
        }
      }
    }
  }
}

TEST_CASE("rows of rope pairs are put back into halves") {
  const Source source = random_source(kFormats[0], 16, 32, 13);
  WeightPart part = source.part();
  part.order = RowOrder::rope_pairs_to_halves;
  part.head_dim = 8;
  Setup setup(best_isa(), 1);
  const std::vector<float> x = random_floats(32, 14);
  const std::vector<float> plain = setup.product({{source.part()}}, x, 1);
  const std::vector<float> ordered = setup.product({{part}}, x, 1);
  for (int64_t head = 0; head < 2; ++head) {
    for (int64_t i = 0; i < 4; ++i) {
      CHECK(ordered[head * 8 + i] == plain[head * 8 + 2 * i]);
      CHECK(ordered[head * 8 + 4 + i] == plain[head * 8 + 2 * i + 1]);
    }
  }
}

}  // namespace chorus::kernels
