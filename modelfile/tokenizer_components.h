// Reads the components of a tokenizer.json into the values of tokenizer_spec.h: normalizer,
// pre-tokenizer, post-processor, decoder. A component or a setting that is not known is refused by
// its name: wrong token ids would be a silent loss of quality.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "modelfile/json_file.h"
#include "modelfile/tokenizer_spec.h"

namespace chorus::modelfile {

// Each throws FileError: unsupported or corrupt, with the place in the file.
std::vector<normalizer::Step> read_normalizer(const JsonFile& file);
std::vector<pre_tokenizer::Step> read_pre_tokenizer(const JsonFile& file);
std::vector<decoder::Step> read_decoder(const JsonFile& file);

struct PostProcessor {
  std::vector<int32_t> before, after;  // ids around the text
  std::optional<OffsetTrim> trim_offsets;
};
PostProcessor read_post_processor(const JsonFile& file);

// A token id; `key` is for messages.
int32_t token_id_of(const JsonFile& file, std::string_view key, const nlohmann::json& value);

}  // namespace chorus::modelfile
