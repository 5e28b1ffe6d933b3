#include "bench/synthetic_model.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <stdexcept>
#include <thread>
#include <vector>

#include "kernels/half.h"

namespace chorus::bench {
namespace {

constexpr size_t kPieceElements = size_t{8} << 20;

struct NamedShape {
  std::string name;
  std::vector<int64_t> shape;
  bool ones = false;
};

std::vector<NamedShape> tensors_of(const SyntheticShape& s) {
  const int64_t q = s.heads * s.head_dim, kv = s.kv_heads * s.head_dim;
  std::vector<NamedShape> all = {{"model.embed_tokens.weight", {s.vocab, s.hidden}}};
  for (int64_t layer = 0; layer < s.layers; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    const NamedShape of_layer[] = {{"input_layernorm.weight", {s.hidden}, true},
                                   {"self_attn.q_proj.weight", {q, s.hidden}},
                                   {"self_attn.k_proj.weight", {kv, s.hidden}},
                                   {"self_attn.v_proj.weight", {kv, s.hidden}},
                                   {"self_attn.o_proj.weight", {s.hidden, q}},
                                   {"post_attention_layernorm.weight", {s.hidden}, true},
                                   {"mlp.gate_proj.weight", {s.ffn, s.hidden}},
                                   {"mlp.up_proj.weight", {s.ffn, s.hidden}},
                                   {"mlp.down_proj.weight", {s.hidden, s.ffn}}};
    for (const NamedShape& tensor : of_layer) {
      all.push_back({prefix + tensor.name, tensor.shape, tensor.ones});
    }
  }
  all.push_back({"model.norm.weight", {s.hidden}, true});
  all.push_back({"lm_head.weight", {s.vocab, s.hidden}});
  return all;
}

int64_t bytes_of(const NamedShape& tensor) {
  int64_t count = 2;
  for (const int64_t size : tensor.shape) count *= size;
  return count;
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
  if (name == "llama-8b") return {name, 4096, 32, 32, 8, 128, 14336, 128256, 16384};
  if (name == "llama-1b") return {name, 2048, 16, 32, 8, 64, 8192, 128256, 16384};
  if (name == "tiny") return {name, 256, 2, 4, 2, 64, 512, 1024, 2048};
  throw std::invalid_argument("no synthetic shape is called \"" + name +
                              "\"; there are llama-8b, llama-1b, tiny");
}

void write_synthetic_model(const std::filesystem::path& folder, const SyntheticShape& s) {
  std::filesystem::create_directories(folder);
  const nlohmann::json config = {{"architectures", {"LlamaForCausalLM"}},
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
  std::ofstream(folder / "config.json") << config.dump(2);

  const auto tensors = tensors_of(s);
  auto header = nlohmann::json::object();
  int64_t end = 0;
  for (const NamedShape& tensor : tensors) {
    const int64_t begin = end;
    end += bytes_of(tensor);
    header[tensor.name] = {{"dtype", "BF16"}, {"shape", tensor.shape}};
    header[tensor.name]["data_offsets"] = nlohmann::json::array({begin, end});
  }
  std::string text = header.dump();
  text.resize((text.size() + 63) / 64 * 64, ' ');
  const auto size = static_cast<uint64_t>(text.size());
  const int64_t data = 8 + static_cast<int64_t>(size);

  const std::filesystem::path path = folder / "model.safetensors";
  const int file = open(path.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
  if (file < 0) throw std::runtime_error("cannot write " + path.string());
  write_at(file, &size, sizeof size, 0);
  write_at(file, text.data(), text.size(), sizeof size);

  std::vector<uint16_t> piece(kPieceElements);
  std::mt19937_64 random(1);
  std::normal_distribution<float> normal(0, 0.02F);
  // A prime number of draws, repeated: neighbouring rows differ.
  std::vector<uint16_t> draws(1'048'573);
  for (uint16_t& draw : draws) draw = kernels::f32_to_bf16(normal(random));
  for (size_t i = 0; i < piece.size(); ++i) piece[i] = draws[i % draws.size()];
  const auto piece_bytes = static_cast<int64_t>(piece.size() * 2);

  const unsigned threads = std::clamp(std::thread::hardware_concurrency(), 1U, 8U);
  std::vector<std::thread> writers;
  for (unsigned t = 0; t < threads; ++t) {
    writers.emplace_back([&, t] {
      const int64_t total_pieces = (end + piece_bytes - 1) / piece_bytes;
      for (int64_t i = t; i < total_pieces; i += threads) {
        const int64_t at = i * piece_bytes;
        write_at(file, piece.data(), static_cast<size_t>(std::min(piece_bytes, end - at)),
                 data + at);
      }
    });
  }
  for (std::thread& writer : writers) writer.join();
  int64_t at = data;
  for (const NamedShape& tensor : tensors) {
    const int64_t bytes = bytes_of(tensor);
    if (tensor.ones) {
      const std::vector<uint16_t> ones(static_cast<size_t>(bytes / 2), kernels::f32_to_bf16(1));
      write_at(file, ones.data(), static_cast<size_t>(bytes), at);
    }
    at += bytes;
  }
  close(file);
}

}  // namespace chorus::bench
