// Reads protobuf's wire format, field by field, without generated code: what a SentencePiece model
// file is written in. Every length is checked against the bytes that are there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace chorus::modelfile {

class ProtobufReader {
 public:
  // `bytes` outlive this and all that is read from it. `offset` is where they begin in the file.
  ProtobufReader(std::string_view bytes, std::string file_name, size_t offset = 0);

  // Goes to the next field of this message; false at its end. Throws FileError(corrupt), naming
  // the offset, where the bytes are no message.
  bool next();
  uint32_t field() const { return field_; }

  // The value of the field that next() went to. Throw FileError(corrupt) where it has another type.
  uint64_t integer() const;
  bool flag() const { return integer() != 0; }
  float number() const;
  std::string_view bytes() const;
  ProtobufReader message() const;

 private:
  enum class Wire : uint8_t { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };

  [[noreturn]] void corrupt(const std::string& why) const;
  uint64_t read_varint();
  std::string_view take(uint64_t count);
  void expect(Wire wire, const char* what) const;

  std::string_view bytes_;
  std::string file_name_;
  size_t offset_;
  size_t at_ = 0;
  uint32_t field_ = 0;
  Wire wire_ = Wire::varint;
  uint64_t integer_ = 0;
  std::string_view value_;
  size_t value_at_ = 0;
};

}  // namespace chorus::modelfile
