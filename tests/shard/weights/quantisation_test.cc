// Quantised Hugging Face folders: a tiny random model in each layout, beside twins that hold the
// same weights dequantised, in f32 and rounded to bf16.
#include "shard/weights/quantisation.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <map>
#include <random>

#include "modelfile/error.h"
#include "tests/kernels/scaled_weights.h"
#include "tests/modelfile/safetensors_writer.h"
#include "tests/modelfile/scratch_folder.h"
#include "tests/shard/local_group.h"

using namespace chorus;
using namespace chorus::tests;
using kernels::WeightType;

namespace {

constexpr int kHidden = 128, kHeads = 4, kKvHeads = 2, kHeadDim = 32, kFfn = 384, kVocab = 64;

struct Layout {
  const char* name;
  const char* config;  // quantization_config
  ScaledShape shape;   // of every linear layer, without its rows and columns
};

const std::vector<Layout>& layouts() {
  using enum WeightType;
  static const std::vector<Layout> all = {
      {"gptq",
       R"({"quant_method":"gptq","bits":4,"group_size":64,"desc_act":false,"sym":false})",
       {.type = i4_gptq, .group_cols = 64, .scale_type = f16, .zeros = true}},
      {"gptq in act order",
       R"({"quant_method":"gptq","bits":4,"group_size":32,"desc_act":true,"sym":true})",
       {.type = i4_gptq, .group_cols = 32, .scale_type = f16, .zeros = true, .act_order = true}},
      {"awq",
       R"({"quant_method":"awq","bits":4,"group_size":128,"version":"gemm","zero_point":true})",
       {.type = i4_awq, .group_cols = 128, .scale_type = f16, .zeros = true}},
      {"fp8 by block",
       R"({"quant_method":"fp8","fmt":"e4m3","weight_block_size":[128,128]})",
       {.group_rows = 128, .group_cols = 128}},
      {"fp8",
       R"({"quant_method":"fp8","activation_scheme":"static"})",
       {.group_rows = 0, .group_cols = 0}},
      {"compressed-tensors, fp8 by channel",
       R"({"quant_method":"compressed-tensors","format":"float-quantized","config_groups":{
          "group_0":{"weights":{"num_bits":8,"type":"float","strategy":"channel"}}}})",
       {.group_cols = 0, .scale_type = bf16}},
      {"compressed-tensors, 4 bits",
       R"({"quant_method":"compressed-tensors","format":"pack-quantized","config_groups":{
          "group_0":{"weights":{"num_bits":4,"type":"int","strategy":"group","group_size":128}}}})",
       {.type = i4_packed, .group_cols = 128, .scale_type = bf16, .zeros = true}},
      {"compressed-tensors, 8 bits by channel",
       R"({"quant_method":"compressed-tensors","format":"int-quantized","config_groups":{
          "group_0":{"weights":{"num_bits":8,"type":"int","strategy":"channel","symmetric":true},
          "input_activations":{"num_bits":8,"type":"int","dynamic":true}}}})",
       {.type = i8, .group_cols = 0, .scale_type = bf16}},
      {"compressed-tensors, 8 bits",
       R"({"quant_method":"compressed-tensors","format":"int-quantized","config_groups":{
          "group_0":{"weights":{"num_bits":8,"type":"int","strategy":"tensor"}}}})",
       {.type = i8, .group_rows = 0, .group_cols = 0}},
      {"compressed-tensors, 8 bits in words",
       R"({"quant_method":"compressed-tensors","format":"pack-quantized","config_groups":{
          "group_0":{"weights":{"num_bits":8,"type":"int","strategy":"group","group_size":128}}}})",
       {.type = u8, .group_cols = 128, .scale_type = f16}},
  };
  return all;
}

// Tensors of one safetensors file.
class Tensors {
 public:
  void add(const std::string& name, const std::string& type, const std::vector<int64_t>& shape,
           const void* data, size_t bytes) {
    std::string sizes;
    for (const int64_t size : shape) sizes += (sizes.empty() ? "" : ",") + std::to_string(size);
    entries_[name] = "\"dtype\":\"" + type + "\",\"shape\":[" + sizes + "],\"data_offsets\":[" +
                     std::to_string(data_.size()) + "," + std::to_string(data_.size() + bytes) +
                     "]";
    data_.append(static_cast<const char*>(data), bytes);
  }
  template <class T>
  void add(const std::string& name, const std::string& type, const std::vector<int64_t>& shape,
           const std::vector<T>& values) {
    add(name, type, shape, values.data(), values.size() * sizeof(T));
  }
  std::string file() const {
    std::string header = "{\"__metadata__\":{}";
    for (const auto& [name, entry] : entries_) header += ",\"" + name + "\":{" + entry + "}";
    header += "}";
    header.resize((header.size() + 7) / 8 * 8, ' ');
    return test::safetensors(header, data_);
  }

 private:
  std::map<std::string, std::string> entries_;
  std::string data_;
};

std::string scale_dtype(const ScaledShape& shape) {
  return shape.scale_type == WeightType::f32   ? "F32"
         : shape.scale_type == WeightType::f16 ? "F16"
                                               : "BF16";
}

void add_scaled(Tensors& to, const std::string& layer, const Layout& layout,
                const ScaledMatrix& matrix) {
  const ScaledShape& shape = matrix.shape();
  const int64_t rows = shape.rows, cols = shape.cols, groups = matrix.col_groups();
  switch (shape.type) {
    case WeightType::i4_gptq:
      to.add(layer + ".qweight", "I32", {cols / 8, rows}, matrix.words());
      to.add(layer + ".g_idx", "I32", {cols}, matrix.group_of());
      to.add(layer + ".qzeros", "I32", {groups, rows / 8}, matrix.zero_words());
      to.add(layer + ".scales", scale_dtype(shape), {groups, rows}, matrix.scale_bytes());
      return;
    case WeightType::i4_awq:
      to.add(layer + ".qweight", "I32", {cols, rows / 8}, matrix.words());
      to.add(layer + ".qzeros", "I32", {groups, rows / 8}, matrix.zero_words());
      to.add(layer + ".scales", scale_dtype(shape), {groups, rows}, matrix.scale_bytes());
      return;
    case WeightType::i4_packed:
      to.add(layer + ".weight_packed", "I32", {rows, cols / 8}, matrix.words());
      to.add(layer + ".weight_shape", "I64", {2}, std::vector<int64_t>{rows, cols});
      to.add(layer + ".weight_zero_point", "I32", {rows / 8, groups}, matrix.zero_words());
      to.add(layer + ".weight_scale", scale_dtype(shape), {rows, groups}, matrix.scale_bytes());
      return;
    case WeightType::i8:
      to.add(layer + ".weight", "I8", {rows, cols}, matrix.codes());
      to.add(layer + ".weight_scale", scale_dtype(shape),
             shape.group_rows == 0 ? std::vector<int64_t>{1} : std::vector<int64_t>{rows, groups},
             matrix.scale_bytes());
      return;
    case WeightType::u8:
      to.add(layer + ".weight_packed", "I32", {rows, cols / 4}, matrix.codes());
      to.add(layer + ".weight_shape", "I64", {2}, std::vector<int64_t>{rows, cols});
      to.add(layer + ".weight_scale", scale_dtype(shape), {rows, groups}, matrix.scale_bytes());
      return;
    default:
      to.add(layer + ".weight", "F8_E4M3", {rows, cols}, matrix.codes());
      if (shape.group_rows > 1) {
        to.add(layer + ".weight_scale_inv", "F32", {(rows + 127) / 128, groups},
               matrix.scale_bytes());
      } else if (shape.group_rows == 1) {
        to.add(layer + ".weight_scale", scale_dtype(shape), {rows, 1}, matrix.scale_bytes());
      } else {
        to.add(layer + ".weight_scale", "F32", {}, matrix.scale_bytes());
      }
      (void)layout;
  }
}

void write_folder(const std::filesystem::path& folder, const Tensors& tensors,
                  const std::string& quantisation) {
  std::filesystem::create_directory(folder);
  test::save(folder / "model.safetensors", tensors.file());
  std::string config = R"({"architectures":["LlamaForCausalLM"],"hidden_size":128,
      "num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":2,"head_dim":32,
      "intermediate_size":384,"max_position_embeddings":128,"rms_norm_eps":1e-5,
      "rope_theta":10000,"vocab_size":64)";
  if (!quantisation.empty()) config += ",\"quantization_config\":" + quantisation;
  test::save(folder / "config.json", config + "}");
}

// folder/quantised and its twins folder/plain and folder/rounded.
void write_twins(const std::filesystem::path& folder, const Layout& layout) {
  Tensors quantised, plain, rounded;
  std::mt19937 random(3);
  const auto plain_tensor = [&](const std::string& name, std::vector<int64_t> shape, float base) {
    int64_t count = 1;
    for (const int64_t size : shape) count *= size;
    std::vector<float> values(static_cast<size_t>(count));
    for (float& value : values) value = base + static_cast<float>(random() % 257) / 256 - 0.5F;
    quantised.add(name, "F32", shape, values);
    plain.add(name, "F32", shape, values);
    rounded.add(name, "F32", shape, values);
  };
  uint32_t seed = 1;
  const auto linear = [&](const std::string& layer, int64_t rows, int64_t cols) {
    ScaledShape shape = layout.shape;
    shape.rows = rows;
    shape.cols = cols;
    shape.seed = seed++;
    // As large as trained weights are: a random net of larger ones amplifies every rounding.
    shape.scale_min = shape.type == WeightType::f8_e4m3                              ? 0.0001F
                      : shape.type == WeightType::i8 || shape.type == WeightType::u8 ? 0.0003F
                                                                                     : 0.002F;
    const ScaledMatrix matrix(shape);
    add_scaled(quantised, layer, layout, matrix);
    std::vector<float> values;
    std::vector<uint16_t> halves;
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < cols; ++c) values.push_back(static_cast<float>(matrix.at(r, c)));
    }
    for (const float value : values) halves.push_back(kernels::f32_to_bf16(value));
    plain.add(layer + ".weight", "F32", {rows, cols}, values);
    rounded.add(layer + ".weight", "BF16", {rows, cols}, halves);
  };
  plain_tensor("model.embed_tokens.weight", {kVocab, kHidden}, 0);
  plain_tensor("model.norm.weight", {kHidden}, 1);
  plain_tensor("lm_head.weight", {kVocab, kHidden}, 0);  // left alone, as most checkpoints do
  for (int i = 0; i < 2; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    plain_tensor(layer + "input_layernorm.weight", {kHidden}, 1);
    plain_tensor(layer + "post_attention_layernorm.weight", {kHidden}, 1);
    linear(layer + "self_attn.q_proj", kHeads * kHeadDim, kHidden);
    linear(layer + "self_attn.k_proj", kKvHeads * kHeadDim, kHidden);
    linear(layer + "self_attn.v_proj", kKvHeads * kHeadDim, kHidden);
    linear(layer + "self_attn.o_proj", kHidden, kHeads * kHeadDim);
    linear(layer + "mlp.gate_proj", kFfn, kHidden);
    linear(layer + "mlp.up_proj", kFfn, kHidden);
    linear(layer + "mlp.down_proj", kHidden, kFfn);
  }
  write_folder(folder / "quantised", quantised, layout.config);
  write_folder(folder / "plain", plain, "");
  write_folder(folder / "rounded", rounded, "");
}

std::vector<float> logits_of(const std::filesystem::path& path, GroupOptions options) {
  options.limits = {.slots = 2, .step_tokens_max = 64, .context_max = 128};
  options.kv_tokens = 256;
  const auto model = modelfile::open_model(path);
  LocalGroup group(*model, options);
  step::Row row{.slot = 0, .start = step::NewSequence{.sequence = 1}};
  for (int i = 0; i < 12; ++i) row.tokens.push_back(i * 7 % kVocab);
  row.sample = true;
  int64_t held = 0;
  group.add_blocks(row, held, 12);
  group.execute({.number = 0, .rows = {row}});
  return group.logits(0);
}

double worst(const std::vector<float>& a, const std::vector<float>& b) {
  double most = 0, largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    most = std::max(most, std::abs(static_cast<double>(a[i]) - b[i]));
    largest = std::max(largest, std::abs(static_cast<double>(b[i])));
  }
  return most / largest;
}

// For the emulated backend, where the build has it.
[[maybe_unused]] int64_t top(const std::vector<float>& logits) {
  return std::max_element(logits.begin(), logits.end()) - logits.begin();
}

std::string refusal_of(const std::filesystem::path& path) {
  try {
    logits_of(path, {.reference = true});
  } catch (const modelfile::FileError& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("a quantised folder gives the logits of its dequantised twin") {
  for (const Layout& layout : layouts()) {
    INFO(layout.name);
    test::ScratchFolder folder;
    write_twins(folder.path(), layout);
    const auto expected = logits_of(folder.path() / "plain", {.reference = true});
    const auto path = folder.path() / "quantised";
    CHECK(logits_of(path, {.reference = true}) == expected);
    CHECK(worst(logits_of(path, {.ranks = 2, .reference = true}), expected) < 1e-4);
    // The CPU backend packs as bf16, which may already turn a close choice of this net.
    const auto on_cpu = logits_of(path, {});
    CHECK(on_cpu == logits_of(folder.path() / "rounded", {}));
    CHECK(worst(on_cpu, expected) < 3e-2);
#ifdef CHORUS_HAS_EMULATION
    for (const auto operand : {kernels::DType::f32, kernels::DType::bf16}) {
      const auto emulated = logits_of(path, {.make_ops = [&](const kernels::CpuOptions&) {
                                        return kernels::make_emulated_ops({.operand = operand});
                                      }});
      CHECK(top(emulated) == top(expected));
      CHECK(worst(emulated, expected) < (operand == kernels::DType::f32 ? 1e-4 : 3e-2));
    }
#endif
  }
}

TEST_CASE("what a quantised folder lacks or contradicts is refused by name") {
  test::ScratchFolder folder;
  write_twins(folder.path(), layouts()[0]);
  const auto path = folder.path() / "quantised";
  const auto with = [&](const std::string& name, const std::string& type,
                        const std::vector<int64_t>& shape, size_t bytes) {
    // The first layer's query weights alone: they are read first.
    Tensors tensors;
    const std::string layer = "model.layers.0.self_attn.q_proj.";
    const std::vector<char> zeros(1 << 16);
    const auto put = [&](const std::string& part, const char* as, std::vector<int64_t> sizes,
                         size_t size) {
      if (part == name && type.empty()) return;  // left out
      if (part == name) return tensors.add(layer + part, type, shape, zeros.data(), bytes);
      tensors.add(layer + part, as, sizes, zeros.data(), size);
    };
    tensors.add("model.embed_tokens.weight", "F32", {kVocab, kHidden}, zeros.data(),
                kVocab * kHidden * 4);
    tensors.add("model.layers.0.input_layernorm.weight", "F32", {kHidden}, zeros.data(),
                kHidden * 4);
    put("qweight", "I32", {16, 128}, 16 * 128 * 4);
    put("qzeros", "I32", {2, 16}, 2 * 16 * 4);
    put("scales", "F16", {2, 128}, 2 * 128 * 2);
    write_folder(path, tensors, layouts()[0].config);
    return refusal_of(path);
  };
  using Catch::Matchers::Contains;
  CHECK_THAT(with("scales", "", {}, 0), Contains("q_proj.scales is missing"));
  CHECK_THAT(with("qzeros", "", {}, 0), Contains("q_proj.qzeros is missing"));
  CHECK_THAT(with("scales", "F16", {1, 128}, 256),
             Contains("q_proj.scales is f16 [1, 128], expected shape [2, 128]"));
  CHECK_THAT(with("qzeros", "F32", {2, 16}, 128),
             Contains("q_proj.qzeros is f32 [2, 16], expected i32 [2, 16]"));
  CHECK_THAT(with("qweight", "I32", {8, 128}, 8 * 128 * 4), Contains("q_proj"));
}

TEST_CASE("a quantisation that Chorus does not read is refused by its key") {
  test::ScratchFolder folder;
  const auto refused = [&](const std::string& config) {
    write_folder(folder.path() / "model", Tensors(), config);
    const auto model = modelfile::open_model(folder.path() / "model", false);
    try {
      weights::read_quantisation(model->config());
    } catch (const modelfile::FileError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  using Catch::Matchers::Contains;
  CHECK_THAT(refused(R"({"quant_method":"bitsandbytes"})"),
             Contains("quantization_config.quant_method is bitsandbytes"));
  CHECK_THAT(refused(R"({"quant_method":"gptq","bits":8})"),
             Contains("quantization_config.bits is 8, which Chorus does not read; 4 it does"));
  CHECK_THAT(refused(R"({"quant_method":"awq","bits":4,"version":"gemv"})"),
             Contains("quantization_config.version is gemv"));
  CHECK_THAT(refused(R"({"quant_method":"gptq","bits":4,"checkpoint_format":"marlin"})"),
             Contains("checkpoint_format is marlin"));
  CHECK_THAT(refused(R"({"quant_method":"compressed-tensors","format":"marlin-24",
                         "config_groups":{"group_0":{"weights":{"num_bits":8,"type":"int"}}}})"),
             Contains("format is marlin-24"));
  CHECK_THAT(refused(R"({"quant_method":"compressed-tensors","format":"int-quantized",
                         "config_groups":{"group_0":{"weights":{"num_bits":4,"type":"int"}}}})"),
             Contains("weights.type is int of 4 bits, which Chorus does not read; int of 8 bits"));
  CHECK_THAT(refused(R"({"quant_method":"compressed-tensors","format":"int-quantized",
                         "config_groups":{"group_0":{"weights":{"num_bits":8,"type":"int",
                         "strategy":"block"}}}})"),
             Contains("weights.strategy is block, which Chorus does not read; tensor, channel"));
  CHECK_THAT(
      refused(R"({"quant_method":"compressed-tensors","format":"int-quantized",
                         "config_groups":{"group_0":{"weights":{"num_bits":8,"type":"int",
                         "symmetric":false}}}})"),
      Contains("weights.symmetric is false, which Chorus does not read; 8 bits with true it does"));
  CHECK(refused(R"({"quant_method":"gptq","bits":4})").empty());
}

TEST_CASE("what --quantize says must be what the checkpoint is") {
  test::ScratchFolder folder;
  const auto check = [&](const std::string& config, const std::string& wanted) {
    write_folder(folder.path() / "model", Tensors(), config);
    const auto model = modelfile::open_model(folder.path() / "model", false);
    try {
      weights::check_quantize(wanted, *model);
    } catch (const std::invalid_argument& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  const std::string gptq = R"({"quant_method":"gptq","bits":4})";
  CHECK(check(gptq, "").empty());
  CHECK(check(gptq, "gptq").empty());
  CHECK(check(gptq, "marlin").empty());
  CHECK(check(gptq, "awq") ==
        "--quantize awq: the checkpoint is quantised by gptq; leave the flag away or name that");
  CHECK(check("", "").empty());
  CHECK(check("", "eetq").find("--quantize eetq: the checkpoint is not quantised") == 0);
}
