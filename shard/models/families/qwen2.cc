// Qwen2 and Qwen2.5: Llama with biases on q, k and v; GGUF keeps the rows as they are.
#include "modelfile/error.h"
#include "shard/models/families/list.h"
#include "shard/models/families/parts.h"

namespace chorus::models {

DecoderSpec qwen2(const modelfile::Config& config) {
  if (config.find_flag("use_sliding_window", "").value_or(false)) {
    throw modelfile::FileError(modelfile::FileError::Kind::unsupported,
                               "config.json has use_sliding_window = true, which Chorus does not "
                               "build for Qwen2");
  }
  DecoderSpec spec = numbers(config);
  const double base = config.find_number("rope_theta", ".rope.freq_base").value_or(10000);
  use_full_attention(spec, rope(config, base, spec.shape.head_dim));
  spec.tensors = llama_tensors(kernels::RowOrder::as_stored);
  return spec;
}

}  // namespace chorus::models
