#include "modelfile/gguf.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <utility>

#include "modelfile/checked_math.h"
#include "modelfile/error.h"

namespace chorus::modelfile {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF is read as it lies in memory");

constexpr uint64_t kKeyBytesMax = 65535;      // the format's own limit
constexpr uint64_t kAlignmentMax = 1u << 20;  // files use 32; beyond this it is nonsense
constexpr uint32_t kDimensionsMax = 4;
constexpr int kArrayDepthMax = 4;

constexpr std::array<std::string_view, 13> kTypeNames = {
    "u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string", "array", "u64", "i64", "f64"};
// Bytes of a value; for strings and arrays the least that one takes.
constexpr std::array<uint64_t, 13> kTypeBytes = {1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8};

std::string_view name_of(GgufType type) {
  return kTypeNames[static_cast<size_t>(type)];
}
uint64_t bytes_of(GgufType type) {
  return kTypeBytes[static_cast<size_t>(type)];
}

// ggml's numbers for element types; those that Chorus reads have a TensorType.
struct ElementType {
  uint32_t number;
  std::string_view name;
  std::optional<TensorType> type;
};
constexpr std::optional<TensorType> kUnread = std::nullopt;
constexpr ElementType kElementTypes[] = {
    {0, "F32", TensorType::f32},
    {1, "F16", TensorType::f16},
    {2, "Q4_0", TensorType::q4_0},
    {3, "Q4_1", TensorType::q4_1},
    {6, "Q5_0", TensorType::q5_0},
    {7, "Q5_1", TensorType::q5_1},
    {8, "Q8_0", TensorType::q8_0},
    {9, "Q8_1", kUnread},
    {10, "Q2_K", kUnread},
    {11, "Q3_K", kUnread},
    {12, "Q4_K", TensorType::q4_k},
    {13, "Q5_K", TensorType::q5_k},
    {14, "Q6_K", TensorType::q6_k},
    {15, "Q8_K", kUnread},
    {16, "IQ2_XXS", kUnread},
    {17, "IQ2_XS", kUnread},
    {18, "IQ3_XXS", kUnread},
    {19, "IQ1_S", kUnread},
    {20, "IQ4_NL", kUnread},
    {21, "IQ3_S", kUnread},
    {22, "IQ2_S", kUnread},
    {23, "IQ4_XS", kUnread},
    {24, "I8", kUnread},
    {25, "I16", kUnread},
    {26, "I32", kUnread},
    {27, "I64", kUnread},
    {28, "F64", kUnread},
    {29, "IQ1_M", kUnread},
    {30, "BF16", TensorType::bf16},
    {34, "TQ1_0", kUnread},
    {35, "TQ2_0", kUnread},
    {39, "MXFP4", kUnread},
};

std::string readable_types() {
  std::string list;
  for (const ElementType& entry : kElementTypes) {
    if (!entry.type) continue;
    if (!list.empty()) list += ", ";
    list += entry.name;
  }
  return list;
}

// Walks the bytes; each read is checked against what is left.
class Cursor {
 public:
  Cursor(std::span<const std::byte> bytes, const std::string& file) : bytes_(bytes), file_(file) {}

  size_t offset() const { return offset_; }
  uint64_t left() const { return bytes_.size() - offset_; }

  [[noreturn]] void corrupt(const std::string& message, size_t offset) const {
    fail(FileError::Kind::corrupt, message, offset);
  }
  [[noreturn]] void fail(FileError::Kind kind, const std::string& message, size_t offset) const {
    throw FileError(kind, file_ + ", byte " + std::to_string(offset) + ": " + message);
  }

  void skip(uint64_t count, const std::string& what) {
    if (count > left()) {
      corrupt(what + " needs " + std::to_string(count) + " bytes, the file has " +
                  std::to_string(left()) + " left",
              offset_);
    }
    offset_ += static_cast<size_t>(count);
  }

  template <class T>
  T read(const std::string& what) {
    T value;
    const std::byte* place = bytes_.data() + offset_;
    skip(sizeof(T), what);
    std::memcpy(&value, place, sizeof(T));
    return value;
  }

  std::string_view text(const std::string& what) {
    const auto length = read<uint64_t>(what);
    const auto* place = reinterpret_cast<const char*>(bytes_.data()) + offset_;
    skip(length, what);
    return {place, static_cast<size_t>(length)};
  }

  // A key or a tensor's name: what is printed in errors, so it is kept short and clean.
  std::string name(const std::string& what) {
    const size_t start = offset_;
    const std::string_view result = text(what);
    if (result.empty() || result.size() > kKeyBytesMax) {
      corrupt(what + " is " + std::to_string(result.size()) + " bytes long", start);
    }
    const auto control = [](char c) { return static_cast<unsigned char>(c) < 0x20; };
    if (std::any_of(result.begin(), result.end(), control)) {
      corrupt(what + " holds control characters", start);
    }
    return std::string(result);
  }

  GgufType value_type(const std::string& what) {
    const size_t start = offset_;
    const auto number = read<uint32_t>("the type of " + what);
    if (number >= kTypeNames.size()) {
      corrupt(what + " has the unknown value type " + std::to_string(number), start);
    }
    return static_cast<GgufType>(number);
  }

 private:
  std::span<const std::byte> bytes_;
  const std::string& file_;
  size_t offset_ = 0;
};

void skip_elements(Cursor& cursor, GgufType type, uint64_t count, const std::string& what,
                   int depth);

// Reads an array's head, checks that its elements can lie in the file, and goes past them.
GgufValue skip_array(Cursor& cursor, const std::string& what, int depth) {
  const size_t start = cursor.offset();
  if (depth > kArrayDepthMax) cursor.corrupt(what + " is nested too deeply", start);
  const GgufType element = cursor.value_type(what + "'s elements");
  const auto count = cursor.read<uint64_t>("the length of " + what);
  const auto least = checked_multiply(count, bytes_of(element));
  if (!least || *least > cursor.left()) {
    cursor.corrupt(what + " claims " + std::to_string(count) + " elements of type " +
                       std::string(name_of(element)) + ", more than the file holds",
                   start);
  }
  const GgufValue value{GgufType::array, element, count, cursor.offset()};
  skip_elements(cursor, element, count, what, depth);
  return value;
}

void skip_elements(Cursor& cursor, GgufType type, uint64_t count, const std::string& what,
                   int depth) {
  if (type == GgufType::text) {
    for (uint64_t i = 0; i < count; ++i) cursor.text(what);
  } else if (type == GgufType::array) {
    for (uint64_t i = 0; i < count; ++i) skip_array(cursor, what, depth + 1);
  } else {
    const auto bytes = checked_multiply(count, bytes_of(type));
    cursor.skip(bytes.value_or(std::numeric_limits<uint64_t>::max()), what);
  }
}

GgufValue skip_value(Cursor& cursor, const std::string& what) {
  const GgufType type = cursor.value_type(what);
  if (type == GgufType::array) return skip_array(cursor, what, 1);
  const GgufValue value{type, type, 1, cursor.offset()};
  skip_elements(cursor, type, 1, what, 0);
  return value;
}

struct Header {
  uint64_t tensor_count;
  uint64_t value_count;
};

Header read_header(Cursor& cursor) {
  constexpr uint32_t kMagic = 0x46554747;  // "GGUF"
  if (cursor.read<uint32_t>("the magic number") != kMagic) {
    cursor.corrupt("not a GGUF file: it does not start with \"GGUF\"", 0);
  }
  const auto version = cursor.read<uint32_t>("the version");
  if (version != 2 && version != 3) {
    const bool swapped = version == 0x02000000 || version == 0x03000000;
    cursor.fail(
        FileError::Kind::unsupported,
        swapped ? "the file is big-endian, Chorus reads little-endian GGUF only"
                : "GGUF version " + std::to_string(version) + " is not read, only versions 2 and 3",
        4);
  }
  const auto tensor_count = cursor.read<uint64_t>("the number of tensors");
  const auto value_count = cursor.read<uint64_t>("the number of metadata values");
  // The least that each takes: a one-byte key and a one-byte value; a one-byte name and one
  // dimension. Only for an early and clear message: the loops check each read anyway.
  constexpr uint64_t kValueBytesMin = 8 + 1 + 4 + 1;
  constexpr uint64_t kTensorBytesMin = 8 + 1 + 4 + 8 + 4 + 8;
  if (value_count > cursor.left() / kValueBytesMin) {
    cursor.corrupt(std::to_string(value_count) + " metadata values cannot lie in this file", 16);
  }
  if (tensor_count > cursor.left() / kTensorBytesMin) {
    cursor.corrupt(std::to_string(tensor_count) + " tensors cannot lie in this file", 8);
  }
  return {tensor_count, value_count};
}

// A tensor's description and where in the file it starts; `data_offset` counts from the data's
// start.
struct Description {
  Tensor tensor;
  size_t described_at;
  uint64_t data_offset;
  uint64_t data_bytes;
};

TensorType element_type(const Cursor& cursor, uint32_t number, const std::string& what,
                        size_t offset) {
  const auto* entry =
      std::find_if(std::begin(kElementTypes), std::end(kElementTypes),
                   [&](const ElementType& known) { return known.number == number; });
  if (entry != std::end(kElementTypes) && entry->type) return *entry->type;
  const std::string name = entry != std::end(kElementTypes)
                               ? std::string(entry->name)
                               : "the unknown number " + std::to_string(number);
  cursor.fail(
      FileError::Kind::unsupported,
      what + " has type " + name + ", which Chorus does not read yet; it reads " + readable_types(),
      offset);
}

Description read_description(Cursor& cursor, uint64_t number) {
  Description result;
  result.described_at = cursor.offset();
  result.tensor.name = cursor.name("the name of tensor " + std::to_string(number));
  const std::string what = "tensor " + result.tensor.name;
  const auto dimensions = cursor.read<uint32_t>(what + "'s number of dimensions");
  if (dimensions == 0 || dimensions > kDimensionsMax) {
    cursor.corrupt(what + " has " + std::to_string(dimensions) + " dimensions",
                   result.described_at);
  }
  std::optional<uint64_t> elements = 1;
  for (uint32_t i = 0; i < dimensions; ++i) {
    const auto size = cursor.read<uint64_t>(what + "'s dimensions");
    if (size == 0) cursor.corrupt(what + " has a dimension of 0", result.described_at);
    elements = checked_multiply(*elements, size);
    if (!elements || *elements > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      cursor.corrupt(what + " has more elements than can be counted", result.described_at);
    }
    result.tensor.shape.push_back(static_cast<int64_t>(size));
  }
  std::reverse(result.tensor.shape.begin(), result.tensor.shape.end());
  const auto type_number = cursor.read<uint32_t>(what + "'s type");
  result.tensor.type = element_type(cursor, type_number, what, result.described_at);
  const int64_t block = block_elements(result.tensor.type);
  if (result.tensor.shape.back() % block != 0) {
    cursor.corrupt(what + " has rows of " + std::to_string(result.tensor.shape.back()) +
                       " elements, no multiple of " +
                       std::string(modelfile::name_of(result.tensor.type)) + "'s block of " +
                       std::to_string(block),
                   result.described_at);
  }
  const auto bytes = checked_multiply(*elements / static_cast<uint64_t>(block),
                                      static_cast<uint64_t>(block_bytes(result.tensor.type)));
  if (!bytes) cursor.corrupt(what + " is too large", result.described_at);
  result.data_bytes = *bytes;
  result.data_offset = cursor.read<uint64_t>(what + "'s offset");
  return result;
}

// Gives each tensor its bytes, after its place was held against the file's size.
void place_tensors(const Cursor& cursor, std::span<const std::byte> bytes, uint64_t data_offset,
                   uint64_t alignment, std::vector<Description>& descriptions) {
  for (Description& entry : descriptions) {
    const std::string what = "tensor " + entry.tensor.name;
    if (entry.data_offset % alignment != 0) {
      cursor.corrupt(what + " lies at offset " + std::to_string(entry.data_offset) +
                         ", no multiple of the alignment " + std::to_string(alignment),
                     entry.described_at);
    }
    const auto begin = checked_add(data_offset, entry.data_offset);
    const auto end = begin ? checked_add(*begin, entry.data_bytes) : std::nullopt;
    if (!end || *end > bytes.size()) {
      cursor.corrupt(what + " ends behind the file's end (" + std::to_string(bytes.size()) +
                         " bytes): the file is cut off or damaged",
                     entry.described_at);
    }
    entry.tensor.data =
        bytes.subspan(static_cast<size_t>(*begin), static_cast<size_t>(entry.data_bytes));
  }
  std::vector<const Description*> by_place;
  for (const Description& entry : descriptions) by_place.push_back(&entry);
  std::sort(by_place.begin(), by_place.end(), [](const Description* a, const Description* b) {
    return a->data_offset < b->data_offset;
  });
  for (size_t i = 1; i < by_place.size(); ++i) {
    const Description& before = *by_place[i - 1];
    if (before.data_offset + before.data_bytes > by_place[i]->data_offset) {
      cursor.corrupt(
          "tensors " + before.tensor.name + " and " + by_place[i]->tensor.name + " overlap",
          by_place[i]->described_at);
    }
  }
}

}  // namespace

Gguf::Gguf(std::span<const std::byte> bytes, std::string_view file_name)
    : bytes_(bytes), file_name_(file_name) {
  Cursor cursor(bytes_, file_name_);
  const Header header = read_header(cursor);
  for (uint64_t i = 0; i < header.value_count; ++i) {
    const size_t start = cursor.offset();
    const std::string key = cursor.name("the key of value " + std::to_string(i));
    const GgufValue value = skip_value(cursor, key);
    if (!values_.emplace(key, value).second) cursor.corrupt("key " + key + " comes twice", start);
  }
  const int64_t alignment = find_integer("general.alignment").value_or(32);
  if (alignment <= 0 || static_cast<uint64_t>(alignment) > kAlignmentMax ||
      !std::has_single_bit(static_cast<uint64_t>(alignment))) {
    cursor.corrupt("general.alignment is " + std::to_string(alignment) + ", no power of two",
                   values_.find("general.alignment")->second.offset);
  }
  std::vector<Description> descriptions;
  for (uint64_t i = 0; i < header.tensor_count; ++i) {
    descriptions.push_back(read_description(cursor, i));
  }
  const auto step = static_cast<size_t>(alignment);
  const size_t aligned = (cursor.offset() + step - 1) / step * step;
  place_tensors(cursor, bytes_, aligned, step, descriptions);
  data_offset_ = std::min(aligned, bytes_.size());

  tensors_.reserve(descriptions.size());
  for (Description& entry : descriptions) {
    const Tensor& tensor = tensors_.emplace_back(std::move(entry.tensor));
    if (!tensor_idx_.emplace(tensor.name, tensors_.size() - 1).second) {
      cursor.corrupt("tensor " + tensor.name + " comes twice", entry.described_at);
    }
  }
}

const Tensor* Gguf::find_tensor(std::string_view name) const {
  const auto found = tensor_idx_.find(name);
  return found == tensor_idx_.end() ? nullptr : &tensors_[found->second];
}

void Gguf::drop_tensor_data() {
  for (Tensor& tensor : tensors_) tensor.data = {};
}

const GgufValue* Gguf::find(std::string_view key) const {
  const auto found = values_.find(key);
  return found == values_.end() ? nullptr : &found->second;
}

void Gguf::wrong_type(std::string_view key, const GgufValue& value, std::string_view wanted) const {
  std::string is(name_of(value.type));
  if (value.type == GgufType::array) is += " of " + std::string(name_of(value.element));
  throw FileError(FileError::Kind::corrupt, file_name_ + ", byte " + std::to_string(value.offset) +
                                                ": key " + std::string(key) + " is of type " + is +
                                                ", " + std::string(wanted) + " is expected");
}

namespace {

template <class T>
T load(std::span<const std::byte> bytes, size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

// Nothing where the type is no integer or the value leaves int64.
std::optional<int64_t> load_integer(std::span<const std::byte> bytes, GgufType type,
                                    size_t offset) {
  switch (type) {
    case GgufType::u8:
      return load<uint8_t>(bytes, offset);
    case GgufType::i8:
      return load<int8_t>(bytes, offset);
    case GgufType::u16:
      return load<uint16_t>(bytes, offset);
    case GgufType::i16:
      return load<int16_t>(bytes, offset);
    case GgufType::u32:
      return load<uint32_t>(bytes, offset);
    case GgufType::i32:
      return load<int32_t>(bytes, offset);
    case GgufType::i64:
      return load<int64_t>(bytes, offset);
    case GgufType::u64: {
      const auto value = load<uint64_t>(bytes, offset);
      if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
      return static_cast<int64_t>(value);
    }
    case GgufType::f32:
    case GgufType::f64:
    case GgufType::boolean:
    case GgufType::text:
    case GgufType::array:
      return std::nullopt;
  }
  return std::nullopt;
}

}  // namespace

std::optional<int64_t> Gguf::find_integer(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  const auto result = load_integer(bytes_, value->type, value->offset);
  if (!result) wrong_type(key, *value, "an integer");
  return result;
}

std::optional<double> Gguf::find_number(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (value->type == GgufType::f32) return load<float>(bytes_, value->offset);
  if (value->type == GgufType::f64) return load<double>(bytes_, value->offset);
  const auto integer = load_integer(bytes_, value->type, value->offset);
  if (!integer) wrong_type(key, *value, "a number");
  return static_cast<double>(*integer);
}

std::optional<bool> Gguf::find_flag(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (value->type != GgufType::boolean) wrong_type(key, *value, "a bool");
  return load<uint8_t>(bytes_, value->offset) != 0;
}

std::optional<std::string> Gguf::find_text(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (value->type != GgufType::text) wrong_type(key, *value, "a string");
  const auto length = static_cast<size_t>(load<uint64_t>(bytes_, value->offset));
  const auto* text = reinterpret_cast<const char*>(bytes_.data()) + value->offset + 8;
  return std::string(text, length);
}

std::optional<std::vector<int64_t>> Gguf::find_integers(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  std::vector<int64_t> result;
  size_t offset = value->offset;
  for (uint64_t i = 0; i < value->count; ++i) {
    const auto element = load_integer(bytes_, value->element, offset);
    if (!element) wrong_type(key, *value, "an array of integers");
    result.push_back(*element);
    offset += static_cast<size_t>(bytes_of(value->element));
  }
  return result;
}

std::optional<std::vector<float>> Gguf::find_floats(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (value->element != GgufType::f32) wrong_type(key, *value, "an array of f32");
  std::vector<float> result(static_cast<size_t>(value->count));
  if (!result.empty()) {
    std::memcpy(result.data(), bytes_.data() + value->offset, result.size() * sizeof(float));
  }
  return result;
}

std::optional<std::vector<std::string>> Gguf::find_texts(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (value->element != GgufType::text) wrong_type(key, *value, "an array of strings");
  std::vector<std::string> result;
  size_t offset = value->offset;
  for (uint64_t i = 0; i < value->count; ++i) {  // the lengths were checked at parsing
    const auto length = static_cast<size_t>(load<uint64_t>(bytes_, offset));
    result.emplace_back(reinterpret_cast<const char*>(bytes_.data()) + offset + 8, length);
    offset += 8 + length;
  }
  return result;
}

}  // namespace chorus::modelfile
