// Decides what a path is, and opens it.
#include "modelfile/model.h"

#include <algorithm>
#include <system_error>

#include "modelfile/error.h"
#include "modelfile/folder_model.h"
#include "modelfile/gguf_model.h"
#include "modelfile/json_file.h"

namespace chorus::modelfile {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kAccepted =
    "a .gguf file, a folder that holds one .gguf file, or a Hugging Face folder with config.json "
    "and model.safetensors";

std::vector<fs::path> gguf_files_in(const fs::path& folder) {
  std::vector<fs::path> files;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    if (entry->path().extension() == ".gguf") files.push_back(entry->path());
  }
  if (error) {
    throw FileError(FileError::Kind::missing,
                    folder.string() + ": cannot be listed: " + error.message());
  }
  std::sort(files.begin(), files.end());
  return files;
}

std::unique_ptr<Model> open_folder(const fs::path& folder, bool read_tensors) {
  const std::vector<fs::path> files = gguf_files_in(folder);
  // Folders of GGUF files often carry a config.json for show; without safetensors it means little.
  const bool has_safetensors = file_exists(folder / "model.safetensors") ||
                               file_exists(folder / "model.safetensors.index.json");
  if (file_exists(folder / "config.json") && (has_safetensors || files.empty())) {
    return open_folder_model(folder, read_tensors);
  }
  if (files.size() == 1) return open_gguf_model(files[0], read_tensors);
  if (files.empty()) {
    throw FileError(FileError::Kind::missing,
                    folder.string() +
                        ": the folder holds neither config.json nor a .gguf file; a model is " +
                        std::string(kAccepted));
  }
  throw FileError(FileError::Kind::unsupported,
                  folder.string() + ": the folder holds " + std::to_string(files.size()) +
                      " .gguf files; name one of them, for example " + files[0].string());
}

}  // namespace

const Tensor& Model::tensor(std::string_view name) const {
  if (const Tensor* found = find(name)) return *found;
  throw FileError(FileError::Kind::corrupt,
                  path().string() + ": tensor " + std::string(name) + " is missing");
}

std::unique_ptr<Model> open_model(const fs::path& path, bool read_tensors) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (status.type() == fs::file_type::directory) return open_folder(path, read_tensors);
  if (status.type() == fs::file_type::regular) {
    if (path.extension() == ".safetensors" || path.filename() == "config.json") {
      throw FileError(FileError::Kind::unsupported,
                      path.string() + ": a file of a Hugging Face folder; name the folder instead");
    }
    return open_gguf_model(path, read_tensors);
  }
  if (status.type() == fs::file_type::not_found || status.type() == fs::file_type::none) {
    const std::string reason = error ? error.message() : "no such file or folder";
    throw FileError(FileError::Kind::missing,
                    path.string() + ": " + reason + "; a model is " + std::string(kAccepted));
  }
  throw FileError(
      FileError::Kind::unsupported,
      path.string() + ": neither a file nor a folder; a model is " + std::string(kAccepted));
}

}  // namespace chorus::modelfile
