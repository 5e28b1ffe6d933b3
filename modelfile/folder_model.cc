#include "modelfile/folder_model.h"

#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "modelfile/error.h"
#include "modelfile/json_file.h"
#include "modelfile/mapped_file.h"
#include "modelfile/safetensors.h"
#include "modelfile/tokenizer_file.h"

namespace chorus::modelfile {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

class FolderConfig final : public Config {
 public:
  explicit FolderConfig(const fs::path& path) : file_(JsonFile::read(path)) {
    const std::vector<std::string> names = file_.find_texts("architectures");
    if (names.empty()) file_.corrupt("architectures", "is missing");
    architecture_ = names.front();
  }

  const JsonFile& file() const { return file_; }
  // A multimodal model keeps the numbers of its text part in an object of their own.
  std::string place_of(std::string_view key) const {
    std::string nested = "text_config." + std::string(key);
    if (file_.find(key) == nullptr && file_.find(nested) != nullptr) return nested;
    return std::string(key);
  }

  Format format() const override { return Format::safetensors; }
  std::string architecture() const override { return architecture_; }
  std::string source() const override { return file_.name(); }

  std::optional<int64_t> find_integer(std::string_view hf, std::string_view) const override {
    return file_.find_integer(place_of(hf));
  }
  std::optional<double> find_number(std::string_view hf, std::string_view) const override {
    return file_.find_number(place_of(hf));
  }
  // Some checkpoints have a number where others have a flag; what reads them takes either.
  std::optional<bool> find_flag(std::string_view hf, std::string_view) const override {
    const json* value = file_.find(place_of(hf));
    if (value != nullptr && value->is_number_integer()) return *value != 0;
    return file_.find_flag(place_of(hf));
  }
  std::optional<std::string> find_text(std::string_view hf, std::string_view) const override {
    return file_.find_text(place_of(hf));
  }
  std::vector<std::string> find_texts(std::string_view hf, std::string_view) const override {
    return file_.find_texts(place_of(hf));
  }
  std::vector<double> find_numbers(std::string_view hf, std::string_view) const override {
    return file_.find_numbers(place_of(hf));
  }

 private:
  JsonFile file_;
  std::string architecture_;
};

std::vector<int32_t> token_ids(const JsonFile& file, std::string_view key) {
  std::vector<int32_t> ids;
  for (const int64_t id : file.find_integers(key)) {
    if (id < 0 || id > std::numeric_limits<int32_t>::max()) {
      file.corrupt(key, "is no token id: " + std::to_string(id));
    }
    ids.push_back(static_cast<int32_t>(id));
  }
  return ids;
}

class FolderModel final : public Model {
 public:
  FolderModel(const fs::path& folder, bool read_tensors)
      : folder_(folder), config_(folder / "config.json"), weights_(folder, read_tensors) {}

  const Config& config() const override { return config_; }
  const std::vector<Tensor>& tensors() const override { return weights_.tensors(); }
  const Tensor* find(std::string_view name) const override { return weights_.find(name); }

  TokenizerSpec tokenizer() const override { return read_folder_tokenizer(folder_); }

  ChatTemplates chat_templates() const override { return folder_chat_templates(folder_); }

  GenerationDefaults generation_defaults() const override {
    const auto file = JsonFile::read_if_present(folder_ / "generation_config.json");
    if (!file) return {};
    return {.temperature = file->find_number("temperature"),
            .top_p = file->find_number("top_p"),
            .top_k = file->find_integer("top_k"),
            .do_sample = file->find_flag("do_sample"),
            .eos = token_ids(*file, "eos_token_id")};
  }

  std::string name() const override {
    fs::path folder = fs::absolute(folder_).lexically_normal();
    if (!folder.has_filename()) folder = folder.parent_path();  // "model/"
    return folder.filename().string();
  }
  fs::path path() const override { return folder_; }

 private:
  fs::path folder_;
  FolderConfig config_;
  Safetensors weights_;
};

}  // namespace

std::unique_ptr<Model> open_folder_model(const fs::path& folder, bool read_tensors) {
  return std::make_unique<FolderModel>(folder, read_tensors);
}

}  // namespace chorus::modelfile
