#include "modelfile/chat_templates.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <optional>

#include "modelfile/error.h"
#include "modelfile/json_file.h"
#include "modelfile/mapped_file.h"

namespace chorus::modelfile {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

constexpr std::string_view kKey = "chat_template";
constexpr std::array<std::string_view, 7> kSpecialTokens = {
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"};

// An earlier source of the same name stays.
void add(std::vector<ChatTemplateSource>& sources, ChatTemplateSource source) {
  const bool known = std::any_of(sources.begin(), sources.end(),
                                 [&](const auto& other) { return other.name == source.name; });
  if (!known) sources.push_back(std::move(source));
}

std::string text_of(const fs::path& path) {
  const MappedFile file(path);
  return std::string(as_text(file.bytes()));
}

// {"chat_template": "text"} or {"chat_template": [{"name": "default", "template": "text"}, ...]}
void add_from_json(std::vector<ChatTemplateSource>& sources, const JsonFile& file) {
  const json* value = file.find(kKey);
  if (value == nullptr) return;
  const std::string place = file.name() + ", key chat_template";
  if (!value->is_array()) {
    return add(sources, {"default", file.find_text(kKey).value_or(""), place});
  }
  for (const json& entry : *value) {
    if (!entry.is_object()) file.corrupt(kKey, "is a list of something else than objects");
    const auto name = entry.find("name");
    const auto text = entry.find("template");
    if (name == entry.end() || !name->is_string() || text == entry.end() || !text->is_string()) {
      file.corrupt(kKey, "holds an entry without name or template");
    }
    add(sources, {name->get<std::string>(), text->get<std::string>(),
                  place + ", entry " + name->get<std::string>()});
  }
}

void add_folder(std::vector<ChatTemplateSource>& sources, const fs::path& folder) {
  std::error_code error;
  std::vector<fs::path> paths;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    if (at->path().extension() == ".jinja") paths.push_back(at->path());
  }
  if (error && error != std::errc::no_such_file_or_directory) {
    throw FileError(FileError::Kind::missing,
                    folder.string() + " cannot be read: " + error.message());
  }
  std::sort(paths.begin(), paths.end());
  for (const fs::path& path : paths) {
    add(sources, {path.stem().string(), text_of(path), path.string()});
  }
}

// A special token is written as its text, or as an object that describes it.
std::optional<std::string> token_text(const JsonFile& file, std::string_view name) {
  const json* value = file.find(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_string()) return value->get<std::string>();
  if (value->is_object()) {
    const auto content = value->find("content");
    if (content != value->end() && content->is_string()) return content->get<std::string>();
  }
  return std::nullopt;
}

}  // namespace

const ChatTemplateSource* ChatTemplates::find(std::string_view name) const {
  const auto found = std::find_if(sources.begin(), sources.end(),
                                  [&](const auto& source) { return source.name == name; });
  return found == sources.end() ? nullptr : &*found;
}

ChatTemplates folder_chat_templates(const fs::path& folder) {
  ChatTemplates templates;
  if (const fs::path path = folder / "chat_template.jinja"; file_exists(path)) {
    templates.sources.push_back({"default", text_of(path), path.string()});
  }
  if (const auto file = JsonFile::read_if_present(folder / "chat_template.json")) {
    add_from_json(templates.sources, *file);
  }
  add_folder(templates.sources, folder / "additional_chat_templates");
  const auto settings = JsonFile::read_if_present(folder / "tokenizer_config.json");
  if (settings) add_from_json(templates.sources, *settings);
  const auto tokens = JsonFile::read_if_present(folder / "special_tokens_map.json");
  for (const std::string_view name : kSpecialTokens) {
    std::optional<std::string> text;
    if (settings) text = token_text(*settings, name);
    if (!text && tokens) text = token_text(*tokens, name);
    if (text) templates.special_tokens.emplace_back(name, std::move(*text));
  }
  return templates;
}

ChatTemplates gguf_chat_templates(const Gguf& gguf) {
  constexpr std::string_view kGgufKey = "tokenizer.chat_template";
  ChatTemplates templates;
  const auto& values = gguf.values();
  for (auto at = values.lower_bound(kGgufKey); at != values.end(); ++at) {
    const std::string& key = at->first;
    if (!key.starts_with(kGgufKey)) break;
    const std::string_view rest = std::string_view(key).substr(kGgufKey.size());
    if (!rest.empty() && rest[0] != '.') continue;  // tokenizer.chat_templates: the list of names
    add(templates.sources, {rest.empty() ? "default" : std::string(rest.substr(1)),
                            gguf.find_text(key).value_or(""), gguf.file_name() + ", key " + key});
  }
  const auto tokens = gguf.find_texts("tokenizer.ggml.tokens");
  for (const std::string_view name : kSpecialTokens) {
    // "bos_token" stands under tokenizer.ggml.bos_token_id; two have longer names there.
    const std::string_view word = name == "unk_token"   ? "unknown_token"
                                  : name == "sep_token" ? "seperator_token"
                                  : name == "pad_token" ? "padding_token"
                                                        : name;
    const auto id = gguf.find_integer("tokenizer.ggml." + std::string(word) + "_id");
    if (!id || !tokens || *id < 0 || static_cast<uint64_t>(*id) >= tokens->size()) continue;
    templates.special_tokens.emplace_back(name, (*tokens)[static_cast<size_t>(*id)]);
  }
  return templates;
}

ChatTemplates read_chat_templates(const fs::path& path) {
  if (path.extension() == ".gguf") {
    const MappedFile file(path);
    return gguf_chat_templates(Gguf(file.bytes(), path.string()));
  }
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status)) {
    throw FileError(FileError::Kind::missing, path.string() + ": no such folder or file");
  }
  if (!fs::is_directory(status)) return folder_chat_templates(path.parent_path());
  ChatTemplates templates = folder_chat_templates(path);
  if (!templates.empty() || file_exists(path / "tokenizer_config.json")) return templates;
  for (fs::directory_iterator at(path, error), end; !error && at != end; at.increment(error)) {
    if (at->path().extension() == ".gguf") return read_chat_templates(at->path());
  }
  return templates;
}

std::vector<ChatTemplateSource> read_chat_template_file(const fs::path& path) {
  std::vector<ChatTemplateSource> sources;
  if (path.extension() != ".json") return {{"default", text_of(path), path.string()}};
  const JsonFile file = JsonFile::read(path);
  add_from_json(sources, file);
  if (sources.empty()) file.corrupt(kKey, "is missing");
  return sources;
}

}  // namespace chorus::modelfile
