#include "modelfile/safetensors.h"

#include <catch2/catch.hpp>
#include <random>

#include "modelfile/error.h"
#include "tests/modelfile/gguf_writer.h"
#include "tests/modelfile/refusal.h"
#include "tests/modelfile/safetensors_writer.h"
#include "tests/modelfile/scratch_folder.h"

namespace chorus::modelfile {
namespace {

using test::as_bytes;
using test::Refusal;
using test::refusal;
using test::safetensors;
using Kind = FileError::Kind;

Refusal refusal_of(const std::string& header, const std::string& data = "") {
  const std::string file = safetensors(header, data);
  return refusal([&] { parse_safetensors(as_bytes(file), "x.safetensors"); });
}

// A header of one tensor "t".
std::string lone(const std::string& dtype, const std::string& shape, const std::string& place) {
  return R"({"t":{"dtype":)" + dtype + R"(,"shape":)" + shape + R"(,"data_offsets":)" + place +
         "}}";
}

}  // namespace

TEST_CASE("a safetensors file gives its tensors in the order of their places", "[modelfile]") {
  const std::string file = test::small_safetensors();
  const std::vector<Tensor> tensors = parse_safetensors(as_bytes(file), "x.safetensors");
  REQUIRE(tensors.size() == 3);
  CHECK(tensors[0].name == "norm");
  CHECK(tensors[0].type == TensorType::f32);
  CHECK(tensors[1].name == "embed");
  CHECK(tensors[1].type == TensorType::bf16);
  CHECK(tensors[1].shape == std::vector<int64_t>{3, 2});
  CHECK(tensors[1].data.size() == 12);
  CHECK(tensors[1].data.front() == std::byte{'e'});
  CHECK(tensors[2].type == TensorType::f16);
  CHECK(tensors[2].shape.empty());
  CHECK(tensors[2].data.back() == std::byte{'s'});
}

TEST_CASE("a safetensors file cut at any byte is refused", "[modelfile]") {
  const std::string whole = test::small_safetensors();
  for (size_t size = 0; size < whole.size(); ++size) {
    const std::string cut = whole.substr(0, size);
    INFO("cut to " << size << " of " << whole.size() << " bytes");
    REQUIRE_THROWS_AS(parse_safetensors(as_bytes(cut), "x.safetensors"), FileError);
  }
}

TEST_CASE("random damage to safetensors is refused or read", "[modelfile]") {
  const std::string whole = test::small_safetensors();
  std::mt19937 random(20240502);
  int refused = 0;
  constexpr int kRounds = 20000;
  for (int round = 0; round < kRounds; ++round) {
    std::string file = whole;
    file[random() % file.size()] ^= static_cast<char>(1u << (random() % 8));
    if (random() % 2 == 0) file[random() % file.size()] = static_cast<char>(random() % 256);
    try {
      for (const Tensor& tensor : parse_safetensors(as_bytes(file), "x.safetensors")) {
        const auto* begin = reinterpret_cast<const char*>(tensor.data.data());
        REQUIRE(begin >= file.data());
        REQUIRE(begin + tensor.data.size() <= file.data() + file.size());
      }
    } catch (const FileError&) {
      ++refused;
    }
  }
  CHECK(refused > kRounds / 4);
  CHECK(refused < kRounds);
}

TEST_CASE("a header that claims more than the file is refused", "[modelfile]") {
  for (const uint64_t length : {uint64_t{9}, uint64_t{1} << 40, ~uint64_t{0}, ~uint64_t{7}}) {
    const std::string file = test::little_endian(length) + "{}";
    const Refusal answer = refusal([&] { parse_safetensors(as_bytes(file), "x.safetensors"); });
    CHECK(answer.kind == Kind::corrupt);
    CHECK(answer.names("x.safetensors: the header claims " + std::to_string(length)));
  }
}

TEST_CASE("what is no safetensors header is refused", "[modelfile]") {
  CHECK(refusal_of("").names("not valid JSON"));
  CHECK(refusal_of("[]").names("object is expected"));
  CHECK(refusal_of("{\"t\":\xff}").names("not valid JSON"));
  CHECK(refusal_of(R"({"t":1e999})").names("not valid JSON"));
  CHECK(refusal_of(R"({"t":1})").names("tensor t"));
  CHECK(refusal_of(R"({"__metadata__":1})").names("__metadata__"));
  CHECK(refusal_of(std::string(200000, '[')).names("not valid JSON"));
}

TEST_CASE("wrong dtypes, shapes and offsets name their tensor", "[modelfile]") {
  const Refusal unread = refusal_of(lone("\"U64\"", "[1]", "[0,8]"), "xxxxxxxx");
  CHECK(unread.kind == Kind::unsupported);
  CHECK(unread.names("tensor t has type U64, which Chorus does not read yet"));
  CHECK(refusal_of(lone("7", "[1]", "[0,4]"), "xxxx").names("tensor t has no dtype"));
  CHECK(refusal_of(lone("\"F32\"", "1", "[0,4]"), "xxxx").names("tensor t has no list shape"));
  CHECK(refusal_of(lone("\"F32\"", "[-1]", "[0,4]"), "xxxx").names("tensor t: shape"));
  CHECK(refusal_of(lone("\"F32\"", "[1.0]", "[0,4]"), "xxxx").names("tensor t: shape"));
  CHECK(refusal_of(lone("\"F32\"", "[1]", "[0]"), "xxxx").names("data_offsets is not a pair"));
  CHECK(refusal_of(lone("\"F32\"", "[1]", "[4,0]"), "xxxx").names("data_offsets is not a pair"));
  CHECK(refusal_of(lone("\"F32\"", "[2]", "[0,4]"), "xxxx").names("tensor t needs 8 bytes"));
  CHECK(refusal_of(lone("\"F32\"", "[4294967296,4294967296]", "[0,0]")).names("too large"));
  CHECK(refusal_of(lone("\"F32\"", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), "xxxx").names("dimensions"));
  CHECK(refusal_of(lone("\"F32\"", "[1]", "[0,4]"), "xxx").names("cut off"));
  const std::string far = "[18446744073709551612,18446744073709551616]";
  CHECK(refusal_of(lone("\"F32\"", "[1]", far), "xxxx").names("tensor t: data_offsets"));
}

TEST_CASE("tensors that overlap, leave gaps or come twice are refused", "[modelfile]") {
  const auto two = [](const std::string& first, const std::string& second) {
    return R"({"a":{"dtype":"F32","shape":[1],"data_offsets":)" + first +
           R"(},"b":{"dtype":"F32","shape":[1],"data_offsets":)" + second + "}}";
  };
  CHECK(refusal_of(two("[0,4]", "[0,4]"), "xxxx").names("tensor b begins at 0"));
  CHECK(refusal_of(two("[0,4]", "[2,6]"), "xxxxxx").names("overlap or leave a gap"));
  CHECK(refusal_of(two("[0,4]", "[5,9]"), "xxxxxxxxx").names("overlap or leave a gap"));
  CHECK(refusal_of(two("[4,8]", "[8,12]"), "xxxxxxxxxxxx").names("tensor a begins at 4"));
  CHECK(refusal_of(two("[0,4]", "[4,8]"), "xxxxxxxxx").names("1 bytes belong to no tensor"));
  std::string twice = two("[0,4]", "[4,8]");
  twice[twice.find("\"b\"") + 1] = 'a';
  CHECK(refusal_of(twice, "xxxxxxxx").names("key a comes twice"));
}

TEST_CASE("an index names plain files beside it", "[modelfile]") {
  const auto parse = [](const std::string& text) {
    return parse_safetensors_index(text, "x.index.json");
  };
  CHECK(parse(R"({"weight_map":{"a":"1.safetensors","b":"2.safetensors"}})").at("b") ==
        "2.safetensors");
  for (const char* name :
       {"../1.safetensors", "/etc/passwd", "a/b", "a\\\\b", "..", ".", "", "a..b", "a\\u0000b"}) {
    const Refusal answer =
        refusal([&] { parse(R"({"weight_map":{"a":")" + std::string(name) + "\"}}"); });
    INFO(name);
    CHECK(answer.names("not the plain name of a file"));
  }
  CHECK(refusal([&] { parse("{}"); }).names("weight_map"));
  CHECK(refusal([&] { parse(R"({"weight_map":{}})"); }).names("weight_map"));
  CHECK(refusal([&] { parse(R"({"weight_map":{"a":1}})"); }).names("tensor a names no file"));
}

TEST_CASE("a sharded folder gives the tensors of all of its files", "[modelfile]") {
  const test::ScratchFolder folder;
  const auto one = [](const std::string& name, const std::string& data) {
    return safetensors(R"({")" + name + R"(":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
                       data);
  };
  test::save(folder.path() / "1.safetensors", one("a", "aaaa"));
  test::save(folder.path() / "2.safetensors", one("b", "bbbb"));
  const auto index = folder.path() / "model.safetensors.index.json";
  test::save(index, R"({"weight_map":{"a":"1.safetensors","b":"2.safetensors"}})");
  const Safetensors weights(folder.path(), true);
  REQUIRE(weights.tensors().size() == 2);
  REQUIRE(weights.find("b") != nullptr);
  CHECK(weights.find("b")->data[3] == std::byte{'b'});
  CHECK(weights.find("c") == nullptr);
  const Safetensors described(folder.path(), false);
  CHECK(described.find("a")->data.empty());

  test::save(index, R"({"weight_map":{"a":"1.safetensors","b":"1.safetensors"}})");
  const Refusal misplaced = refusal([&] { Safetensors(folder.path(), true); });
  CHECK(misplaced.names("1.safetensors: tensor b"));
  test::save(index, R"({"weight_map":{"a":"3.safetensors"}})");
  CHECK(refusal([&] { Safetensors(folder.path(), true); }).kind == Kind::missing);
}

TEST_CASE("a folder without safetensors says what it wants", "[modelfile]") {
  const test::ScratchFolder folder;
  test::save(folder.path() / "pytorch_model.bin", "x");
  const Refusal answer = refusal([&] { Safetensors(folder.path(), true); });
  CHECK(answer.kind == Kind::missing);
  CHECK(answer.names("model.safetensors"));
  CHECK(answer.names("convert"));
}

}  // namespace chorus::modelfile
