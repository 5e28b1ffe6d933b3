// The models that other tests run, as their makers published them. Absent files are skipped.
#include <catch2/catch.hpp>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <iostream>

#include "modelfile/model.h"

namespace chorus::modelfile {
namespace {

std::unique_ptr<Model> open_cached(const std::string& file, bool read_tensors = true) {
  const char* home = std::getenv("HOME");
  const auto path = std::filesystem::path(home == nullptr ? "" : home) / ".cache/chorus" / file;
  if (!std::filesystem::exists(path)) {
    std::cout << "chorus-skip: " << path << " is absent\n";
    return nullptr;
  }
  return open_model(path, read_tensors);
}

}  // namespace

TEST_CASE("SmolLM2's GGUF file is read", "[modelfile]") {
  const auto model = open_cached("SmolLM2-135M-Instruct.Q4_1.gguf");
  if (!model) return;
  const Config& config = model->config();
  CHECK(config.format() == Format::gguf);
  CHECK(config.architecture() == "llama");
  CHECK(config.integer("num_hidden_layers", ".block_count") == 30);
  CHECK(config.integer("num_attention_heads", ".attention.head_count") == 9);
  CHECK(config.number("rms_norm_eps", ".attention.layer_norm_rms_epsilon") == Approx(1e-5));
  const Tensor& embedding = model->tensor("token_embd.weight");
  CHECK(embedding.shape == std::vector<int64_t>{49152, 576});
  CHECK(embedding.data.size() == 49152u * 576 / block_elements(embedding.type) *
                                     static_cast<size_t>(block_bytes(embedding.type)));
  const TokenizerSpec spec = model->tokenizer();
  CHECK(spec.tokens.size() == 49152);
  CHECK(std::get<BpeModel>(spec.model).merges.size() == 48900);
  REQUIRE(spec.eos.has_value());
  CHECK(spec.before.empty());
  const ChatTemplates templates = model->chat_templates();
  REQUIRE(templates.sources.size() == 1);
  CHECK(templates.sources[0].text.find("<|im_start|>") != std::string::npos);
}

TEST_CASE("Qwen2.5's GGUF file is read", "[modelfile]") {
  const auto model = open_cached("Qwen2.5-Coder-0.5B-Instruct.gguf");
  if (!model) return;
  CHECK(model->config().architecture() == "qwen2");
  CHECK(model->tensor("blk.0.attn_q.bias").shape == std::vector<int64_t>{896});
  CHECK(model->tokenizer().tokens.size() == 151936);
}

TEST_CASE("Gemma 3's GGUF file is read", "[modelfile]") {
  const auto model = open_cached("gemma-3-270m.Q4_K_M.gguf");
  if (!model) return;
  CHECK(model->config().architecture() == "gemma3");
  const TokenizerSpec spec = model->tokenizer();
  CHECK(spec.tokens.size() == 262144);
  CHECK(spec.before.size() == 1);
}

TEST_CASE("without tensors a GGUF file keeps names and shapes, and no bytes", "[modelfile]") {
  const auto model = open_cached("SmolLM2-135M-Instruct.Q4_1.gguf", false);
  if (!model) return;
  CHECK(model->tensors().size() == 272);
  CHECK(model->tensor("token_embd.weight").data.empty());
  CHECK(model->tokenizer().tokens.size() == 49152);
}

}  // namespace chorus::modelfile
