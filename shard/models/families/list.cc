#include "shard/models/families/list.h"

namespace chorus::models {

std::span<const Family> families() {
  static constexpr Family kFamilies[] = {
      {"LlamaForCausalLM", "llama", llama},
      {"Qwen2ForCausalLM", "qwen2", qwen2},
      {"Gemma3ForCausalLM", "gemma3", gemma3},
      {"Gemma3ForConditionalGeneration", "gemma3", gemma3},
  };
  return kFamilies;
}

}  // namespace chorus::models
