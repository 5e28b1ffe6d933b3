// The families that Chorus knows, one row each.
#pragma once

#include <span>
#include <string_view>

#include "shard/models/decoder_spec.h"

namespace chorus::models {

struct Family {
  std::string_view safetensors;  // config.json's architecture
  std::string_view gguf;         // general.architecture
  DecoderSpec (*describe)(const modelfile::Config&);
};

DecoderSpec llama(const modelfile::Config& config);
DecoderSpec qwen2(const modelfile::Config& config);
DecoderSpec gemma3(const modelfile::Config& config);

std::span<const Family> families();

}  // namespace chorus::models
