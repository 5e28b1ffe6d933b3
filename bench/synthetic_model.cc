#include "bench/synthetic_model.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <future>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <stdexcept>
#include <string_view>
#include <thread>
#include <vector>

#include "kernels/half.h"

namespace chorus::bench {
namespace {

constexpr int64_t kPieceBytes = int64_t{16} << 20;
constexpr int64_t kGroup = 128;  // input columns that share a scale, in 4 bits

// What a tensor is filled with.
enum class Fill : uint8_t { normal_bf16, ones_bf16, codes_e4m3, codes_i4, scales_f16, scale_f32 };

struct NamedShape {
  std::string name;
  std::vector<int64_t> shape;
  Fill fill = Fill::normal_bf16;
};

std::string_view dtype_of(Fill fill) {
  switch (fill) {
    case Fill::normal_bf16:
    case Fill::ones_bf16:
      return "BF16";
    case Fill::codes_e4m3:
      return "F8_E4M3";
    case Fill::codes_i4:
      return "I32";
    case Fill::scales_f16:
      return "F16";
    case Fill::scale_f32:
      return "F32";
  }
  return "";
}

int64_t bytes_of(const NamedShape& tensor) {
  const std::string_view dtype = dtype_of(tensor.fill);
  int64_t count = dtype == "F8_E4M3" ? 1 : dtype == "I32" || dtype == "F32" ? 4 : 2;
  for (const int64_t size : tensor.shape) count *= size;
  return count;
}

// A linear layer [rows, cols] as its checkpoints keep it.
void add_linear(std::vector<NamedShape>& all, const std::string& name, int64_t rows, int64_t cols,
                const std::string& quantisation) {
  if (quantisation == "fp8") {
    all.push_back({name + ".weight", {rows, cols}, Fill::codes_e4m3});
    all.push_back({name + ".weight_scale", {1}, Fill::scale_f32});
  } else if (quantisation == "gptq") {
    all.push_back({name + ".qweight", {cols / 8, rows}, Fill::codes_i4});
    all.push_back({name + ".qzeros", {cols / kGroup, rows / 8}, Fill::codes_i4});
    all.push_back({name + ".scales", {cols / kGroup, rows}, Fill::scales_f16});
  } else {
    all.push_back({name + ".weight", {rows, cols}});
  }
}

std::vector<NamedShape> tensors_of(const SyntheticShape& s) {
  const int64_t q = s.heads * s.head_dim, kv = s.kv_heads * s.head_dim;
  std::vector<NamedShape> all = {{"model.embed_tokens.weight", {s.vocab, s.hidden}}};
  for (int64_t layer = 0; layer < s.layers; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    const auto linear = [&](const char* name, int64_t rows, int64_t cols) {
      add_linear(all, prefix + name, rows, cols, s.quantisation);
    };
    all.push_back({prefix + "input_layernorm.weight", {s.hidden}, Fill::ones_bf16});
    linear("self_attn.q_proj", q, s.hidden);
    linear("self_attn.k_proj", kv, s.hidden);
    linear("self_attn.v_proj", kv, s.hidden);
    linear("self_attn.o_proj", s.hidden, q);
    all.push_back({prefix + "post_attention_layernorm.weight", {s.hidden}, Fill::ones_bf16});
    linear("mlp.gate_proj", s.ffn, s.hidden);
    linear("mlp.up_proj", s.ffn, s.hidden);
    linear("mlp.down_proj", s.hidden, s.ffn);
  }
  all.push_back({"model.norm.weight", {s.hidden}, Fill::ones_bf16});
  all.push_back({"lm_head.weight", {s.vocab, s.hidden}});
  return all;
}

// kPieceBytes of random content; a tensor repeats it.
std::vector<uint16_t> piece_of(Fill fill) {
  std::vector<uint16_t> piece(kPieceBytes / 2);
  std::mt19937_64 random(static_cast<uint64_t>(fill) + 1);
  std::normal_distribution<float> normal(0, 0.02F);
  // A prime number of draws, repeated: neighbouring rows differ.
  std::vector<uint16_t> draws(1'048'573);
  for (uint16_t& draw : draws) {
    switch (fill) {
      case Fill::normal_bf16:
        draw = kernels::f32_to_bf16(normal(random));
        break;
      case Fill::ones_bf16:
        draw = kernels::f32_to_bf16(1);
        break;
      case Fill::codes_e4m3:
        draw = static_cast<uint16_t>(random() & 0xb7b7);  // magnitudes below 1, no NaN
        break;
      case Fill::codes_i4:
        draw = static_cast<uint16_t>(random());
        break;
      case Fill::scales_f16:
        draw = kernels::f32_to_f16(0.005F);
        break;
      case Fill::scale_f32:
        draw = 0x3d00;  // of both halves of an f32: 0.03
        break;
    }
  }
  for (size_t i = 0; i < piece.size(); ++i) piece[i] = draws[i % draws.size()];
  return piece;
}

void write_at(int file, const void* data, size_t bytes, int64_t at) {
  const auto* from = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t written = pwrite(file, from, bytes, at);
    if (written <= 0) throw std::runtime_error("the disk does not take the synthetic model");
    from += written;
    at += written;
    bytes -= static_cast<size_t>(written);
  }
}

}  // namespace

SyntheticShape synthetic_shape(const std::string& name) {
  std::string base = name, quantisation;
  for (const char* ending : {"fp8", "gptq"}) {
    const std::string suffix = std::string("-") + ending;
    if (!name.ends_with(suffix)) continue;
    base.resize(name.size() - suffix.size());
    quantisation = ending;
  }
  SyntheticShape shape;
  if (base == "llama-8b") shape = {base, 4096, 32, 32, 8, 128, 14336, 128256, 16384, ""};
  if (base == "llama-1b") shape = {base, 2048, 16, 32, 8, 64, 8192, 128256, 16384, ""};
  if (base == "tiny") shape = {base, 256, 2, 4, 2, 64, 512, 1024, 2048, ""};
  if (shape.hidden == 0) {
    throw std::invalid_argument("no synthetic shape is called \"" + name +
                                "\"; there are llama-8b, llama-1b and tiny, plain or with -fp8 or "
                                "-gptq behind");
  }
  shape.name = name;
  shape.quantisation = quantisation;
  return shape;
}

void write_synthetic_model(const std::filesystem::path& folder, const SyntheticShape& s) {
  std::filesystem::create_directories(folder);
  nlohmann::json config = {{"architectures", {"LlamaForCausalLM"}},
                           {"hidden_size", s.hidden},
                           {"num_hidden_layers", s.layers},
                           {"num_attention_heads", s.heads},
                           {"num_key_value_heads", s.kv_heads},
                           {"head_dim", s.head_dim},
                           {"intermediate_size", s.ffn},
                           {"vocab_size", s.vocab},
                           {"max_position_embeddings", s.context},
                           {"rms_norm_eps", 1e-5},
                           {"rope_theta", 500000.0},
                           {"torch_dtype", "bfloat16"}};
  if (s.quantisation == "fp8") {
    config["quantization_config"] = {{"quant_method", "fp8"}, {"activation_scheme", "dynamic"}};
  } else if (s.quantisation == "gptq") {
    config["quantization_config"] = {{"quant_method", "gptq"},
                                     {"bits", 4},
                                     {"group_size", kGroup},
                                     {"desc_act", false},
                                     {"sym", true}};
  }
  std::ofstream(folder / "config.json") << config.dump(2);

  const auto tensors = tensors_of(s);
  auto header = nlohmann::json::object();
  int64_t end = 0;
  for (const NamedShape& tensor : tensors) {
    const int64_t begin = end;
    end += bytes_of(tensor);
    header[tensor.name] = {{"dtype", dtype_of(tensor.fill)}, {"shape", tensor.shape}};
    header[tensor.name]["data_offsets"] = nlohmann::json::array({begin, end});
  }
  std::string text = header.dump();
  text.resize((text.size() + 63) / 64 * 64, ' ');
  const auto size = static_cast<uint64_t>(text.size());
  const int64_t data = 8 + static_cast<int64_t>(size);

  // It gets its name when it is whole: what a cut leaves is not taken for a model.
  const std::filesystem::path path = folder / "model.safetensors";
  const std::filesystem::path unfinished = path.string() + ".part";
  const int file = open(unfinished.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
  if (file < 0) throw std::runtime_error("cannot write " + unfinished.string());
  write_at(file, &size, sizeof size, 0);
  write_at(file, text.data(), text.size(), sizeof size);

  std::map<Fill, std::vector<uint16_t>> pieces;
  struct Part {
    const void* from;
    int64_t at, bytes;
  };
  std::vector<Part> parts;
  int64_t at = data;
  for (const NamedShape& tensor : tensors) {
    auto& piece = pieces[tensor.fill];
    if (piece.empty()) piece = piece_of(tensor.fill);
    for (int64_t done = 0; done < bytes_of(tensor); done += kPieceBytes) {
      parts.push_back({piece.data(), at + done, std::min(kPieceBytes, bytes_of(tensor) - done)});
    }
    at += bytes_of(tensor);
  }
  const unsigned threads = std::clamp(std::thread::hardware_concurrency(), 1U, 8U);
  std::vector<std::future<void>> writers;
  for (unsigned t = 0; t < threads; ++t) {
    writers.push_back(std::async(std::launch::async, [&, t] {
      for (size_t i = t; i < parts.size(); i += threads) {
        write_at(file, parts[i].from, static_cast<size_t>(parts[i].bytes), parts[i].at);
      }
    }));
  }
  for (auto& writer : writers) writer.wait();
  if (close(file) != 0) throw std::runtime_error("the disk does not take the synthetic model");
  for (auto& writer : writers) writer.get();  // throws what the writer threw
  std::filesystem::rename(unfinished, path);
}

}  // namespace chorus::bench
