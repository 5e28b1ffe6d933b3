#include "modelfile/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>

#include "modelfile/checked_math.h"
#include "modelfile/error.h"
#include "modelfile/json_file.h"

namespace chorus::modelfile {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

static_assert(std::endian::native == std::endian::little, "read as it lies in memory");

constexpr uint64_t kHeaderBytesMax = 100'000'000;  // the format's own limit
constexpr size_t kDimensionsMax = 8;
constexpr std::string_view kIndexFile = "model.safetensors.index.json";
constexpr std::string_view kSingleFile = "model.safetensors";

[[noreturn]] void corrupt(std::string_view file, const std::string& message) {
  throw FileError(FileError::Kind::corrupt, std::string(file) + ": " + message);
}

std::optional<TensorType> type_named(std::string_view name) {
  if (name == "F32") return TensorType::f32;
  if (name == "F16") return TensorType::f16;
  if (name == "BF16") return TensorType::bf16;
  if (name == "F8_E4M3") return TensorType::f8_e4m3;
  if (name == "I8") return TensorType::i8;
  if (name == "I32") return TensorType::i32;
  if (name == "I64") return TensorType::i64;
  return std::nullopt;
}

// A tensor and its place behind the header.
struct Entry {
  Tensor tensor;
  uint64_t begin;
  uint64_t end;
};

// A list of numbers that are not negative and fit int64.
std::vector<uint64_t> sizes_of(const json& description, const char* key, std::string_view file,
                               const std::string& what) {
  const auto list = description.find(key);
  if (list == description.end() || !list->is_array()) {
    corrupt(file, what + " has no list " + key);
  }
  std::vector<uint64_t> sizes;
  for (const json& element : *list) {
    if (!element.is_number_unsigned() ||
        element.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      corrupt(file, what + ": " + key + " holds something that is no size");
    }
    sizes.push_back(element.get<uint64_t>());
  }
  return sizes;
}

Entry read_entry(const std::string& name, const json& description, std::string_view file) {
  const std::string what = "tensor " + name;
  if (!description.is_object()) corrupt(file, what + " is not described by an object");
  const auto type_name = description.find("dtype");
  if (type_name == description.end() || !type_name->is_string()) {
    corrupt(file, what + " has no dtype");
  }
  const auto type = type_named(type_name->get_ref<const std::string&>());
  if (!type) {
    throw FileError(
        FileError::Kind::unsupported,
        std::string(file) + ": " + what + " has type " + type_name->get<std::string>() +
            ", which Chorus does not read yet; it reads F32, F16, BF16, F8_E4M3, I8, I32, I64");
  }
  const std::vector<uint64_t> shape = sizes_of(description, "shape", file, what);
  if (shape.size() > kDimensionsMax) corrupt(file, what + " has too many dimensions");
  const std::vector<uint64_t> place = sizes_of(description, "data_offsets", file, what);
  if (place.size() != 2 || place[0] > place[1]) {
    corrupt(file, what + ": data_offsets is not a pair of begin and end");
  }
  Entry entry{{name, *type, {}, {}}, place[0], place[1]};
  std::optional<uint64_t> bytes = static_cast<uint64_t>(block_bytes(*type));
  for (const uint64_t size : shape) {
    bytes = checked_multiply(*bytes, size);
    if (!bytes) corrupt(file, what + " is too large");
    entry.tensor.shape.push_back(static_cast<int64_t>(size));
  }
  if (*bytes != entry.end - entry.begin) {
    corrupt(file, what + " needs " + std::to_string(*bytes) +
                      " bytes by its shape, its place has " +
                      std::to_string(entry.end - entry.begin));
  }
  return entry;
}

std::string_view header_of(std::span<const std::byte> bytes, std::string_view file) {
  uint64_t length = 0;
  if (bytes.size() < sizeof(length)) corrupt(file, "too short to be a safetensors file");
  std::memcpy(&length, bytes.data(), sizeof(length));
  if (length > bytes.size() - sizeof(length)) {
    corrupt(file, "the header claims " + std::to_string(length) + " bytes, the file has " +
                      std::to_string(bytes.size() - sizeof(length)) + " behind its length");
  }
  if (length > kHeaderBytesMax) corrupt(file, "the header is longer than the format allows");
  return as_text(bytes.subspan(sizeof(length), static_cast<size_t>(length)));
}

// The files of an index are looked for beside it, so a name must not lead elsewhere.
bool is_plain_name(std::string_view name) {
  return !name.empty() && name != "." && name.find("..") == std::string_view::npos &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string_view::npos;
}

// What to say about a folder without safetensors.
[[noreturn]] void no_weights(const fs::path& folder) {
  std::string message = folder.string() + ": the folder holds config.json, but neither " +
                        std::string(kSingleFile) + " nor " + std::string(kIndexFile);
  if (file_exists(folder / "pytorch_model.bin") ||
      file_exists(folder / "pytorch_model.bin.index.json")) {
    message += "; pytorch_model.bin is not read, convert it to safetensors";
  }
  throw FileError(FileError::Kind::missing, message);
}

}  // namespace

std::vector<Tensor> parse_safetensors(std::span<const std::byte> bytes,
                                      std::string_view file_name) {
  const std::string_view text = header_of(bytes, file_name);
  const JsonFile header = JsonFile::with_unique_keys(text, std::string(file_name));
  std::vector<Entry> entries;
  for (const auto& [name, description] : header.root().items()) {
    if (name == "__metadata__") {
      if (!description.is_object()) corrupt(file_name, "__metadata__ is not an object");
      continue;
    }
    entries.push_back(read_entry(name, description, file_name));
  }
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  const std::span<const std::byte> body = bytes.subspan(sizeof(uint64_t) + text.size());
  std::vector<Tensor> tensors;
  uint64_t expected = 0;
  for (Entry& entry : entries) {
    if (entry.begin != expected) {
      corrupt(file_name, "tensor " + entry.tensor.name + " begins at " +
                             std::to_string(entry.begin) + " where the one before it ends at " +
                             std::to_string(expected) + ": tensors overlap or leave a gap");
    }
    if (entry.end > body.size()) {
      corrupt(file_name, "tensor " + entry.tensor.name +
                             " ends behind the file's end: the file is cut off or damaged");
    }
    expected = entry.end;
    entry.tensor.data = body.subspan(static_cast<size_t>(entry.begin),
                                     static_cast<size_t>(entry.end - entry.begin));
    tensors.push_back(std::move(entry.tensor));
  }
  if (expected != body.size()) {
    corrupt(file_name, std::to_string(body.size() - expected) + " bytes belong to no tensor");
  }
  return tensors;
}

std::map<std::string, std::string> parse_safetensors_index(std::string_view text,
                                                           std::string_view file_name) {
  const JsonFile index(text, std::string(file_name));
  const auto weights = index.root().find("weight_map");
  if (weights == index.root().end() || !weights->is_object() || weights->empty()) {
    corrupt(file_name, "key weight_map is missing or no object");
  }
  std::map<std::string, std::string> files;
  for (const auto& [tensor, file] : weights->items()) {
    if (!file.is_string()) corrupt(file_name, "tensor " + tensor + " names no file");
    if (!is_plain_name(file.get_ref<const std::string&>())) {
      corrupt(file_name, "tensor " + tensor +
                             " lies in what is not the plain name of a file beside the index: " +
                             file.get<std::string>());
    }
    files.emplace(tensor, file.get<std::string>());
  }
  return files;
}

Safetensors::Safetensors(const fs::path& folder, bool read_tensors) {
  if (file_exists(folder / kSingleFile)) {
    add_file(folder / kSingleFile, read_tensors, [](const Tensor&) { return true; });
    number_tensors();
  } else if (file_exists(folder / kIndexFile)) {
    add_files_of_index(folder, read_tensors);
  } else {
    no_weights(folder);
  }
}

void Safetensors::add_files_of_index(const fs::path& folder, bool read_tensors) {
  const fs::path path = folder / kIndexFile;
  const MappedFile file(path);
  const auto index = parse_safetensors_index(as_text(file.bytes()), path.string());
  std::set<std::string> names;
  for (const auto& [tensor, name] : index) names.insert(name);
  for (const std::string& name : names) {
    add_file(folder / name, read_tensors, [&](const Tensor& tensor) {
      const auto found = index.find(tensor.name);
      return found != index.end() && found->second == name;
    });
  }
  number_tensors();
  for (const auto& [tensor, name] : index) {
    if (find(tensor) != nullptr) continue;
    corrupt((folder / name).string(),
            "tensor " + tensor + ", which " + std::string(kIndexFile) + " puts here, is missing");
  }
}

void Safetensors::number_tensors() {
  for (size_t i = 0; i < tensors_.size(); ++i) tensor_idx_.emplace(tensors_[i].name, i);
}

template <class Predicate>
void Safetensors::add_file(const fs::path& path, bool read_tensors, const Predicate& wanted) {
  MappedFile file(path);
  std::vector<Tensor> tensors = parse_safetensors(file.bytes(), path.string());
  for (Tensor& tensor : tensors) {
    if (!wanted(tensor)) continue;
    if (!read_tensors) tensor.data = {};
    tensors_.push_back(std::move(tensor));
  }
  if (read_tensors) files_.push_back(std::move(file));
}

const Tensor* Safetensors::find(std::string_view name) const {
  const auto found = tensor_idx_.find(name);
  return found == tensor_idx_.end() ? nullptr : &tensors_[found->second];
}

}  // namespace chorus::modelfile
