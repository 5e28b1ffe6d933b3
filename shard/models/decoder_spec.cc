#include "shard/models/decoder_spec.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "modelfile/error.h"
#include "shard/models/families/list.h"

namespace chorus::models {

using modelfile::FileError;
using weights::Role;

namespace {

// GGUF files of Llama 3 bring the scaling of the rotation as a tensor of divisors.
void divide_frequencies(const modelfile::Model& model, DecoderSpec& spec) {
  const modelfile::Tensor* factors = model.find("rope_freqs.weight");
  if (factors == nullptr) return;
  auto& frequencies = spec.kv_groups.front().rope.frequencies;
  if (factors->type != modelfile::TensorType::f32 || factors->shape.size() != 1 ||
      factors->shape[0] != static_cast<int64_t>(frequencies.size())) {
    throw FileError(
        FileError::Kind::corrupt,
        fmt::format("tensor rope_freqs.weight is not {} numbers of type F32", frequencies.size()));
  }
  const auto* divisors = reinterpret_cast<const float*>(factors->data.data());
  for (size_t i = 0; i < frequencies.size(); ++i) frequencies[i] /= divisors[i];
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
    const auto& embedding = model.tensor(gguf ? table.gguf : table.safetensors);
    if (embedding.shape.size() != 2 || embedding.shape[1] != spec.hidden) {
      throw FileError(FileError::Kind::corrupt,
                      fmt::format("tensor {} does not have hidden_size = {} columns",
                                  embedding.name, spec.hidden));
    }
    spec.shape.vocab = embedding.shape[0];
    divide_frequencies(model, spec);
    return spec;
  }
  throw FileError(FileError::Kind::unsupported,
                  fmt::format("{}: architecture \"{}\" is not built yet; there are: {}",
                              model.path().string(), architecture, known));
}

}  // namespace chorus::models
