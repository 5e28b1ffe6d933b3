// A tokenizer.json, with what the files beside it say about it, as a TokenizerSpec.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "modelfile/json_file.h"
#include "modelfile/tokenizer_spec.h"

namespace chorus::modelfile {

struct TokenizerSources {
  JsonFile tokenizer;                // tokenizer.json
  std::optional<JsonFile> settings;  // tokenizer_config.json
  // config.json's and generation_config.json's ids, and the rows of the embedding.
  std::vector<int32_t> bos = {}, eos = {};
  std::optional<int64_t> model_vocabulary = std::nullopt;
};

// Throws FileError: unsupported, corrupt.
TokenizerSpec read_tokenizer(const TokenizerSources& sources);

}  // namespace chorus::modelfile
