#include "launcher/hub/file_choice.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <set>

#include "launcher/hub/hub_name.h"
#include "process/exit_codes.h"

namespace chorus::launcher {
namespace {

using process::ExitCode;
using process::StartError;

constexpr std::string_view kSingle = "model.safetensors";
constexpr std::string_view kIndex = "model.safetensors.index.json";
constexpr std::string_view kConfig = "config.json";
// What Chorus or a tool beside it reads from a model's folder.
constexpr std::array<std::string_view, 16> kTexts = {kConfig,
                                                     "generation_config.json",
                                                     "tokenizer.json",
                                                     "tokenizer_config.json",
                                                     "tokenizer.model",
                                                     "special_tokens_map.json",
                                                     "added_tokens.json",
                                                     "chat_template.jinja",
                                                     "chat_template.json",
                                                     "processor_config.json",
                                                     "preprocessor_config.json",
                                                     "vocab.json",
                                                     "vocab.txt",
                                                     "merges.txt",
                                                     "spiece.model",
                                                     "sentencepiece.bpe.model"};
constexpr std::string_view kMoreTemplates = "additional_chat_templates/";

// Words of file names that stand for a quantisation, by how they begin; a digit follows.
constexpr std::array<std::string_view, 7> kQuantisations = {"IQ", "TQ", "Q",   "BF",
                                                            "FP", "F",  "MXFP"};

std::string upper(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c;
  return out;
}

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

bool is_quantisation(std::string_view word) {
  return std::any_of(kQuantisations.begin(), kQuantisations.end(), [&](std::string_view begin) {
    return word.starts_with(begin) && word.size() > begin.size() && is_digit(word[begin.size()]);
  });
}

bool contains(const std::vector<std::string>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

std::string base_name(std::string_view path) {
  const size_t slash = path.rfind('/');
  return std::string(slash == std::string_view::npos ? path : path.substr(slash + 1));
}

// "-00001-of-00003" before ".gguf".
bool is_part_of_several(std::string_view name) {
  constexpr std::string_view kForm = "-NNNNN-of-NNNNN.gguf";
  if (name.size() < kForm.size()) return false;
  const std::string_view end = name.substr(name.size() - kForm.size());
  return std::equal(kForm.begin(), kForm.end(), end.begin(),
                    [](char form, char c) { return form == 'N' ? is_digit(c) : form == c; });
}

// Files in the same format that hold no language model: vision projectors, importance matrices.
bool is_language_model(std::string_view name) {
  const std::string file = upper(base_name(name));
  return file.find("MMPROJ") == std::string::npos && file.find("IMATRIX") == std::string::npos;
}

std::string list(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

[[noreturn]] void refuse(ExitCode code, const std::string& message) {
  throw StartError(code, message);
}

std::vector<std::string> gguf_files(const std::vector<std::string>& names) {
  std::vector<std::string> found;
  for (const std::string& name : names) {
    if (name.ends_with(".gguf") && is_language_model(name)) found.push_back(name);
  }
  std::sort(found.begin(), found.end());
  return found;
}

// How a person may ask for these files: their quantisations where each has its own.
std::string ways_to_ask(const std::string& id, const std::vector<std::string>& files) {
  std::set<std::string> quantisations;
  std::vector<std::string> ways;
  for (const std::string& file : files) {
    const std::string quantisation = quantisation_of(file);
    if (quantisation.empty() || !quantisations.insert(quantisation).second) return list(files);
    ways.push_back(fmt::format("{}:{}", id, quantisation));
  }
  return list(ways);
}

std::vector<std::string> matching(const std::vector<std::string>& files,
                                  const std::string& choice) {
  if (choice.empty()) return files;
  if (contains(files, choice)) return {choice};
  std::vector<std::string> found;
  for (const std::string& file : files) {
    if (quantisation_of(file) == upper(choice) || base_name(file) == choice) found.push_back(file);
  }
  return found;
}

FileChoice choose_gguf(const std::string& id, const std::vector<std::string>& names,
                       const std::string& choice) {
  const std::vector<std::string> files = gguf_files(names);
  if (files.empty()) {
    refuse(ExitCode::model_corrupt,
           fmt::format("{}: '{}' asks for a GGUF file, and the repository has none", id, choice));
  }
  const std::vector<std::string> found = matching(files, choice);
  if (found.empty()) {
    refuse(ExitCode::usage, fmt::format("{}: no GGUF file is '{}'; there are: {}", id, choice,
                                        ways_to_ask(id, files)));
  }
  if (std::all_of(found.begin(), found.end(), is_part_of_several)) {
    refuse(ExitCode::model_corrupt,
           fmt::format("{}: {} is one of several parts of a model, which Chorus does not read yet; "
                       "ask for a quantisation in one file, or join the parts",
                       id, found.front()));
  }
  if (found.size() > 1) {
    refuse(ExitCode::usage,
           fmt::format("{} has {} GGUF files{}; ask for one of: {}", id, found.size(),
                       choice.empty() ? "" : fmt::format(" that are '{}'", choice),
                       choice.empty() ? ways_to_ask(id, found) : list(found)));
  }
  return {.texts = {}, .weights = {}, .index = {}, .gguf = found.front()};
}

[[noreturn]] void refuse_repository(const std::string& id, const std::vector<std::string>& names) {
  if (contains(names, "adapter_config.json")) {
    refuse(ExitCode::model_corrupt,
           fmt::format("{} is an adapter, not a model: Chorus does not apply adapters yet", id));
  }
  const auto pickled = std::find_if(names.begin(), names.end(), [](const std::string& name) {
    return name.ends_with(".bin") || name.ends_with(".pt") || name.ends_with(".pth");
  });
  if (pickled != names.end()) {
    refuse(ExitCode::model_corrupt,
           fmt::format("{} has its weights only as {}, a format that can run code and is not read; "
                       "use a repository with safetensors or GGUF",
                       id, *pickled));
  }
  refuse(ExitCode::model_corrupt,
         fmt::format("{} has neither {} nor {} nor a GGUF file", id, kSingle, kIndex));
}

}  // namespace

std::string quantisation_of(std::string_view file_name) {
  std::string name = upper(base_name(file_name));
  if (name.ends_with(".GGUF")) name.resize(name.size() - 5);
  std::string found;
  size_t begin = 0;
  while (begin < name.size()) {
    const size_t end = std::min(name.find_first_of("-.", begin), name.size());
    const bool dynamic = begin >= 3 && name.compare(begin - 3, 3, "UD-") == 0;
    // "model_Q4_K_M": a quantisation has underscores of its own, so each is tried as its beginning.
    for (size_t at = begin; at < end; at = name.find('_', at) + 1) {
      const std::string word = name.substr(at, end - at);
      if (is_quantisation(word)) {
        found = (dynamic ? "UD-" : "") + word;
        break;
      }
      if (name.find('_', at) >= end) break;
    }
    begin = end + 1;
  }
  return found;
}

FileChoice choose_files(const std::string& id, const std::vector<std::string>& names,
                        const std::string& choice) {
  const bool single = contains(names, kSingle);
  const bool indexed = !single && contains(names, kIndex);
  if (!choice.empty() || (!indexed && !single && !gguf_files(names).empty())) {
    return choose_gguf(id, names, choice);
  }
  if (!indexed && !single) refuse_repository(id, names);
  if (!contains(names, kConfig)) {
    refuse(ExitCode::model_corrupt, fmt::format("{} has no {}", id, kConfig));
  }
  FileChoice chosen;
  for (const std::string_view text : kTexts) {
    if (contains(names, text)) chosen.texts.emplace_back(text);
  }
  for (const std::string& name : names) {
    if (name.starts_with(kMoreTemplates) && name.ends_with(".jinja")) chosen.texts.push_back(name);
  }
  if (indexed) {
    chosen.index = kIndex;
    chosen.texts.push_back(chosen.index);
  } else {
    chosen.weights.emplace_back(kSingle);
  }
  return chosen;
}

std::vector<std::string> files_of_index(const std::string& text, const std::string& file_name) {
  const auto json = nlohmann::json::parse(text, nullptr, false);
  const auto map = json.is_object() ? json.find("weight_map") : json.end();
  if (!json.is_object() || map == json.end() || !map->is_object()) {
    refuse(ExitCode::model_corrupt, fmt::format("{}: weight_map is missing", file_name));
  }
  std::set<std::string> files;
  for (const auto& file : *map) {
    const std::string name = file.is_string() ? file.get<std::string>() : "";
    if (!is_safe_file_name(name)) {
      refuse(ExitCode::model_corrupt,
             fmt::format("{}: weight_map names '{}', which is no file of the model's folder",
                         file_name, name));
    }
    files.insert(name);
  }
  return {files.begin(), files.end()};
}

}  // namespace chorus::launcher
