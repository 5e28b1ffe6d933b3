// Writes a Hugging Face folder with random weights in the shape of a known model, for measuring:
// what it says is nonsense, what it costs is real.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace chorus::bench {

struct SyntheticShape {
  std::string name;
  int64_t hidden = 0, layers = 0, heads = 0, kv_heads = 0, head_dim = 0, ffn = 0, vocab = 0;
  int64_t context = 0;
};

// "llama-8b", "llama-1b" or "tiny"; throws std::invalid_argument for others.
SyntheticShape synthetic_shape(const std::string& name);

// config.json and model.safetensors in bf16; the weights are normal with a deviation of 0.02, drawn
// once and repeated. Norms are ones.
void write_synthetic_model(const std::filesystem::path& folder, const SyntheticShape& shape);

}  // namespace chorus::bench
