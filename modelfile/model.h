// A model on disk, opened: a Hugging Face folder (config.json, *.safetensors, tokenizer files) or
// a GGUF file, behind one set of questions. Opening maps files and checks every offset, size and
// count against them before anything is read (a model file is input from outside); nothing is
// copied but names and metadata. Immutable after opening, so any thread may read.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "modelfile/chat_templates.h"
#include "modelfile/tensor.h"
#include "modelfile/tokenizer_spec.h"

namespace chorus::modelfile {

enum class Format : uint8_t { gguf, safetensors };

// The numbers of config.json or of GGUF's metadata, behind one look-up by both names. A GGUF key
// that starts with '.' is prefixed by the architecture: ".block_count" reads "llama.block_count".
// config.json keys may be paths ("rope_scaling.factor"); for multimodal folders "text_config" is
// looked into as well. Each look-up throws FileError naming file and key where the value has the
// wrong type; the ones without a default also where it is missing.
class Config {
 public:
  virtual ~Config() = default;
  virtual Format format() const = 0;
  virtual std::string architecture() const = 0;  // "LlamaForCausalLM", or GGUF's "llama"
  virtual std::string source() const;            // the file it came from, for messages
  virtual std::optional<int64_t> find_integer(std::string_view hf, std::string_view gguf) const = 0;
  virtual std::optional<double> find_number(std::string_view hf, std::string_view gguf) const = 0;
  virtual std::optional<bool> find_flag(std::string_view hf, std::string_view gguf) const = 0;
  virtual std::optional<std::string> find_text(std::string_view hf,
                                               std::string_view gguf) const = 0;
  virtual std::vector<std::string> find_texts(std::string_view hf, std::string_view gguf) const = 0;
  virtual std::vector<double> find_numbers(std::string_view hf, std::string_view gguf) const = 0;

  int64_t integer(std::string_view hf, std::string_view gguf) const;
  double number(std::string_view hf, std::string_view gguf) const;
};

// A GGUF file's vocabulary, as its tokenizer.ggml.* keys have it. `model` is "gpt2" for byte-level
// BPE with merges, "llama" for SentencePiece-style BPE with scores, "gemma4" for the same with
// merges, "t5" for Unigram, "bert" for WordPiece.
enum class TokenKind : uint8_t { normal = 1, unknown, control, user_defined, unused, byte };

struct Vocabulary {
  std::string model;
  std::string pre;  // the pre-tokenizer's name: "qwen2", "smollm", ...
  std::vector<std::string> tokens;
  std::vector<float> scores;        // empty, or one a token
  std::vector<TokenKind> kinds;     // one a token
  std::vector<std::string> merges;  // "left right"
  std::string charsmap;             // SentencePiece's normalizer, for "t5"
  std::optional<int32_t> bos, eos, unknown, padding, separator;
  std::vector<int32_t> end_of_turn;  // eot, eom, eog ids that the file names
  bool add_bos = false, add_eos = false;
  std::optional<bool> add_space_prefix;          // absent where the file does not say
  std::optional<bool> lowercase, strip_accents;  // of "bert"'s normalizer
  // Token attributes that GGUF does not carry go by these.
  std::string architecture, model_name;
};

// generation_config.json, or GGUF's "general.sampling.*" keys; fields the model does not bring
// stay empty.
struct GenerationDefaults {
  std::optional<double> temperature, top_p;
  std::optional<int64_t> top_k;
  std::optional<bool> do_sample;
  std::vector<int32_t> eos;
};

class Model {
 public:
  virtual ~Model() = default;
  virtual const Config& config() const = 0;
  virtual const std::vector<Tensor>& tensors() const = 0;
  virtual const Tensor* find(std::string_view name) const = 0;  // nullptr where absent
  const Tensor& tensor(std::string_view name) const;            // throws FileError(corrupt)

  // Throws FileError where the tokenizer is missing, damaged or of a kind that is not known.
  virtual TokenizerSpec tokenizer() const = 0;
  virtual ChatTemplates chat_templates() const = 0;
  virtual GenerationDefaults generation_defaults() const = 0;

  virtual std::string name() const = 0;            // for people: general.name or the folder's name
  virtual std::filesystem::path path() const = 0;  // as opened
};

// Opens a folder or a .gguf file. Throws FileError. `read_tensors = false` leaves the tensor data
// unmapped (the router wants the text side alone).
std::unique_ptr<Model> open_model(const std::filesystem::path& path, bool read_tensors = true);

}  // namespace chorus::modelfile
