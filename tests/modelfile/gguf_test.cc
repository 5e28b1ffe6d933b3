#include "modelfile/gguf.h"

#include <catch2/catch.hpp>
#include <limits>
#include <random>

#include "modelfile/error.h"
#include "modelfile/gguf_model.h"
#include "tests/modelfile/gguf_writer.h"
#include "tests/modelfile/refusal.h"

namespace chorus::modelfile {
namespace {

using test::as_bytes;
using test::GgufWriter;
using test::Refusal;
using test::refusal;
using Kind = FileError::Kind;

Refusal refusal_of(const GgufWriter& writer) {
  const std::string file = writer.bytes();
  return refusal([&] { parse_gguf(as_bytes(file), "x.gguf"); });
}

// Asks everything of a file that was accepted; only FileErrors may come out.
void read_all(const Gguf& gguf) {
  for (const auto& [key, value] : gguf.values()) {
    const std::string& name = key;
    const auto quietly = [](auto&& look_up) {
      try {
        look_up();
      } catch (const FileError&) {  // another type: a refusal, as it should be
      }
    };
    quietly([&] { gguf.find_integer(name); });
    quietly([&] { gguf.find_number(name); });
    quietly([&] { gguf.find_flag(name); });
    quietly([&] { gguf.find_text(name); });
    quietly([&] { gguf.find_integers(name); });
    quietly([&] { gguf.find_floats(name); });
    quietly([&] { gguf.find_texts(name); });
    quietly([&] { gguf_vocabulary(gguf); });
  }
  unsigned sum = 0;
  for (const Tensor& tensor : gguf.tensors()) {
    for (const std::byte byte : tensor.data) sum += static_cast<unsigned>(byte);
  }
  CHECK(sum < std::numeric_limits<unsigned>::max());
}

}  // namespace

TEST_CASE("metadata of every type is read back", "[modelfile]") {
  const std::string file = GgufWriter()
                               .u8("u8", 200)
                               .i8("i8", -100)
                               .u16("u16", 60000)
                               .i16("i16", -30000)
                               .u32("u32", 4000000000u)
                               .i32("i32", -2000000000)
                               .u64("u64", 1ull << 62)
                               .i64("i64", -(1ll << 62))
                               .f32("f32", 0.5f)
                               .f64("f64", 0.1)
                               .flag("yes", true)
                               .text("text", "words")
                               .texts("texts", {"one", "", "three"})
                               .floats("floats", {1.5f, -2})
                               .integers("integers", {7, -8})
                               .bytes();
  const Gguf gguf = parse_gguf(as_bytes(file), "x.gguf");
  CHECK(gguf.find_integer("u8") == 200);
  CHECK(gguf.find_integer("i8") == -100);
  CHECK(gguf.find_integer("u16") == 60000);
  CHECK(gguf.find_integer("i16") == -30000);
  CHECK(gguf.find_integer("u32") == 4000000000);
  CHECK(gguf.find_integer("i32") == -2000000000);
  CHECK(gguf.find_integer("u64") == int64_t{1} << 62);
  CHECK(gguf.find_integer("i64") == -(int64_t{1} << 62));
  CHECK(gguf.find_number("f32") == 0.5);
  CHECK(gguf.find_number("f64") == 0.1);
  CHECK(gguf.find_number("i8") == -100.0);
  CHECK(gguf.find_flag("yes") == true);
  CHECK(gguf.find_text("text") == "words");
  CHECK(gguf.find_texts("texts") == std::vector<std::string>{"one", "", "three"});
  CHECK(gguf.find_floats("floats") == std::vector<float>{1.5f, -2});
  CHECK(gguf.find_integers("integers") == std::vector<int64_t>{7, -8});
  CHECK(gguf.find_integers("u8") == std::vector<int64_t>{200});
  CHECK_FALSE(gguf.find_integer("absent").has_value());
  CHECK_FALSE(gguf.find_texts("absent").has_value());
}

TEST_CASE("a value of another type is refused with its key and both types", "[modelfile]") {
  const std::string file =
      GgufWriter().text("name", "x").texts("list", {"y"}).u64("big", 1ull << 63).bytes();
  const Gguf gguf = parse_gguf(as_bytes(file), "x.gguf");
  const Refusal integer = refusal([&] { gguf.find_integer("name"); });
  CHECK(integer.kind == Kind::corrupt);
  CHECK(integer.names("x.gguf"));
  CHECK(integer.names("key name is of type string, an integer is expected"));
  CHECK(refusal([&] { gguf.find_text("list"); }).names("array of string"));
  CHECK(refusal([&] { gguf.find_floats("list"); }).names("array of f32 is expected"));
  CHECK(refusal([&] { gguf.find_integer("big"); }).names("key big"));
}

TEST_CASE("tensors have outermost-first shapes and their own bytes", "[modelfile]") {
  const std::string file = test::small_gguf().bytes();
  const Gguf gguf = parse_gguf(as_bytes(file), "x.gguf");
  REQUIRE(gguf.tensors().size() == 3);
  const Tensor* embedding = gguf.find_tensor("token_embd.weight");
  REQUIRE(embedding != nullptr);
  CHECK(embedding->type == TensorType::q8_0);
  CHECK(embedding->shape == std::vector<int64_t>{4, 32});
  CHECK(embedding->data.size() == 4 * 34);
  CHECK(embedding->data.back() == std::byte{1});
  const Tensor* norm = gguf.find_tensor("output_norm.weight");
  REQUIRE(norm != nullptr);
  CHECK(norm->data.size() == 20);
  CHECK(norm->data.front() == std::byte{2});
  CHECK(gguf.find_tensor("absent") == nullptr);
}

TEST_CASE("all element types that Chorus reads have their blocks' sizes", "[modelfile]") {
  const auto bytes_of = [](uint32_t type, size_t bytes) {
    const std::string file = GgufWriter().tensor("t", type, {256}, std::string(bytes, 'x')).bytes();
    return parse_gguf(as_bytes(file), "x.gguf").tensors().at(0).data.size();
  };
  CHECK(bytes_of(GgufWriter::kF32, 1024) == 1024);
  CHECK(bytes_of(GgufWriter::kF16, 512) == 512);
  CHECK(bytes_of(GgufWriter::kBF16, 512) == 512);
  CHECK(bytes_of(GgufWriter::kQ8_0, 272) == 272);
  CHECK(bytes_of(GgufWriter::kQ4_1, 160) == 160);
  CHECK(bytes_of(GgufWriter::kQ5_0, 176) == 176);
  CHECK(bytes_of(GgufWriter::kQ4_K, 144) == 144);
  CHECK(bytes_of(GgufWriter::kQ6_K, 210) == 210);
}

TEST_CASE("another alignment is followed", "[modelfile]") {
  GgufWriter writer;
  writer.align(64)
      .tensor("a", GgufWriter::kF32, {1}, "aaaa")
      .tensor("b", GgufWriter::kF32, {1}, "bbbb");
  const std::string file = writer.bytes();
  const Gguf gguf = parse_gguf(as_bytes(file), "x.gguf");
  CHECK(gguf.find_tensor("b")->data[0] == std::byte{'b'});
  CHECK(gguf.data_offset() % 64 == 0);
  for (const uint32_t wrong : {0u, 48u, 1u << 31}) {
    const Refusal answer = refusal_of(GgufWriter().u32("general.alignment", wrong));
    CHECK(answer.names("general.alignment"));
  }
}

TEST_CASE("a file cut at any byte is refused", "[modelfile]") {
  const std::string whole = test::small_gguf().bytes();
  parse_gguf(as_bytes(whole), "x.gguf");
  for (size_t size = 0; size < whole.size(); ++size) {
    const std::string cut = whole.substr(0, size);
    INFO("cut to " << size << " of " << whole.size() << " bytes");
    REQUIRE_THROWS_AS(parse_gguf(as_bytes(cut), "x.gguf"), FileError);
  }
}

TEST_CASE("random damage is refused or read, never more than that", "[modelfile]") {
  const std::string whole = test::small_gguf().bytes();
  std::mt19937 random(20240501);
  int refused = 0;
  constexpr int kRounds = 20000;
  for (int round = 0; round < kRounds; ++round) {
    std::string file = whole;
    const int flips = 1 + static_cast<int>(random() % 4);
    for (int flip = 0; flip < flips; ++flip) {
      file[random() % file.size()] ^= static_cast<char>(1u << (random() % 8));
    }
    try {
      read_all(parse_gguf(as_bytes(file), "x.gguf"));
    } catch (const FileError&) {
      ++refused;
    }
  }
  CHECK(refused > kRounds / 4);
  CHECK(refused < kRounds);
}

TEST_CASE("other kinds of files are told apart", "[modelfile]") {
  CHECK(refusal([] {
          parse_gguf(as_bytes("PK\3\4 something else"), "x.zip");
        }).names("not a GGUF file"));
  const Refusal old = refusal_of(GgufWriter().version(1));
  CHECK(old.kind == Kind::unsupported);
  CHECK(old.names("version 1"));
  CHECK(refusal_of(GgufWriter().version(0x03000000)).names("big-endian"));
  const std::string second = GgufWriter().version(2).text("k", "v").bytes();
  CHECK(parse_gguf(as_bytes(second), "x.gguf").find_text("k") == "v");
}

TEST_CASE("counts larger than the file are refused before anything is made", "[modelfile]") {
  constexpr uint64_t kHuge = std::numeric_limits<uint64_t>::max();
  CHECK(refusal_of(GgufWriter().claim_counts(kHuge, 0)).names("tensors cannot lie"));
  CHECK(refusal_of(GgufWriter().claim_counts(0, kHuge)).names("metadata values cannot lie"));
  for (const uint64_t count : {kHuge, kHuge / 8 + 2, kHuge / 4, uint64_t{1} << 40}) {
    for (const uint32_t type : {0u, 4u, 8u, 9u, 10u}) {
      const Refusal answer = refusal_of(GgufWriter().array("k", type, count, "body"));
      CHECK(answer.names("more than the file holds"));
    }
  }
  CHECK(refusal_of(GgufWriter().raw("k", 8, test::little_endian(kHuge))).names("k needs"));
}

TEST_CASE("arrays within arrays are passed over to a depth", "[modelfile]") {
  const auto nested = [](int depth) {
    std::string body = test::little_endian<uint32_t>(0) + test::little_endian<uint64_t>(1) + "x";
    for (int i = 1; i < depth; ++i) {
      body = test::little_endian<uint32_t>(9) + test::little_endian<uint64_t>(1) + body;
    }
    return GgufWriter().raw("deep", 9, body).text("next", "found");
  };
  const std::string file = nested(3).bytes();
  CHECK(parse_gguf(as_bytes(file), "x.gguf").find_text("next") == "found");
  CHECK(refusal_of(nested(1000)).names("nested too deeply"));
}

TEST_CASE("shapes and places that overflow are refused", "[modelfile]") {
  constexpr uint64_t kHuge = std::numeric_limits<uint64_t>::max();
  const auto one = [](uint32_t type, std::vector<uint64_t> shape, uint64_t offset) {
    return refusal_of(GgufWriter().u64("k", 0).describe("bad", type, shape, offset));
  };
  CHECK(one(0, {kHuge, kHuge}, 0).names("tensor bad has more elements"));
  CHECK(one(0, {1ull << 32, 1ull << 32}, 0).names("tensor bad has more elements"));
  CHECK(one(0, {1ull << 62}, 0).names("tensor bad is too large"));
  CHECK(one(0, {1ull << 40}, 0).names("ends behind the file's end"));
  CHECK(one(0, {1}, kHuge - 31).names("ends behind the file's end"));
  CHECK(one(0, {1}, 1ull << 63).names("ends behind the file's end"));
  CHECK(one(0, {1}, 7).names("alignment"));
  CHECK(one(0, {3, 0}, 0).names("dimension of 0"));
  CHECK(one(0, {}, 0).names("0 dimensions"));
  CHECK(one(0, {1, 1, 1, 1, 1}, 0).names("5 dimensions"));
  CHECK(one(GgufWriter::kQ8_0, {2, 48}, 0).names("block of 32"));
}

TEST_CASE("a tensor type that is not read yet is named with its tensor", "[modelfile]") {
  const Refusal answer =
      refusal_of(GgufWriter().describe("blk.0.attn_q.weight", GgufWriter::kQ2_K, {256}, 0));
  CHECK(answer.kind == Kind::unsupported);
  CHECK(answer.names("x.gguf, byte "));
  CHECK(
      answer.names("tensor blk.0.attn_q.weight has type Q2_K, which Chorus does not read yet; it "
                   "reads F32, F16, "));
  CHECK(refusal_of(GgufWriter().describe("t", 999, {256}, 0)).names("unknown number 999"));
}

TEST_CASE("names that come twice, and tensors that overlap, are refused", "[modelfile]") {
  CHECK(refusal_of(GgufWriter().u8("k", 1).text("k", "v")).names("key k comes twice"));
  GgufWriter twice;
  twice.tensor("t", 0, {1}, "aaaa").tensor("t", 0, {1}, "bbbb");
  CHECK(refusal_of(twice).names("tensor t comes twice"));
  GgufWriter overlap;
  overlap.tensor("a", 0, {16}, std::string(64, 'a')).describe("b", 0, {1}, 32);
  CHECK(refusal_of(overlap).names("tensors a and b overlap"));
}

TEST_CASE("unknown value types and unusable keys are refused", "[modelfile]") {
  CHECK(refusal_of(GgufWriter().raw("k", 13, "xxxxxxxx")).names("value type 13"));
  CHECK(refusal_of(GgufWriter().array("k", 77, 0, "")).names("value type 77"));
  CHECK(refusal_of(GgufWriter().u64("", 1)).names("0 bytes long"));
  CHECK(refusal_of(GgufWriter().u8("line\nbreak", 1)).names("control characters"));
}

}  // namespace chorus::modelfile
