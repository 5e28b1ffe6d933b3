// Added tokens get their ids as the reference implementation gives them: that of the model's token
// of the same text, else the one given before to the same text, else the next one after all tokens.
// tokenizer_config.json has the last word about their attributes.
#include "modelfile/tokenizer_json.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <nlohmann/json.hpp>
#include <unordered_map>
#include <utility>

#include "modelfile/error.h"
#include "modelfile/token_model_json.h"
#include "modelfile/tokenizer_components.h"

namespace chorus::modelfile {
using nlohmann::json;
namespace {

AddedToken added_token(const JsonFile& file, std::string_view key, const json& entry) {
  const auto flag = [&](const char* name, bool by_default) {
    const auto value = entry.find(name);
    if (value == entry.end() || value->is_null()) return by_default;
    if (!value->is_boolean())
      file.corrupt(key, std::string("holds an entry whose ") + name + " is neither true nor false");
    return value->get<bool>();
  };
  const auto text = entry.find("content");
  if (text == entry.end() || !text->is_string()) {
    file.corrupt(key, "holds an entry without content");
  }
  AddedToken token;
  token.content = text->get<std::string>();
  token.special = flag("special", false);
  token.normalized = flag("normalized", !token.special);
  token.left_strip = flag("lstrip", false);
  token.right_strip = flag("rstrip", false);
  token.single_word = flag("single_word", false);
  return token;
}

// tokenizer_config.json names tokens by their text, or by an object that holds it.
std::optional<std::string> named_text(const JsonFile& settings, std::string_view key,
                                      const json* value) {
  if (value == nullptr) return std::nullopt;
  if (value->is_object() && value->contains("content")) value = &(*value)["content"];
  if (!value->is_string()) settings.corrupt(key, "is neither a token's text nor an object with it");
  return value->get<std::string>();
}

class Reader {
 public:
  explicit Reader(const TokenizerSources& sources)
      : sources_(sources), file_(sources.tokenizer), model_(read_token_model(file_)) {}

  TokenizerSpec read() {
    spec_.source = file_.name();
    spec_.normalizer = read_normalizer(file_);
    spec_.pre_tokenizer = read_pre_tokenizer(file_);
    spec_.decoder = read_decoder(file_);
    read_added_tokens();
    if (sources_.settings) read_settings_tokens(*sources_.settings);
    read_special_ids();
    read_surroundings();
    read_size();
    spec_.model = std::move(model_.model);
    spec_.tokens = std::move(model_.tokens);
    for (auto& [text, token] : added_) spec_.added.push_back(std::move(token));
    std::sort(spec_.added.begin(), spec_.added.end(),
              [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
    return std::move(spec_);
  }

 private:
  void read_added_tokens();
  void read_settings_tokens(const JsonFile& settings);
  void add(AddedToken token);
  void add_named(const JsonFile& settings, std::string_view key, const json* value);
  void read_special_ids();
  void read_surroundings();
  void read_size();
  std::optional<int32_t> find(const std::string& text) const;
  std::optional<int32_t> named_token(std::string_view key) const;

  const TokenizerSources& sources_;
  const JsonFile& file_;
  JsonTokenModel model_;
  std::map<std::string, AddedToken> added_;  // by content
  int64_t added_end_ = 0;                    // one more than the greatest id in it
  TokenizerSpec spec_;
};

std::optional<int32_t> Reader::find(const std::string& text) const {
  const auto found = added_.find(text);
  return found == added_.end() ? model_.find(text) : std::optional(found->second.id);
}

void Reader::add(AddedToken token) {
  if (token.content.empty()) return;
  const int64_t next = std::max(added_end_, model_.entries);
  const int64_t id = find(token.content).value_or(static_cast<int32_t>(next));
  if (id >= INT32_MAX) file_.corrupt("added_tokens", "has too many tokens");
  token.id = static_cast<int32_t>(id);
  added_end_ = std::max(added_end_, id + 1);
  std::string content = token.content;
  added_[std::move(content)] = std::move(token);
}

void Reader::read_added_tokens() {
  constexpr std::string_view kList = "added_tokens";
  const json* list = file_.find(kList);
  if (list == nullptr) return;
  if (!list->is_array()) file_.corrupt(kList, "is not a list");
  for (const json& entry : *list) {
    if (!entry.is_object() || !entry.contains("id")) {
      file_.corrupt(kList, "holds an entry without id");
    }
    token_id_of(file_, kList, entry["id"]);
    add(added_token(file_, kList, entry));
  }
}

// What the reference implementation adds on top: the tokens of added_tokens_decoder by id, and
// then those that have a name and are not among the added tokens yet.
void Reader::read_settings_tokens(const JsonFile& settings) {
  constexpr std::string_view kDecoder = "added_tokens_decoder";
  if (const json* decoder = settings.find(kDecoder)) {
    if (!decoder->is_object()) settings.corrupt(kDecoder, "is not an object");
    std::map<int32_t, const json*> by_id;
    for (const auto& [key, entry] : decoder->items()) {
      int32_t id = -1;
      const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
      if (error != std::errc() || end != key.data() + key.size() || id < 0 || !entry.is_object()) {
        settings.corrupt(kDecoder, "holds an entry that is no token");
      }
      by_id[id] = &entry;
    }
    for (const auto& [id, entry] : by_id) add(added_token(settings, kDecoder, *entry));
  }
  for (const std::string_view key : {"bos_token", "eos_token", "unk_token", "sep_token",
                                     "pad_token", "cls_token", "mask_token"}) {
    add_named(settings, key, settings.find(key));
  }
  constexpr std::string_view kMore = "additional_special_tokens";
  const json* more = settings.find(kMore);
  if (more == nullptr || !more->is_array()) return;
  for (const json& entry : *more) add_named(settings, kMore, &entry);
}

// A name for a token that the model has, but that is not among the added tokens, makes it one.
// Names of tokens that are nowhere are left alone: they could never be in the embedding.
void Reader::add_named(const JsonFile& settings, std::string_view key, const json* value) {
  const auto text = named_text(settings, key, value);
  if (!text || added_.contains(*text) || !model_.find(*text)) return;
  AddedToken token;
  token.content = *text;
  token.special = true;
  if (value->is_object()) {
    token = added_token(settings, key, *value);
    token.special = true;
  }
  add(std::move(token));
}

std::optional<int32_t> Reader::named_token(std::string_view key) const {
  if (!sources_.settings) return std::nullopt;
  const auto text = named_text(*sources_.settings, key, sources_.settings->find(key));
  return text ? find(*text) : std::nullopt;
}

void Reader::read_special_ids() {
  spec_.bos = named_token("bos_token");
  spec_.eos = named_token("eos_token");
  spec_.padding = named_token("pad_token");
  spec_.unknown = named_token("unk_token");
  if (!spec_.unknown) {
    std::visit([&](const auto& model) { spec_.unknown = model.unknown; }, model_.model);
  }
  if (!spec_.bos && !sources_.bos.empty()) spec_.bos = sources_.bos.front();
  if (!spec_.eos && !sources_.eos.empty()) spec_.eos = sources_.eos.front();
  std::vector<int32_t>& ends = spec_.end_of_turn;
  ends = sources_.eos;
  std::sort(ends.begin(), ends.end());
  ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
}

void Reader::read_surroundings() {
  PostProcessor processor = read_post_processor(file_);
  spec_.before = std::move(processor.before);
  spec_.after = std::move(processor.after);
  spec_.trim_offsets = processor.trim_offsets;
  if (!sources_.settings) return;
  const JsonFile& settings = *sources_.settings;
  // It would spoil the text of a BPE, whatever the file says.
  spec_.clean_up_spaces = !std::holds_alternative<BpeModel>(model_.model) &&
                          settings.find_flag("clean_up_tokenization_spaces").value_or(false);
  // These classes of the reference implementation make the post-processor anew from two flags.
  const std::string name = settings.find_text("tokenizer_class").value_or("");
  if (!name.starts_with("LlamaTokenizer") && !name.starts_with("GemmaTokenizer")) return;
  const auto remake = [&](std::vector<int32_t>& side, const char* key,
                          const std::optional<int32_t>& token) {
    const auto wanted = settings.find_flag(key);
    if (!wanted) return;
    side.clear();
    if (*wanted && token) side.push_back(*token);
  };
  remake(spec_.before, "add_bos_token", spec_.bos);
  remake(spec_.after, "add_eos_token", spec_.eos);
}

void Reader::read_size() {
  const auto size = std::max(static_cast<int64_t>(model_.tokens.size()), added_end_);
  // Embeddings are padded, but by little: more is a damaged file.
  const int64_t rows = sources_.model_vocabulary.value_or(0);
  if (rows > 2 * size + 65536) {
    file_.corrupt("model.vocab", "has " + std::to_string(size) + " tokens for an embedding of " +
                                     std::to_string(rows) + " rows");
  }
  spec_.embedding_rows = std::max(rows, size);
  const auto check = [&](const std::vector<int32_t>& ids, const char* whose) {
    for (const int32_t id : ids) {
      if (id < spec_.embedding_rows) continue;
      file_.corrupt("model.vocab",
                    "has no token " + std::to_string(id) + ", which " + whose + " names");
    }
  };
  check(sources_.bos, "config.json");
  check(sources_.eos, "config.json or generation_config.json");
  check(spec_.before, "the post_processor");
  check(spec_.after, "the post_processor");
}

}  // namespace

TokenizerSpec read_tokenizer(const TokenizerSources& sources) {
  return Reader(sources).read();
}

}  // namespace chorus::modelfile
