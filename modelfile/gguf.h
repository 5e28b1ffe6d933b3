// The GGUF container, versions 2 and 3: a header, typed metadata, tensor descriptions, and the
// tensors' bytes behind them. Parsing walks the metadata once, checks every count, length, offset
// and product against the file's size before using it, and keeps places instead of values: a
// tokenizer's arrays of 150,000 strings are copied only when somebody asks for them.
//
// GGUF writes dimensions innermost first; Tensor.shape has them outermost first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "modelfile/tensor.h"

namespace chorus::modelfile {

// Numbered as in the file.
enum class GgufType : uint32_t {
  u8,
  i8,
  u16,
  i16,
  u32,
  i32,
  f32,
  boolean,
  text,
  array,
  u64,
  i64,
  f64
};

struct GgufValue {
  GgufType type;
  GgufType element;  // of an array; otherwise the type
  uint64_t count;    // of an array's elements; otherwise 1
  size_t offset;     // of the first element, from the file's start
};

class Gguf {
 public:
  // The bytes must outlive this object and its tensors. `file_name` stands in front of each error.
  // Throws FileError: corrupt, or unsupported where version or tensor types are not read.
  Gguf(std::span<const std::byte> bytes, std::string_view file_name);
  Gguf(Gguf&&) = default;

  const std::string& file_name() const { return file_name_; }
  const std::map<std::string, GgufValue, std::less<>>& values() const { return values_; }

  // Look-ups by the whole key. All throw FileError(corrupt) where the value has another type; the
  // plural ones read arrays, and take one value for an array of one.
  std::optional<int64_t> find_integer(std::string_view key) const;
  std::optional<double> find_number(std::string_view key) const;  // an integer is a number, too
  std::optional<bool> find_flag(std::string_view key) const;
  std::optional<std::string> find_text(std::string_view key) const;
  std::optional<std::vector<int64_t>> find_integers(std::string_view key) const;
  std::optional<std::vector<float>> find_floats(std::string_view key) const;  // f32 only
  std::optional<std::vector<std::string>> find_texts(std::string_view key) const;

  const std::vector<Tensor>& tensors() const { return tensors_; }
  const Tensor* find_tensor(std::string_view name) const;

  // Where the tensors' bytes begin: at most the file's size.
  size_t data_offset() const { return data_offset_; }
  // Leaves the tensors without bytes; nothing behind data_offset() is looked at afterwards.
  void drop_tensor_data();

 private:
  const GgufValue* find(std::string_view key) const;
  [[noreturn]] void wrong_type(std::string_view key, const GgufValue& value,
                               std::string_view wanted) const;

  std::span<const std::byte> bytes_;
  std::string file_name_;
  std::map<std::string, GgufValue, std::less<>> values_;
  std::vector<Tensor> tensors_;
  std::unordered_map<std::string_view, size_t> tensor_idx_;  // the keys point into tensors_
  size_t data_offset_ = 0;
};

// For those who hold the bytes already (tests, fuzzing).
inline Gguf parse_gguf(std::span<const std::byte> bytes, std::string_view file_name) {
  return Gguf(bytes, file_name);
}

}  // namespace chorus::modelfile
