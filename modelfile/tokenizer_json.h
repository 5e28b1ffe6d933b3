// tokenizer.json as a Vocabulary. The file describes a pipeline (normalizer, pre-tokenizer, model,
// post-processor, decoder); a Vocabulary is a narrower thing, so only pipelines that it describes
// exactly are taken: byte-level BPE with one of the known pre-tokenizers, and SentencePiece-style
// BPE. Every other one is refused, and the error names the component: wrong token ids would be a
// silent loss of quality.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "modelfile/json_file.h"
#include "modelfile/model.h"

namespace chorus::modelfile {

struct TokenizerSources {
  JsonFile tokenizer;                // tokenizer.json
  std::optional<JsonFile> settings;  // tokenizer_config.json
  // config.json's and generation_config.json's ids, and the rows of the embedding.
  std::vector<int32_t> bos = {}, eos = {};
  std::optional<int64_t> model_vocabulary = std::nullopt;
};

// Throws FileError: unsupported, corrupt.
Vocabulary read_vocabulary(const TokenizerSources& sources);

}  // namespace chorus::modelfile
