#include "shard/models/families/list.h"

namespace chorus::models {

std::span<const Family> families() {
  static constexpr Family kFamilies[] = {
      {"LlamaForCausalLM", "llama", llama},
      {"Llama4ForCausalLM", "llama4", llama4},
      {"Llama4ForConditionalGeneration", "llama4", llama4},
      {"MistralForCausalLM", "llama", mistral},
      {"MixtralForCausalLM", "llama", mixtral},
      {"Qwen2ForCausalLM", "qwen2", qwen2},
      {"Qwen3ForCausalLM", "qwen3", qwen3},
      {"Qwen3MoeForCausalLM", "qwen3moe", qwen3_moe},
      {"Gemma2ForCausalLM", "gemma2", gemma2},
      {"Gemma3ForCausalLM", "gemma3", gemma3},
      {"Gemma3ForConditionalGeneration", "gemma3", gemma3},
      {"Phi3ForCausalLM", "phi3", phi3},
  };
  return kFamilies;
}

}  // namespace chorus::models
