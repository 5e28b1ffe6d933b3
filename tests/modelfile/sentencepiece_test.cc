#include "modelfile/sentencepiece.h"

#include <catch2/catch.hpp>
#include <cstring>

#include "modelfile/error.h"
#include "modelfile/protobuf.h"
#include "tests/modelfile/refusal.h"

namespace chorus::modelfile {
namespace {

std::string varint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes.push_back(static_cast<char>(value | 0x80));
  bytes.push_back(static_cast<char>(value));
  return bytes;
}

std::string integer_field(uint32_t field, uint64_t value) {
  return varint(field << 3) + varint(value);
}

std::string bytes_field(uint32_t field, const std::string& value) {
  return varint(field << 3 | 2) + varint(value.size()) + value;
}

std::string number_field(uint32_t field, float value) {
  std::string bytes(4, '\0');
  std::memcpy(bytes.data(), &value, 4);
  return varint(field << 3 | 5) + bytes;
}

std::string piece(const std::string& text, float score, uint64_t kind) {
  return bytes_field(1, bytes_field(1, text) + number_field(2, score) + integer_field(3, kind));
}

std::string small_model() {
  return piece("<unk>", 0, 2) + piece("<s>", 0, 3) + piece("\u2581a", -1.5f, 1) +
         bytes_field(2, integer_field(3, 2) + integer_field(35, 1) + integer_field(40, 0) +
                            integer_field(41, 1) + integer_field(42, ~uint64_t{0})) +
         bytes_field(3, bytes_field(2, "map") + integer_field(3, 0) + integer_field(4, 0)) +
         bytes_field(9, "not known");
}

TEST_CASE("a SentencePiece model is read field by field") {
  const SentencePieceModel model = read_sentencepiece(small_model(), "m");
  CHECK(model.kind == SentencePieceModel::Kind::bpe);
  REQUIRE(model.pieces.size() == 3);
  CHECK(model.pieces[2].text == "\u2581a");
  CHECK(model.pieces[2].score == -1.5f);
  CHECK(model.pieces[1].kind == TokenKind::control);
  CHECK(model.byte_fallback);
  CHECK(model.bos == 1);
  CHECK_FALSE(model.eos.has_value());  // -1
  CHECK(model.charsmap == "map");
  CHECK_FALSE(model.add_dummy_prefix);
  CHECK_FALSE(model.remove_extra_whitespaces);
  CHECK(model.escape_whitespaces);  // as the format's default
}

TEST_CASE("a damaged SentencePiece model is refused wherever it is cut") {
  const std::string whole = small_model();
  int refused = 0;
  for (size_t size = 0; size < whole.size(); ++size) {
    try {
      read_sentencepiece(whole.substr(0, size), "m.model");
    } catch (const FileError& error) {
      ++refused;
      REQUIRE(std::string(error.what()).starts_with("m.model"));
    }
  }
  CHECK(refused > static_cast<int>(whole.size()) / 2);  // a cut between fields can be a model
  CHECK(test::refusal([] { read_sentencepiece("\x0B", "m"); }).names("at byte 1"));
  const std::string reaches = varint(1 << 3 | 2) + varint(100) + "x";
  CHECK(test::refusal([&] { read_sentencepiece(reaches, "m"); }).names("100 bytes"));
  CHECK(test::refusal([] { read_sentencepiece(integer_field(1, 5), "m"); }).names("no message"));
  const std::string endless(11, '\x80');
  CHECK(test::refusal([&] { read_sentencepiece(endless, "m"); }).names("64 bits"));
  CHECK(test::refusal([] { read_sentencepiece(piece("a", 0, 7), "m"); }).names("kind 7"));
}

}  // namespace
}  // namespace chorus::modelfile
