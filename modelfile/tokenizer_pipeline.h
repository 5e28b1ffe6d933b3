// Recognises the pipeline of a tokenizer.json: which of the known ones it is, component by
// component.
#pragma once

#include <optional>
#include <string>

#include "modelfile/json_file.h"

namespace chorus::modelfile {

struct Pipeline {
  std::string model;  // Vocabulary.model: "gpt2" or "llama"
  std::string pre;    // Vocabulary.pre
  std::optional<bool> add_space_prefix = std::nullopt;
  bool has_normalizer = false;
};

// Throws FileError(unsupported) that names the component which is not read.
Pipeline recognise_pipeline(const JsonFile& tokenizer);

// The special tokens that the post-processor puts around a text, by their text.
struct Surroundings {
  std::optional<std::string> before, after;
};
Surroundings read_post_processor(const JsonFile& tokenizer);

}  // namespace chorus::modelfile
