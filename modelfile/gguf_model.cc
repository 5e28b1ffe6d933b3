#include "modelfile/gguf_model.h"

#include <algorithm>
#include <utility>

#include "modelfile/error.h"
#include "modelfile/json_file.h"
#include "modelfile/mapped_file.h"
#include "modelfile/pre_names.h"
#include "modelfile/tokenizer_file.h"
#include "modelfile/vocabulary_spec.h"

namespace chorus::modelfile {
namespace {

[[noreturn]] void fail(FileError::Kind kind, const Gguf& gguf, const std::string& message) {
  throw FileError(kind, gguf.file_name() + ": " + message);
}

class GgufConfig final : public Config {
 public:
  explicit GgufConfig(const Gguf& gguf) : gguf_(gguf) {
    auto name = gguf_.find_text("general.architecture");
    if (!name || name->empty()) {
      fail(FileError::Kind::corrupt, gguf_, "key general.architecture is missing");
    }
    architecture_ = std::move(*name);
  }

  Format format() const override { return Format::gguf; }
  std::string architecture() const override { return architecture_; }
  std::string source() const override { return gguf_.file_name(); }

  std::optional<int64_t> find_integer(std::string_view, std::string_view gguf) const override {
    return gguf_.find_integer(full_key(gguf));
  }
  std::optional<double> find_number(std::string_view, std::string_view gguf) const override {
    return gguf_.find_number(full_key(gguf));
  }
  std::optional<bool> find_flag(std::string_view, std::string_view gguf) const override {
    return gguf_.find_flag(full_key(gguf));
  }
  std::optional<std::string> find_text(std::string_view, std::string_view gguf) const override {
    return gguf_.find_text(full_key(gguf));
  }
  std::vector<std::string> find_texts(std::string_view, std::string_view gguf) const override {
    return gguf_.find_texts(full_key(gguf)).value_or(std::vector<std::string>{});
  }
  std::vector<double> find_numbers(std::string_view, std::string_view gguf) const override {
    const auto floats = gguf_.find_floats(full_key(gguf)).value_or(std::vector<float>{});
    return {floats.begin(), floats.end()};
  }

 private:
  std::string full_key(std::string_view key) const {
    return key.starts_with('.') ? architecture_ + std::string(key) : std::string(key);
  }

  const Gguf& gguf_;
  std::string architecture_;
};

// A special token's id, held against the vocabulary. Converters write 2^32 - 1 for "none".
std::optional<int32_t> token_id(const Gguf& gguf, std::string_view key, size_t tokens) {
  constexpr int64_t kNone = 0xffffffff;
  const auto id = gguf.find_integer(key);
  if (!id || *id == kNone || *id == -1) return std::nullopt;
  if (*id < 0 || static_cast<uint64_t>(*id) >= tokens) {
    fail(FileError::Kind::corrupt, gguf,
         "key " + std::string(key) + " is " + std::to_string(*id) + ", the vocabulary has " +
             std::to_string(tokens) + " tokens");
  }
  return static_cast<int32_t>(*id);
}

std::vector<TokenKind> token_kinds(const Gguf& gguf, size_t tokens) {
  constexpr std::string_view kKey = "tokenizer.ggml.token_type";
  const auto numbers = gguf.find_integers(kKey);
  if (!numbers) return std::vector<TokenKind>(tokens, TokenKind::normal);
  std::vector<TokenKind> kinds;
  kinds.reserve(numbers->size());
  for (const int64_t number : *numbers) {
    if (number < static_cast<int64_t>(TokenKind::normal) ||
        number > static_cast<int64_t>(TokenKind::byte)) {
      fail(FileError::Kind::corrupt, gguf,
           "key " + std::string(kKey) + " holds the unknown kind " + std::to_string(number));
    }
    kinds.push_back(static_cast<TokenKind>(number));
  }
  return kinds;
}

void expect_one_per_token(const Gguf& gguf, std::string_view key, size_t count, size_t tokens) {
  if (count == tokens) return;
  fail(FileError::Kind::corrupt, gguf,
       "key " + std::string(key) + " has " + std::to_string(count) + " entries for " +
           std::to_string(tokens) + " tokens");
}

void read_special_tokens(const Gguf& gguf, Vocabulary& vocabulary) {
  const size_t tokens = vocabulary.tokens.size();
  vocabulary.bos = token_id(gguf, "tokenizer.ggml.bos_token_id", tokens);
  vocabulary.eos = token_id(gguf, "tokenizer.ggml.eos_token_id", tokens);
  vocabulary.unknown = token_id(gguf, "tokenizer.ggml.unknown_token_id", tokens);
  vocabulary.padding = token_id(gguf, "tokenizer.ggml.padding_token_id", tokens);
  // The first is how the keys' author spelled it.
  vocabulary.separator = token_id(gguf, "tokenizer.ggml.seperator_token_id", tokens);
  if (!vocabulary.separator) {
    vocabulary.separator = token_id(gguf, "tokenizer.ggml.separator_token_id", tokens);
  }
  if (vocabulary.model == "bert") {
    const auto begin = token_id(gguf, "tokenizer.ggml.cls_token_id", tokens);
    if (begin) vocabulary.bos = begin;
    if (vocabulary.separator) vocabulary.eos = vocabulary.separator;
  }
  std::vector<int32_t>& ends = vocabulary.end_of_turn;
  for (const std::string_view key :
       {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"}) {
    if (const auto id = token_id(gguf, key, tokens)) ends.push_back(*id);
  }
  for (const std::string_view key :
       {"tokenizer.ggml.eog_token_id", "tokenizer.ggml.eog_token_ids"}) {
    for (const int64_t id : gguf.find_integers(key).value_or(std::vector<int64_t>{})) {
      if (id < 0 || static_cast<uint64_t>(id) >= tokens) {
        fail(FileError::Kind::corrupt, gguf,
             "key " + std::string(key) + " names token " + std::to_string(id) +
                 ", the vocabulary has " + std::to_string(tokens));
      }
      ends.push_back(static_cast<int32_t>(id));
    }
  }
  std::sort(ends.begin(), ends.end());
  ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
}

// What the tokenizer does where the file does not say.
bool adds_bos_by_default(const Vocabulary& vocabulary) {
  if (vocabulary.model == "gpt2") {
    const NamedPipeline* pipeline = find_pipeline(vocabulary.pre);
    return pipeline != nullptr && pipeline->starts_with_bos;
  }
  return vocabulary.model != "t5";
}

bool adds_eos_by_default(const Vocabulary& vocabulary) {
  return vocabulary.model == "t5" || vocabulary.model == "bert";
}

std::string charsmap(const Gguf& gguf) {
  std::string bytes;
  constexpr std::string_view kKey = "tokenizer.ggml.precompiled_charsmap";
  for (const int64_t byte : gguf.find_integers(kKey).value_or(std::vector<int64_t>{})) {
    bytes.push_back(static_cast<char>(byte));
  }
  return bytes;
}

// A tokenizer.json beside the file says what GGUF cannot carry; it counts where it is this
// vocabulary's: a folder may hold files of several models.
std::optional<TokenizerSpec> tokenizer_beside(const std::filesystem::path& path,
                                              const Vocabulary& vocabulary) {
  const std::filesystem::path folder = std::filesystem::absolute(path).parent_path();
  if (!file_exists(folder / "tokenizer.json")) return std::nullopt;
  TokenizerSpec spec = read_folder_tokenizer(folder);
  std::vector<std::string_view> texts(vocabulary.tokens.size());
  for (size_t id = 0; id < std::min(texts.size(), spec.tokens.size()); ++id) {
    texts[id] = spec.tokens[id];
  }
  for (const AddedToken& added : spec.added) {
    if (static_cast<size_t>(added.id) < texts.size()) {
      texts[static_cast<size_t>(added.id)] = added.content;
    }
  }
  size_t same = 0, known = 0;
  for (size_t id = 0; id < texts.size(); ++id) {
    if (vocabulary.kinds[id] != TokenKind::normal) continue;
    ++known;
    if (texts[id] == vocabulary.tokens[id]) ++same;
  }
  constexpr double kSameShare = 0.99;  // converters respell a few
  if (static_cast<double>(same) < kSameShare * static_cast<double>(known)) return std::nullopt;
  std::vector<int32_t>& ends = spec.end_of_turn;
  ends.insert(ends.end(), vocabulary.end_of_turn.begin(), vocabulary.end_of_turn.end());
  std::sort(ends.begin(), ends.end());
  ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
  spec.embedding_rows =
      std::max(spec.embedding_rows, static_cast<int64_t>(vocabulary.tokens.size()));
  return spec;
}

class GgufModel final : public Model {
 public:
  GgufModel(const std::filesystem::path& path, bool read_tensors)
      : path_(path), file_(path), gguf_(file_.bytes(), path.string()), config_(gguf_config(gguf_)) {
    const int64_t parts = gguf_.find_integer("split.count").value_or(1);
    if (parts > 1) {
      fail(
          FileError::Kind::unsupported, gguf_,
          "is one of " + std::to_string(parts) +
              " parts of a split GGUF, which Chorus does not read yet: join the parts to one file");
    }
    if (read_tensors) return;
    gguf_.drop_tensor_data();
    file_.keep_first(gguf_.data_offset());
  }

  const Config& config() const override { return *config_; }
  const std::vector<Tensor>& tensors() const override { return gguf_.tensors(); }
  const Tensor* find(std::string_view name) const override { return gguf_.find_tensor(name); }
  TokenizerSpec tokenizer() const override {
    const Vocabulary vocabulary = gguf_vocabulary(gguf_);
    if (auto beside = tokenizer_beside(path_, vocabulary)) return std::move(*beside);
    return spec_of(vocabulary, gguf_.file_name());
  }
  ChatTemplates chat_templates() const override { return gguf_chat_templates(gguf_); }
  GenerationDefaults generation_defaults() const override {
    return gguf_generation_defaults(gguf_);
  }
  std::string name() const override {
    auto name = gguf_.find_text("general.name");
    return name && !name->empty() ? std::move(*name) : path_.stem().string();
  }
  std::filesystem::path path() const override { return path_; }

 private:
  std::filesystem::path path_;
  MappedFile file_;
  Gguf gguf_;
  std::unique_ptr<Config> config_;
};

}  // namespace

std::unique_ptr<Config> gguf_config(const Gguf& gguf) {
  return std::make_unique<GgufConfig>(gguf);
}

Vocabulary gguf_vocabulary(const Gguf& gguf) {
  Vocabulary vocabulary;
  auto model = gguf.find_text("tokenizer.ggml.model");
  if (!model) {
    fail(FileError::Kind::corrupt, gguf, "has no vocabulary: key tokenizer.ggml.model is missing");
  }
  vocabulary.model = std::move(*model);
  vocabulary.pre = gguf.find_text("tokenizer.ggml.pre").value_or("");

  auto tokens = gguf.find_texts("tokenizer.ggml.tokens");
  if (!tokens || tokens->empty()) {
    fail(FileError::Kind::corrupt, gguf, "key tokenizer.ggml.tokens is missing or empty");
  }
  vocabulary.tokens = std::move(*tokens);
  const size_t count = vocabulary.tokens.size();
  if (count > static_cast<size_t>(INT32_MAX)) {
    fail(FileError::Kind::corrupt, gguf, "key tokenizer.ggml.tokens has too many tokens");
  }
  if (auto scores = gguf.find_floats("tokenizer.ggml.scores")) {
    expect_one_per_token(gguf, "tokenizer.ggml.scores", scores->size(), count);
    vocabulary.scores = std::move(*scores);
  }
  vocabulary.kinds = token_kinds(gguf, count);
  expect_one_per_token(gguf, "tokenizer.ggml.token_type", vocabulary.kinds.size(), count);
  vocabulary.merges = gguf.find_texts("tokenizer.ggml.merges").value_or(std::vector<std::string>{});
  read_special_tokens(gguf, vocabulary);
  vocabulary.add_bos =
      gguf.find_flag("tokenizer.ggml.add_bos_token").value_or(adds_bos_by_default(vocabulary));
  vocabulary.add_eos =
      gguf.find_flag("tokenizer.ggml.add_eos_token").value_or(adds_eos_by_default(vocabulary));
  vocabulary.add_space_prefix = gguf.find_flag("tokenizer.ggml.add_space_prefix");
  vocabulary.charsmap = charsmap(gguf);
  vocabulary.lowercase = gguf.find_flag("tokenizer.ggml.normalizer.lowercase");
  vocabulary.strip_accents = gguf.find_flag("tokenizer.ggml.normalizer.strip_accents");
  vocabulary.architecture = gguf.find_text("general.architecture").value_or("");
  vocabulary.model_name = gguf.find_text("general.name").value_or("");
  return vocabulary;
}

GenerationDefaults gguf_generation_defaults(const Gguf& gguf) {
  GenerationDefaults defaults;
  defaults.temperature = gguf.find_number("general.sampling.temp");
  defaults.top_p = gguf.find_number("general.sampling.top_p");
  defaults.top_k = gguf.find_integer("general.sampling.top_k");
  return defaults;
}

std::unique_ptr<Model> open_gguf_model(const std::filesystem::path& path, bool read_tensors) {
  return std::make_unique<GgufModel>(path, read_tensors);
}

}  // namespace chorus::modelfile
