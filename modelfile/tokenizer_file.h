// The tokenizer.json of a folder, with the files beside it; or one alone.
#pragma once

#include <filesystem>

#include "modelfile/tokenizer_spec.h"

namespace chorus::modelfile {

// Reads tokenizer.json, tokenizer_config.json, config.json and generation_config.json, all but the
// first where they are there. Throws FileError.
TokenizerSpec read_folder_tokenizer(const std::filesystem::path& folder);

// A tokenizer.json by itself, as the `tokenizers` library reads it. Throws FileError.
TokenizerSpec read_tokenizer_file(const std::filesystem::path& path);

}  // namespace chorus::modelfile
