// A GGUF file as a Model: its metadata as Config, its tokenizer.ggml.* keys as Vocabulary.
#pragma once

#include <filesystem>
#include <memory>

#include "modelfile/gguf.h"
#include "modelfile/model.h"

namespace chorus::modelfile {

// The parts of open_gguf_model, over parsed bytes. The Config must not outlive `gguf`.
std::unique_ptr<Config> gguf_config(const Gguf& gguf);
Vocabulary gguf_vocabulary(const Gguf& gguf);
GenerationDefaults gguf_generation_defaults(const Gguf& gguf);

std::unique_ptr<Model> open_gguf_model(const std::filesystem::path& path, bool read_tensors);

}  // namespace chorus::modelfile
