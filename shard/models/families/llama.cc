// Llama and what copies it (SmolLM2, TinyLlama, Mistral's GGUFs, ...): RMS norms, rotary halves,
// SiLU gate. GGUF's converter permutes the rows of Q and K for another pairing of the rotation.
#include "modelfile/error.h"
#include "shard/models/families/list.h"
#include "shard/models/families/parts.h"

namespace chorus::models {

DecoderSpec llama(const modelfile::Config& config) {
  if (config.find_integer("", ".expert_count").value_or(0) > 0) {
    throw modelfile::FileError(modelfile::FileError::Kind::unsupported,
                               "mixture-of-experts models are not built yet");
  }
  DecoderSpec spec = numbers(config);
  const double base = config.find_number("rope_theta", ".rope.freq_base").value_or(10000);
  use_full_attention(spec, rope(config, base, spec.shape.head_dim));
  spec.tensors = llama_tensors(kernels::RowOrder::rope_pairs_to_halves);
  return spec;
}

}  // namespace chorus::models
