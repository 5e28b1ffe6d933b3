// The model of a tokenizer.json: its tokens, and the tables of BPE, Unigram, WordPiece or
// WordLevel.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "modelfile/json_file.h"
#include "modelfile/tokenizer_spec.h"

namespace chorus::modelfile {

struct JsonTokenModel {
  std::vector<std::string> tokens;  // by id; "" where an id has none
  int64_t entries = 0;              // of the file's vocabulary
  std::unordered_map<std::string, int32_t> ids;
  TokenModelSpec model;

  std::optional<int32_t> find(const std::string& text) const {
    const auto found = ids.find(text);
    return found == ids.end() ? std::nullopt : std::optional(found->second);
  }
};

// Throws FileError: unsupported, corrupt.
JsonTokenModel read_token_model(const JsonFile& file);

}  // namespace chorus::modelfile
