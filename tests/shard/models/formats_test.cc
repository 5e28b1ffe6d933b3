// The same tiny random model written as a GGUF file and as a Hugging Face folder gives the same
// logits, bit for bit: rows permuted by GGUF's converter are put back, norms stored minus one are
// completed, names and configuration keys of both columns are right.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <random>

#include "kernels/half.h"
#include "tests/modelfile/gguf_writer.h"
#include "tests/modelfile/safetensors_writer.h"
#include "tests/modelfile/scratch_folder.h"
#include "tests/shard/local_group.h"

using namespace chorus;
using namespace chorus::tests;

namespace {

constexpr int kHidden = 64, kHeads = 4, kKvHeads = 2, kHeadDim = 16, kFfn = 96, kVocab = 48;
constexpr int kLayers = 3;

enum class Stored { f32, f16, bf16 };

std::string number(float value, Stored as) {
  if (as == Stored::f16) return test::little_endian(kernels::f32_to_f16(value));
  if (as == Stored::bf16) return test::little_endian(kernels::f32_to_bf16(value));
  return test::little_endian(value);
}

class TwoFiles {
 public:
  TwoFiles(const char* architecture, Stored stored)
      : llama_(architecture == std::string("llama")), stored_(stored) {
    const std::string a = std::string(architecture) + ".";
    gguf_.text("general.architecture", architecture);
    gguf_.u32(a + "block_count", kLayers).u32(a + "context_length", 128);
    gguf_.u32(a + "embedding_length", kHidden).u32(a + "feed_forward_length", kFfn);
    gguf_.u32(a + "attention.head_count", kHeads).u32(a + "attention.head_count_kv", kKvHeads);
    gguf_.u32(a + "attention.key_length", kHeadDim).f32(a + "rope.freq_base", 10000);
    gguf_.f32(a + "attention.layer_norm_rms_epsilon", 1e-5F);
    gguf_.u32(a + "attention.sliding_window", 8).u32(a + "attention.sliding_window_pattern", 3);
  }

  // Random numbers that all three types hold exactly. `plus_one`: GGUF stores one more.
  void add(const std::string& gguf, const std::string& hf, std::vector<uint64_t> shape,
           bool plus_one = false) {
    const uint64_t cols = shape.back(), rows = shape.size() == 2 ? shape[0] : 1;
    std::vector<float> values(rows * cols);
    for (float& value : values)
      value = static_cast<float>(static_cast<int>(random_() % 33) - 16) / 64;
    std::string in_gguf(values.size() * 4, '\0'), in_folder;
    for (uint64_t row = 0; row < rows; ++row) {
      for (uint64_t col = 0; col < cols; ++col) {
        const float value = values[row * cols + col];
        in_folder += number(value, stored_);
        uint64_t at = row;
        if (llama_ && (gguf.find("attn_q.") + 1 != 0 || gguf.find("attn_k.") + 1 != 0)) {
          const uint64_t head = row / kHeadDim, i = row % kHeadDim, half = kHeadDim / 2;
          at = head * kHeadDim + (i < half ? 2 * i : 2 * (i - half) + 1);
        }
        const std::string bytes = test::little_endian(plus_one ? value + 1 : value);
        in_gguf.replace((at * cols + col) * 4, 4, bytes);
      }
    }
    gguf_.tensor(gguf, test::GgufWriter::kF32, shape, in_gguf);
    const char* type = stored_ == Stored::f32 ? "F32" : stored_ == Stored::f16 ? "F16" : "BF16";
    std::string dimensions = std::to_string(shape[0]);
    if (shape.size() == 2) dimensions += "," + std::to_string(cols);
    header_ += (header_.empty() ? "{\"" : ",\"") + hf + "\":{\"dtype\":\"" + type +
               "\",\"shape\":[" + dimensions + "],\"data_offsets\":[" +
               std::to_string(data_.size()) + "," +
               std::to_string(data_.size() + in_folder.size()) + "]}";
    data_ += in_folder;
  }

  void save(const std::filesystem::path& folder, const std::string& config) {
    test::save(folder / "tiny.gguf", gguf_.bytes());
    std::filesystem::create_directory(folder / "hf");
    std::string header = header_ + "}";
    header.resize((header.size() + 7) / 8 * 8, ' ');
    test::save(folder / "hf" / "model.safetensors", test::safetensors(header, data_));
    test::save(folder / "hf" / "config.json", config);
  }

 private:
  bool llama_;
  Stored stored_;
  std::mt19937 random_{7};
  test::GgufWriter gguf_;
  std::string header_, data_;
};

// Writes both and returns nothing but files. `architecture` is GGUF's name.
void write_tiny(const std::filesystem::path& folder, const std::string& architecture,
                Stored stored) {
  const bool gemma = architecture == "gemma3";
  TwoFiles files(architecture.c_str(), stored);
  files.add("token_embd.weight", "model.embed_tokens.weight", {kVocab, kHidden});
  files.add("output_norm.weight", "model.norm.weight", {kHidden}, gemma);
  if (architecture == "llama") files.add("output.weight", "lm_head.weight", {kVocab, kHidden});
  for (int i = 0; i < kLayers; ++i) {
    const std::string g = "blk." + std::to_string(i) + ".",
                      h = "model.layers." + std::to_string(i) + ".";
    const auto matrix = [&](const char* gguf, const char* hf, uint64_t rows, uint64_t cols) {
      files.add(g + gguf + ".weight", h + hf + ".weight", {rows, cols});
      const bool projects = rows != kHidden || std::string(hf).find("q_proj") != std::string::npos;
      if (architecture == "qwen2" && projects && std::string(gguf).starts_with("attn_")) {
        files.add(g + gguf + ".bias", h + hf + ".bias", {rows});
      }
    };
    const auto norm = [&](const char* gguf, const char* hf, uint64_t size = kHidden) {
      files.add(g + gguf + ".weight", h + hf + ".weight", {size}, gemma);
    };
    norm("attn_norm", "input_layernorm");
    matrix("attn_q", "self_attn.q_proj", kHeads * kHeadDim, kHidden);
    matrix("attn_k", "self_attn.k_proj", kKvHeads * kHeadDim, kHidden);
    matrix("attn_v", "self_attn.v_proj", kKvHeads * kHeadDim, kHidden);
    matrix("attn_output", "self_attn.o_proj", kHidden, kHeads * kHeadDim);
    matrix("ffn_gate", "mlp.gate_proj", kFfn, kHidden);
    matrix("ffn_up", "mlp.up_proj", kFfn, kHidden);
    matrix("ffn_down", "mlp.down_proj", kHidden, kFfn);
    if (gemma) {
      norm("attn_q_norm", "self_attn.q_norm", kHeadDim);
      norm("attn_k_norm", "self_attn.k_norm", kHeadDim);
      norm("post_attention_norm", "post_attention_layernorm");
      norm("ffn_norm", "pre_feedforward_layernorm");
      norm("post_ffw_norm", "post_feedforward_layernorm");
    } else {
      norm("ffn_norm", "post_attention_layernorm");
    }
  }
  const std::string name = architecture == "llama" ? "Llama" : gemma ? "Gemma3" : "Qwen2";
  files.save(folder, R"({"architectures":[")" + name +
                         R"(ForCausalLM"],"hidden_size":64,"num_hidden_layers":3,
      "num_attention_heads":4,"num_key_value_heads":2,"head_dim":16,"intermediate_size":96,
      "max_position_embeddings":128,"rms_norm_eps":1e-5,"rope_theta":10000,"vocab_size":48,
      "sliding_window":8,"sliding_window_pattern":3})");
}

std::vector<float> logits_of(const std::filesystem::path& path, GroupOptions options) {
  options.limits = {.slots = 2, .step_tokens_max = 64, .context_max = 128};
  options.kv_tokens = 256;
  const auto model = modelfile::open_model(path);
  LocalGroup group(*model, options);
  step::Row row{.slot = 0, .start = step::NewSequence{.sequence = 1}};
  for (int i = 0; i < 40; ++i) row.tokens.push_back(i * 7 % kVocab);
  row.sample = true;
  int64_t held = 0;
  group.add_blocks(row, held, 40);
  group.execute({.number = 0, .rows = {row}});
  return group.logits(0);
}

}  // namespace

TEST_CASE("a GGUF file and a Hugging Face folder of the same model give the same logits") {
  const std::string architecture = GENERATE("llama", "qwen2", "gemma3");
  const Stored stored = GENERATE(Stored::f32, Stored::f16, Stored::bf16);
  INFO(architecture << ", stored as " << static_cast<int>(stored));
  test::ScratchFolder folder;
  write_tiny(folder.path(), architecture, stored);
  for (bool reference : {true, false}) {
    const auto gguf = logits_of(folder.path() / "tiny.gguf", {.reference = reference});
    const auto hf = logits_of(folder.path() / "hf", {.reference = reference});
    CHECK(gguf == hf);
    // Not all the same number: the model does compute something.
    CHECK(*std::max_element(gguf.begin(), gguf.end()) >
          *std::min_element(gguf.begin(), gguf.end()) + 0.01F);
  }
  const auto whole = logits_of(folder.path() / "hf", {.reference = true});
  const auto fast = logits_of(folder.path() / "hf", {});
  const auto halves = logits_of(folder.path() / "hf", {.ranks = 2, .reference = true});
  for (size_t i = 0; i < whole.size(); ++i) {
    CHECK(std::abs(whole[i] - fast[i]) < 2e-2F);
    CHECK(std::abs(whole[i] - halves[i]) < 1e-4F);
  }
}
