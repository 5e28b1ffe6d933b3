// What the names of tokenizer.ggml.pre stand for. GGUF does not carry the pre-tokenizer of a
// byte-level vocabulary, it names the model family that has it; the normalizer is lost altogether.
// Both are spelled out here as the family's own tokenizer.json has them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "modelfile/tokenizer_spec.h"

namespace chorus::modelfile {

struct NamedPipeline {
  std::vector<std::string_view> names;
  std::vector<pre_tokenizer::Step> (*pre_tokenizer)();
  bool nfc = false;              // the family's normalizer
  bool ignore_merges = false;    // see BpeModel
  bool starts_with_bos = false;  // where the file does not say
};

// Null where the name is not known.
const NamedPipeline* find_pipeline(std::string_view pre);
std::string known_pipelines();  // all names, sorted, for messages

}  // namespace chorus::modelfile
