#include "modelfile/protobuf.h"

#include <bit>
#include <utility>

#include "modelfile/error.h"

namespace chorus::modelfile {

ProtobufReader::ProtobufReader(std::string_view bytes, std::string file_name, size_t offset)
    : bytes_(bytes), file_name_(std::move(file_name)), offset_(offset) {}

void ProtobufReader::corrupt(const std::string& why) const {
  throw FileError(FileError::Kind::corrupt,
                  file_name_ + ": at byte " + std::to_string(offset_ + at_) + ": " + why);
}

uint64_t ProtobufReader::read_varint() {
  uint64_t value = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    if (at_ == bytes_.size()) corrupt("the file ends within a number");
    const auto byte = static_cast<unsigned char>(bytes_[at_++]);
    value |= static_cast<uint64_t>(byte & 0x7F) << shift;
    if ((byte & 0x80) == 0) return value;
  }
  corrupt("a number is longer than 64 bits");
}

std::string_view ProtobufReader::take(uint64_t count) {
  if (count > bytes_.size() - at_) {
    corrupt("a value of " + std::to_string(count) + " bytes reaches beyond the " +
            std::to_string(bytes_.size() - at_) + " that are left");
  }
  value_at_ = offset_ + at_;
  const std::string_view taken = bytes_.substr(at_, count);
  at_ += count;
  return taken;
}

bool ProtobufReader::next() {
  if (at_ == bytes_.size()) return false;
  const uint64_t tag = read_varint();
  if (tag >> 3 == 0 || tag >> 3 > 0x1FFFFFFF) corrupt("this is no protobuf message");
  field_ = static_cast<uint32_t>(tag >> 3);
  switch (tag & 7) {
    case 0:
      wire_ = Wire::varint;
      integer_ = read_varint();
      return true;
    case 1:
      wire_ = Wire::fixed64;
      value_ = take(8);
      return true;
    case 2:
      wire_ = Wire::bytes;
      value_ = take(read_varint());
      return true;
    case 5:
      wire_ = Wire::fixed32;
      value_ = take(4);
      return true;
    default:
      corrupt("this is no protobuf message");
  }
}

void ProtobufReader::expect(Wire wire, const char* what) const {
  if (wire_ != wire) corrupt("field " + std::to_string(field_) + " is no " + what);
}

uint64_t ProtobufReader::integer() const {
  expect(Wire::varint, "integer");
  return integer_;
}

float ProtobufReader::number() const {
  expect(Wire::fixed32, "32-bit number");
  uint32_t bits = 0;
  for (size_t i = 4; i > 0; --i) bits = bits << 8 | static_cast<unsigned char>(value_[i - 1]);
  return std::bit_cast<float>(bits);
}

std::string_view ProtobufReader::bytes() const {
  expect(Wire::bytes, "text");
  return value_;
}

ProtobufReader ProtobufReader::message() const {
  expect(Wire::bytes, "message");
  return ProtobufReader(value_, file_name_, value_at_);
}

}  // namespace chorus::modelfile
