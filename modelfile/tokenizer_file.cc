#include "modelfile/tokenizer_file.h"

#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "modelfile/error.h"
#include "modelfile/json_file.h"
#include "modelfile/mapped_file.h"
#include "modelfile/sentencepiece.h"
#include "modelfile/tokenizer_convert.h"
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

std::string without_suffix(std::string text, std::string_view suffix) {
  if (text.ends_with(suffix)) text.resize(text.size() - suffix.size());
  return text;
}

ConversionStyle style_of(const fs::path& folder) {
  ConversionStyle style;
  if (const auto settings = JsonFile::read_if_present(folder / "tokenizer_config.json")) {
    style.tokenizer_class =
        without_suffix(settings->find_text("tokenizer_class").value_or(""), "Fast");
    style.legacy = settings->find_flag("legacy").value_or(false);
    style.add_bos = settings->find_flag("add_bos_token");
    style.add_eos = settings->find_flag("add_eos_token");
  }
  if (const auto config = JsonFile::read_if_present(folder / "config.json")) {
    style.model_type = config->find_text(place_of(*config, "model_type")).value_or("");
  }
  return style;
}

// A SentencePiece model begins with its first piece; tiktoken's file is lines of text.
JsonFile read_model_file(const fs::path& path, const ConversionStyle& style) {
  const MappedFile file(path);
  const std::string_view bytes = as_text(file.bytes());
  const std::string name = path.string();
  if (!bytes.starts_with('\n')) {
    return JsonFile::converted(convert_tiktoken(bytes, name, style), name);
  }
  return JsonFile::converted(convert_sentencepiece(read_sentencepiece(bytes, name), name, style),
                             name);
}

// tokenizer.json, or what stands in its place.
JsonFile tokenizer_of(const fs::path& folder) {
  const fs::path standard = folder / "tokenizer.json";
  if (file_exists(standard)) return JsonFile::read(standard);
  const ConversionStyle style = style_of(folder);
  for (const char* name :
       {"tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "tiktoken.model"}) {
    if (file_exists(folder / name)) return read_model_file(folder / name, style);
  }
  if (const fs::path path = folder / "tekken.json"; file_exists(path)) {
    return JsonFile::converted(convert_tekken(JsonFile::read(path).root(), path.string()),
                               path.string());
  }
  const fs::path merges = folder / "merges.txt";
  if (file_exists(folder / "vocab.json") && file_exists(merges)) {
    const MappedFile text(merges);
    return JsonFile::converted(convert_vocab_merges(JsonFile::read(folder / "vocab.json").root(),
                                                    as_text(text.bytes()), merges.string(), style),
                               merges.string());
  }
  throw FileError(FileError::Kind::missing,
                  folder.string() +
                      ": holds no tokenizer: neither tokenizer.json nor "
                      "tokenizer.model, spiece.model, sentencepiece.bpe.model, "
                      "tiktoken.model, tekken.json, or vocab.json with merges.txt");
}

}  // namespace

TokenizerSpec read_folder_tokenizer(const fs::path& folder) {
  TokenizerSources sources{.tokenizer = tokenizer_of(folder),
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
  if (path.extension() != ".json") {
    return read_tokenizer({.tokenizer = read_model_file(path, {}), .settings = std::nullopt});
  }
  JsonFile file = JsonFile::read(path);
  if (file.find("model") == nullptr && file.find("config.pattern") != nullptr) {
    file = JsonFile::converted(convert_tekken(file.root(), path.string()), path.string());
  }
  return read_tokenizer({.tokenizer = std::move(file), .settings = std::nullopt});
}

}  // namespace chorus::modelfile
