// Hugging Face's weights: one model.safetensors, or several files that
// model.safetensors.index.json names. A file is the length of a JSON header, the header, and the
// tensors' bytes without gap or overlap; all of that is checked before a tensor gets its bytes.
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "modelfile/mapped_file.h"
#include "modelfile/tensor.h"

namespace chorus::modelfile {

// The tensors of one file, in the order of their places. The bytes must outlive them. Throws
// FileError: corrupt, or unsupported where an element type is not read.
std::vector<Tensor> parse_safetensors(std::span<const std::byte> bytes, std::string_view file_name);

// model.safetensors.index.json: the name of each tensor and of the file that holds it, which is
// always a plain name, never a path.
std::map<std::string, std::string> parse_safetensors_index(std::string_view text,
                                                           std::string_view file_name);

// All tensors of a folder.
class Safetensors {
 public:
  // `read_tensors = false` checks the headers and leaves the tensors without bytes.
  Safetensors(const std::filesystem::path& folder, bool read_tensors);

  const std::vector<Tensor>& tensors() const { return tensors_; }
  const Tensor* find(std::string_view name) const;

 private:
  void add_files_of_index(const std::filesystem::path& folder, bool read_tensors);
  void number_tensors();
  // Opens a file and keeps those of its tensors for which `wanted` holds.
  template <class Predicate>
  void add_file(const std::filesystem::path& path, bool read_tensors, const Predicate& wanted);

  std::vector<MappedFile> files_;
  std::vector<Tensor> tensors_;
  std::unordered_map<std::string_view, size_t> tensor_idx_;  // the keys point into tensors_
};

}  // namespace chorus::modelfile
