// The JSON files of a model folder, read so that every fault names the file and the key. A key is
// a path: "rope_scaling.factor". A null counts as absent, as in Hugging Face's own readers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace chorus::modelfile {

class JsonFile {
 public:
  // Throws FileError: corrupt where the text is no JSON object.
  JsonFile(std::string_view text, std::string file_name);
  // The same, and the object's own keys must differ from each other.
  static JsonFile with_unique_keys(std::string_view text, std::string file_name);
  static JsonFile read(const std::filesystem::path& path);
  // What was made of another kind of file, an object.
  static JsonFile converted(nlohmann::json root, std::string file_name);
  static std::optional<JsonFile> read_if_present(const std::filesystem::path& path);
  JsonFile(JsonFile&&) noexcept;
  JsonFile& operator=(JsonFile&&) noexcept;
  ~JsonFile();

  const std::string& name() const { return name_; }
  const nlohmann::json& root() const { return *root_; }

  const nlohmann::json* find(std::string_view key) const;  // nullptr where absent or null

  // Throw FileError(corrupt) where the value has another type.
  std::optional<int64_t> find_integer(std::string_view key) const;
  std::optional<double> find_number(std::string_view key) const;
  std::optional<bool> find_flag(std::string_view key) const;
  std::optional<std::string> find_text(std::string_view key) const;
  std::vector<std::string> find_texts(std::string_view key) const;  // a list, or one string
  std::vector<int64_t> find_integers(std::string_view key) const;   // a list, or one integer
  std::vector<double> find_numbers(std::string_view key) const;     // a list
  [[noreturn]] void corrupt(std::string_view key, std::string_view problem) const;

 private:
  JsonFile(std::unique_ptr<nlohmann::json> root, std::string file_name);

  std::string name_;
  std::unique_ptr<nlohmann::json> root_;
};

// The characters of a mapped file. Lives as long as the bytes.
std::string_view as_text(std::span<const std::byte> bytes);

bool file_exists(const std::filesystem::path& path);

}  // namespace chorus::modelfile
