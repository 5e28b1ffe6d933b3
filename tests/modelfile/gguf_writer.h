// Writes small GGUF files for tests, right or wrong on purpose. Knows nothing of the reader: the
// numbers below are the format's.
#pragma once

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace chorus::test {

inline std::span<const std::byte> as_bytes(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

inline void save(const std::filesystem::path& path, std::string_view content) {
  std::ofstream file(path, std::ios::binary);
  file.write(content.data(), static_cast<std::streamsize>(content.size()));
  file.close();
  assert(file.good());
}

template <class T>
std::string little_endian(T value) {
  std::string bytes(sizeof(T), '\0');
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

class GgufWriter {
 public:
  // Element types by ggml's numbers.
  static constexpr uint32_t kF32 = 0, kF16 = 1, kQ4_1 = 3, kQ5_0 = 6, kQ8_0 = 8, kQ2_K = 10,
                            kQ4_K = 12, kQ6_K = 14, kBF16 = 30;

  GgufWriter& u8(const std::string& key, uint8_t value) { return scalar(key, 0, value); }
  GgufWriter& i8(const std::string& key, int8_t value) { return scalar(key, 1, value); }
  GgufWriter& u16(const std::string& key, uint16_t value) { return scalar(key, 2, value); }
  GgufWriter& i16(const std::string& key, int16_t value) { return scalar(key, 3, value); }
  GgufWriter& u32(const std::string& key, uint32_t value) { return scalar(key, 4, value); }
  GgufWriter& i32(const std::string& key, int32_t value) { return scalar(key, 5, value); }
  GgufWriter& f32(const std::string& key, float value) { return scalar(key, 6, value); }
  GgufWriter& flag(const std::string& key, bool value) {
    return scalar(key, 7, static_cast<uint8_t>(value));
  }
  GgufWriter& text(const std::string& key, const std::string& value) {
    return raw(key, 8, prefixed(value));
  }
  GgufWriter& u64(const std::string& key, uint64_t value) { return scalar(key, 10, value); }
  GgufWriter& i64(const std::string& key, int64_t value) { return scalar(key, 11, value); }
  GgufWriter& f64(const std::string& key, double value) { return scalar(key, 12, value); }

  GgufWriter& floats(const std::string& key, const std::vector<float>& values) {
    std::string body;
    for (const float value : values) body += little_endian(value);
    return array(key, 6, values.size(), body);
  }
  GgufWriter& integers(const std::string& key, const std::vector<int32_t>& values) {
    std::string body;
    for (const int32_t value : values) body += little_endian(value);
    return array(key, 5, values.size(), body);
  }
  GgufWriter& texts(const std::string& key, const std::vector<std::string>& values) {
    std::string body;
    for (const std::string& value : values) body += prefixed(value);
    return array(key, 8, values.size(), body);
  }
  // An array whose head may lie about its body.
  GgufWriter& array(const std::string& key, uint32_t type, uint64_t count,
                    const std::string& body) {
    return raw(key, 9, little_endian(type) + little_endian(count) + body);
  }
  GgufWriter& raw(const std::string& key, uint32_t type, const std::string& body) {
    values_ += prefixed(key) + little_endian(type) + body;
    ++value_count_;
    return *this;
  }

  // `shape` is outermost first, as everywhere in Chorus. The data follows that of the tensor
  // before at the next multiple of the alignment.
  GgufWriter& tensor(const std::string& name, uint32_t type, const std::vector<uint64_t>& shape,
                     const std::string& data) {
    tensors_data_.resize((tensors_data_.size() + alignment_ - 1) / alignment_ * alignment_, '\0');
    describe(name, type, shape, tensors_data_.size());
    tensors_data_ += data;
    return *this;
  }
  // A description alone: type, shape and offset may lie.
  GgufWriter& describe(const std::string& name, uint32_t type, const std::vector<uint64_t>& shape,
                       uint64_t offset) {
    descriptions_ += prefixed(name) + little_endian(static_cast<uint32_t>(shape.size()));
    for (size_t i = shape.size(); i > 0; --i) descriptions_ += little_endian(shape[i - 1]);
    descriptions_ += little_endian(type) + little_endian(offset);
    ++tensor_count_;
    return *this;
  }

  // Writes general.alignment, too; call it before tensor().
  GgufWriter& align(uint32_t alignment) {
    alignment_ = alignment;
    return u32("general.alignment", alignment);
  }
  GgufWriter& version(uint32_t version) {
    version_ = version;
    return *this;
  }
  GgufWriter& claim_counts(uint64_t tensors, uint64_t values) {
    tensor_count_ = tensors;
    value_count_ = values;
    return *this;
  }

  // The file; its last byte is the last tensor's last.
  std::string bytes() const {
    std::string file = "GGUF" + little_endian(version_) + little_endian(tensor_count_) +
                       little_endian(value_count_) + values_ + descriptions_;
    if (tensors_data_.empty()) return file;
    file.resize((file.size() + alignment_ - 1) / alignment_ * alignment_, '\0');
    return file + tensors_data_;
  }

 private:
  static std::string prefixed(const std::string& text) {
    return little_endian(static_cast<uint64_t>(text.size())) + text;
  }
  template <class T>
  GgufWriter& scalar(const std::string& key, uint32_t type, T value) {
    return raw(key, type, little_endian(value));
  }

  uint32_t version_ = 3;
  uint64_t tensor_count_ = 0, value_count_ = 0;
  size_t alignment_ = 32;
  std::string values_, descriptions_, tensors_data_;
};

// A small and valid model file: llama's keys, a vocabulary, tensors of three types.
inline GgufWriter small_gguf() {
  GgufWriter writer;
  writer.text("general.architecture", "llama")
      .text("general.name", "Small")
      .u32("llama.block_count", 2)
      .f32("llama.attention.layer_norm_rms_epsilon", 1e-5f)
      .text("tokenizer.ggml.model", "gpt2")
      .text("tokenizer.ggml.pre", "smollm")
      .texts("tokenizer.ggml.tokens", {"a", "b", "ab", "<|im_end|>"})
      .integers("tokenizer.ggml.token_type", {1, 1, 1, 3})
      .texts("tokenizer.ggml.merges", {"a b"})
      .u32("tokenizer.ggml.eos_token_id", 3)
      .flag("tokenizer.ggml.add_bos_token", false)
      .text("tokenizer.chat_template", "{{ messages }}")
      .tensor("token_embd.weight", GgufWriter::kQ8_0, {4, 32}, std::string(4 * 34, '\1'))
      .tensor("output_norm.weight", GgufWriter::kF32, {5}, std::string(20, '\2'))
      .tensor("blk.0.attn_q.weight", GgufWriter::kF16, {2, 3}, std::string(12, '\3'));
  return writer;
}

}  // namespace chorus::test
