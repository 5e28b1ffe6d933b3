// The families that Chorus knows, one row each.
#pragma once

#include <span>
#include <string_view>

#include "shard/models/decoder_spec.h"

namespace chorus::models {

struct Family {
  std::string_view safetensors;  // config.json's architecture
  std::string_view gguf;         // general.architecture; of rows with the same, the first describes
  DecoderSpec (*describe)(const modelfile::Config&);
};

DecoderSpec llama(const modelfile::Config& config);
DecoderSpec llama4(const modelfile::Config& config);
DecoderSpec mistral(const modelfile::Config& config);
DecoderSpec mixtral(const modelfile::Config& config);
DecoderSpec qwen2(const modelfile::Config& config);
DecoderSpec qwen3(const modelfile::Config& config);
DecoderSpec qwen3_moe(const modelfile::Config& config);
DecoderSpec gemma2(const modelfile::Config& config);
DecoderSpec gemma3(const modelfile::Config& config);
DecoderSpec phi3(const modelfile::Config& config);

std::span<const Family> families();

}  // namespace chorus::models
