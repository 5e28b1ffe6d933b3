// Reads tests/reference/families/<name>.json (families.py describes the format), computes the tiny
// model's weights and writes it as a folder of safetensors or as a GGUF file.
#pragma once

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "kernels/half.h"
#include "tests/modelfile/gguf_writer.h"
#include "tests/modelfile/safetensors_writer.h"

namespace chorus::tests {

class TinyModel {
 public:
  explicit TinyModel(const std::filesystem::path& golden) {
    std::ifstream file(golden);
    json_ = nlohmann::json::parse(file);
    for (const auto& entry : json_["tensors"]) {
      Values& values = tensors_[entry[0]];
      values.shape = entry[1].get<std::vector<uint64_t>>();
      fill(values, entry[0], entry[2], entry[3]);
    }
  }

  // All of them, by the name of their file.
  static std::map<std::string, std::filesystem::path> list() {
    std::map<std::string, std::filesystem::path> files;
    const std::filesystem::path folder =
        std::string(CHORUS_SOURCE_DIR) + "/tests/reference/families";
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      files[entry.path().stem()] = entry.path();
    }
    return files;
  }

  const nlohmann::json& json() const { return json_; }
  bool has_gguf() const { return json_.contains("gguf"); }
  int64_t context() const { return json_["context"]; }
  std::vector<int32_t> prompt() const { return json_["prompt"]; }
  std::vector<int64_t> positions() const { return json_["positions"]; }
  std::vector<std::vector<float>> logits(bool bf16) const {
    return json_["logits"][bf16 ? "bf16" : "f32"];
  }
  // How far transformers is off when it computes in bf16, as a part of the largest logit.
  double bf16_noise() const { return json_["bf16_noise"]; }

  using Rename = std::function<std::string(const std::string&)>;
  void save_folder(
      const std::filesystem::path& folder, bool bf16,
      const Rename& rename = [](const std::string& name) { return name; }) const {
    nlohmann::json header;
    std::string data;
    for (const auto& [name, values] : tensors_) {
      std::string bytes;
      for (const float value : values.floats) {
        bytes +=
            bf16 ? test::little_endian(kernels::f32_to_bf16(value)) : test::little_endian(value);
      }
      header[rename(name)] = {{"dtype", bf16 ? "BF16" : "F32"},
                              {"shape", values.shape},
                              {"data_offsets", {data.size(), data.size() + bytes.size()}}};
      data += bytes;
    }
    std::filesystem::create_directories(folder);
    test::save(folder / "model.safetensors", test::safetensors(header.dump(), data));
    test::save(folder / "config.json", json_["config"].dump());
  }

  void save_gguf(const std::filesystem::path& path) const {
    const auto& gguf = json_["gguf"];
    test::GgufWriter writer;
    writer.text("general.architecture", gguf["architecture"]);
    for (const auto& [key, value] : gguf["metadata"].items()) {
      if (value.is_string()) {
        writer.text(key, value);
      } else if (value.is_number_integer()) {
        writer.u32(key, value);
      } else {
        writer.f32(key, value);
      }
    }
    for (const auto& [name, recipe] : gguf["tensors"].items()) {
      const Values values = converted(recipe);
      std::string bytes;
      for (const float value : values.floats) bytes += test::little_endian(value);
      writer.tensor(name, test::GgufWriter::kF32, values.shape, bytes);
    }
    test::save(path, writer.bytes());
  }

 private:
  struct Values {
    std::vector<uint64_t> shape;
    std::vector<float> floats;
    uint64_t rows() const { return shape[shape.size() - 2]; }
    uint64_t cols() const { return shape.back(); }
    // Of all matrices together, where there are several.
    uint64_t count() const { return floats.size() / (rows() * cols()); }
  };

  static void fill(Values& values, const std::string& name, double base, double amplitude) {
    uint64_t state = 0xcbf29ce484222325;
    for (const char c : name) state = (state ^ static_cast<uint8_t>(c)) * 0x100000001b3;
    uint64_t count = 1;
    for (const uint64_t size : values.shape) count *= size;
    for (uint64_t i = 0; i < count; ++i) {
      uint64_t x = state + i + 0x9e3779b97f4a7c15;
      x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
      x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
      x ^= x >> 31;
      const auto steps = static_cast<double>(static_cast<int64_t>(x >> 40) - (1 << 23));
      values.floats.push_back(static_cast<float>(base + amplitude * (steps / (1 << 23))));
    }
  }

  static Values transposed(const Values& from) {
    Values to{from.shape, std::vector<float>(from.floats.size())};
    std::swap(to.shape[to.shape.size() - 1], to.shape[to.shape.size() - 2]);
    const uint64_t rows = from.rows(), cols = from.cols();
    for (uint64_t i = 0; i < from.floats.size(); ++i) {
      const uint64_t matrix = i / (rows * cols), row = i / cols % rows, col = i % cols;
      to.floats[(matrix * cols + col) * rows + row] = from.floats[i];
    }
    return to;
  }

  static Values rows_of(const Values& from, uint64_t begin, uint64_t end) {
    Values to{from.shape, {}};
    to.shape[to.shape.size() - 2] = end - begin;
    for (uint64_t matrix = 0; matrix < from.count(); ++matrix) {
      const auto at =
          from.floats.begin() + static_cast<int64_t>(matrix * from.rows() * from.cols());
      to.floats.insert(to.floats.end(), at + static_cast<int64_t>(begin * from.cols()),
                       at + static_cast<int64_t>(end * from.cols()));
    }
    return to;
  }

  // GGUF's order of a head's rows: one of the first half beside one of the second.
  static Values permuted(const Values& from, uint64_t head_dim) {
    Values to = from;
    const uint64_t cols = from.cols(), half = head_dim / 2;
    for (uint64_t row = 0; row < from.rows(); ++row) {
      const uint64_t head = row / head_dim, i = row % head_dim;
      const uint64_t at = head * head_dim + (i < half ? 2 * i : 2 * (i - half) + 1);
      std::copy_n(from.floats.begin() + static_cast<int64_t>(row * cols), cols,
                  to.floats.begin() + static_cast<int64_t>(at * cols));
    }
    return to;
  }

  Values converted(const nlohmann::json& recipe) const {
    Values values;
    if (recipe.contains("values")) {
      values.floats = recipe["values"].get<std::vector<float>>();
      values.shape = {values.floats.size()};
      return values;
    }
    for (const std::string name : recipe["from"]) {
      const Values& part = tensors_.at(name);
      if (values.shape.empty()) values.shape = part.shape;
      values.floats.insert(values.floats.end(), part.floats.begin(), part.floats.end());
    }
    if (recipe.contains("stacked"))
      values.shape.insert(values.shape.begin(), recipe["from"].size());
    if (recipe.contains("transposed")) values = transposed(values);
    if (recipe.contains("rows")) values = rows_of(values, recipe["rows"][0], recipe["rows"][1]);
    if (recipe.contains("permuted")) values = permuted(values, recipe["permuted"]);
    if (recipe.contains("add")) {
      for (float& value : values.floats) value += recipe["add"].get<float>();
    }
    return values;
  }

  nlohmann::json json_;
  std::map<std::string, Values> tensors_;
};

}  // namespace chorus::tests
