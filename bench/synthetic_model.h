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
  std::string quantisation;  // of the linear layers: "", "fp8" or "gptq" (4 bits)
};

// "llama-8b", "llama-1b" or "tiny", plain or with "-fp8" or "-gptq" behind; throws
// std::invalid_argument for others.
SyntheticShape synthetic_shape(const std::string& name);

// config.json and, under its name once it is whole, model.safetensors; the weights are random,
// drawn once and repeated (in bf16 normal with a deviation of 0.02). Norms are ones.
void write_synthetic_model(const std::filesystem::path& folder, const SyntheticShape& shape);

}  // namespace chorus::bench
