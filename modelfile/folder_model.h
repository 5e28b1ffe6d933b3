// A Hugging Face folder as a Model: config.json, safetensors, tokenizer.json, templates.
#pragma once

#include <filesystem>
#include <memory>

#include "modelfile/model.h"

namespace chorus::modelfile {

std::unique_ptr<Model> open_folder_model(const std::filesystem::path& folder, bool read_tensors);

}  // namespace chorus::modelfile
