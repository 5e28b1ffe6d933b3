#include "shard/models/decoder_spec.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "modelfile/error.h"
#include "shard/models/families/list.h"
#include "shard/weights/loader.h"

namespace chorus::models {

using modelfile::FileError;
using weights::Role;

namespace {

// GGUF files bring the scaling of some rotations as tensors of divisors.
void divide_frequencies(const modelfile::Model& model, std::string_view name,
                        std::vector<float>& frequencies) {
  const modelfile::Tensor* factors = model.find(name);
  if (factors == nullptr || frequencies.empty()) return;
  if (factors->type != modelfile::TensorType::f32 || factors->shape.size() != 1 ||
      factors->shape[0] != static_cast<int64_t>(frequencies.size())) {
    throw FileError(FileError::Kind::corrupt, fmt::format("tensor {} is not {} numbers of type F32",
                                                          name, frequencies.size()));
  }
  std::vector<float> divisors(frequencies.size());
  std::memcpy(divisors.data(), factors->data.data(), divisors.size() * sizeof(float));
  for (size_t i = 0; i < frequencies.size(); ++i) frequencies[i] /= divisors[i];
}

void divide_frequencies(const modelfile::Model& model, DecoderSpec& spec) {
  for (KvGroupSpec& group : spec.kv_groups) {
    divide_frequencies(model, "rope_freqs.weight", group.rope.frequencies);
    divide_frequencies(model, "rope_factors_short.weight", group.rope.frequencies);
    divide_frequencies(model, "rope_factors_long.weight", group.long_rope.frequencies);
  }
}

}  // namespace

const weights::TensorEntry* DecoderSpec::find(Role role) const {
  const auto found = std::find_if(tensors.begin(), tensors.end(),
                                  [&](const auto& entry) { return entry.role == role; });
  return found == tensors.end() ? nullptr : &*found;
}

DecoderSpec describe(const modelfile::Model& model) {
  const auto& config = model.config();
  const bool gguf = config.format() == modelfile::Format::gguf;
  const std::string architecture = config.architecture();
  std::string known;
  for (const Family& family : families()) {
    const std::string_view name = gguf ? family.gguf : family.safetensors;
    if (name != architecture) {
      if (known.find(name) == std::string::npos)
        known += (known.empty() ? "" : ", ") + std::string(name);
      continue;
    }
    DecoderSpec spec = family.describe(config);
    const auto& table = spec.find(Role::embedding)->parts.front();
    const std::string name_of_table(gguf ? table.gguf : table.safetensors);
    const modelfile::Tensor* embedding = weights::find_tensor(model, name_of_table);
    if (embedding == nullptr || embedding->shape.size() != 2 ||
        embedding->shape[1] != spec.hidden) {
      throw FileError(FileError::Kind::corrupt,
                      fmt::format("{}: there is no tensor {} with hidden_size = {} columns",
                                  model.path().string(), name_of_table, spec.hidden));
    }
    spec.shape.vocab = embedding->shape[0];
    divide_frequencies(model, spec);
    return spec;
  }
  throw FileError(FileError::Kind::unsupported,
                  fmt::format("{}: architecture \"{}\" is not built yet; there are: {}",
                              model.path().string(), architecture, known));
}

}  // namespace chorus::models
