// The chat templates that a model brings. Hugging Face folders keep them in several places, which
// have come one after the other; the newest that is there counts:
//   chat_template.jinja > chat_template.json > tokenizer_config.json, a string or a list of named
//   ones ("default", "tool_use", "rag"),
// and additional_chat_templates/NAME.jinja adds named ones. GGUF has tokenizer.chat_template and
// tokenizer.chat_template.NAME.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "modelfile/gguf.h"

namespace chorus::modelfile {

struct ChatTemplateSource {
  std::string name;  // "default", "tool_use", ...
  std::string text;
  std::string file;  // where it stands, for messages: a path, with the key where it has one
};

struct ChatTemplates {
  std::vector<ChatTemplateSource> sources;  // names differ
  // The variables "bos_token", "eos_token", "pad_token", ... as far as the model's files say them.
  std::vector<std::pair<std::string, std::string>> special_tokens;

  bool empty() const { return sources.empty(); }
  const ChatTemplateSource* find(std::string_view name) const;  // nullptr where absent
};

// Of a .gguf file or a folder (with one .gguf file, or of Hugging Face files), or of the folder
// that a tokenizer.json lies in. Reads no weights and needs none. All of these throw FileError
// where a file cannot be read.
ChatTemplates read_chat_templates(const std::filesystem::path& path);
ChatTemplates folder_chat_templates(const std::filesystem::path& folder);
ChatTemplates gguf_chat_templates(const Gguf& gguf);

// One file given by a person: a template, or where its name ends in .json an object with a
// "chat_template". It takes the place of all that the model brings.
std::vector<ChatTemplateSource> read_chat_template_file(const std::filesystem::path& path);

}  // namespace chorus::modelfile
