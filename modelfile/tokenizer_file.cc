#include "modelfile/tokenizer_file.h"

#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "modelfile/json_file.h"
#include "modelfile/tokenizer_json.h"

namespace chorus::modelfile {
namespace fs = std::filesystem;
namespace {

// A multimodal model keeps the numbers of its text part in an object of their own.
std::string place_of(const JsonFile& file, const std::string& key) {
  const std::string nested = "text_config." + key;
  return file.find(key) == nullptr && file.find(nested) != nullptr ? nested : key;
}

void add_ids(const JsonFile& file, const std::string& key, std::vector<int32_t>& ids) {
  const std::string place = place_of(file, key);
  for (const int64_t id : file.find_integers(place)) {
    if (id < 0 || id > std::numeric_limits<int32_t>::max()) {
      file.corrupt(place, "is no token id: " + std::to_string(id));
    }
    ids.push_back(static_cast<int32_t>(id));
  }
}

}  // namespace

TokenizerSpec read_folder_tokenizer(const fs::path& folder) {
  TokenizerSources sources{.tokenizer = JsonFile::read(folder / "tokenizer.json"),
                           .settings = JsonFile::read_if_present(folder / "tokenizer_config.json")};
  if (const auto config = JsonFile::read_if_present(folder / "config.json")) {
    add_ids(*config, "bos_token_id", sources.bos);
    add_ids(*config, "eos_token_id", sources.eos);
    sources.model_vocabulary = config->find_integer(place_of(*config, "vocab_size"));
  }
  if (const auto generation = JsonFile::read_if_present(folder / "generation_config.json")) {
    add_ids(*generation, "eos_token_id", sources.eos);
  }
  return read_tokenizer(sources);
}

TokenizerSpec read_tokenizer_file(const fs::path& path) {
  return read_tokenizer({.tokenizer = JsonFile::read(path), .settings = std::nullopt});
}

}  // namespace chorus::modelfile
