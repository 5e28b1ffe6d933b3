#include "modelfile/tokenizer_json.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <nlohmann/json.hpp>
#include <unordered_map>
#include <utility>

#include "modelfile/error.h"
#include "modelfile/merge_scores.h"
#include "modelfile/tokenizer_pipeline.h"

namespace chorus::modelfile {
using nlohmann::json;
namespace {

struct AddedToken {
  std::string text;
  bool special = false;
  bool in_normalized_text = false;
};

[[noreturn]] void unsupported(const JsonFile& file, const std::string& what) {
  throw FileError(FileError::Kind::unsupported, file.name() + ": " + what + " is not read yet");
}

int64_t id_of(const JsonFile& file, std::string_view key, const json& value) {
  if (!value.is_number_unsigned() || value.get<uint64_t>() > INT32_MAX) {
    file.corrupt(key, "holds a token id that is none");
  }
  return value.get<int64_t>();
}

AddedToken added_token(const JsonFile& file, std::string_view key, const json& entry) {
  const auto flag = [&](const char* name) {
    const auto value = entry.find(name);
    return value != entry.end() && value->is_boolean() && value->get<bool>();
  };
  const auto text = entry.find("content");
  if (text == entry.end() || !text->is_string() || text->get_ref<const std::string&>().empty()) {
    file.corrupt(key, "holds an entry without content");
  }
  AddedToken token{text->get<std::string>(), flag("special"), flag("normalized")};
  for (const char* attribute : {"lstrip", "rstrip", "single_word"}) {
    if (flag(attribute)) {
      unsupported(file, std::string(key) + ": " + token.text + " with " + attribute);
    }
  }
  return token;
}

// By id. tokenizer_config.json has the last word, as in the reference implementation.
std::map<int64_t, AddedToken> added_tokens(const TokenizerSources& sources) {
  std::map<int64_t, AddedToken> tokens;
  constexpr std::string_view kList = "added_tokens";
  if (const json* list = sources.tokenizer.find(kList)) {
    if (!list->is_array()) sources.tokenizer.corrupt(kList, "is not a list");
    for (const json& entry : *list) {
      if (!entry.is_object() || !entry.contains("id")) {
        sources.tokenizer.corrupt(kList, "holds an entry without id");
      }
      tokens[id_of(sources.tokenizer, kList, entry["id"])] =
          added_token(sources.tokenizer, kList, entry);
    }
  }
  constexpr std::string_view kDecoder = "added_tokens_decoder";
  const json* decoder = sources.settings ? sources.settings->find(kDecoder) : nullptr;
  if (decoder == nullptr) return tokens;
  if (!decoder->is_object()) sources.settings->corrupt(kDecoder, "is not an object");
  for (const auto& [key, entry] : decoder->items()) {
    int32_t id = -1;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size() || id < 0 || !entry.is_object()) {
      sources.settings->corrupt(kDecoder, "holds an entry that is no token");
    }
    tokens[id] = added_token(*sources.settings, kDecoder, entry);
  }
  return tokens;
}

class Reader {
 public:
  explicit Reader(const TokenizerSources& sources)
      : sources_(sources),
        file_(sources.tokenizer),
        pipeline_(recognise_pipeline(file_)),
        added_(added_tokens(sources)) {}

  Vocabulary read() {
    vocabulary_.model = pipeline_.model;
    vocabulary_.pre = pipeline_.pre;
    vocabulary_.add_space_prefix = pipeline_.add_space_prefix;
    read_tokens();
    read_special_tokens();
    read_surroundings();
    read_merges();
    return std::move(vocabulary_);
  }

 private:
  void read_tokens();
  void place(int64_t id, const std::string& text, TokenKind kind);
  void mark_bytes();
  void read_special_tokens();
  void read_surroundings();
  void read_merges();
  std::vector<Merge> merges() const;
  std::optional<int32_t> find(const std::string& text) const;
  std::optional<int32_t> named_token(std::string_view key) const;
  void check_ids(const std::vector<int32_t>& ids) const;

  const TokenizerSources& sources_;
  const JsonFile& file_;
  Pipeline pipeline_;
  std::map<int64_t, AddedToken> added_;
  Vocabulary vocabulary_;
  std::unordered_map<std::string, int32_t> ids_;
};

void Reader::place(int64_t id, const std::string& text, TokenKind kind) {
  const auto idx = static_cast<size_t>(id);
  const auto [known, is_new] = ids_.emplace(text, static_cast<int32_t>(id));
  const bool taken = vocabulary_.kinds[idx] != TokenKind::unused && vocabulary_.tokens[idx] != text;
  if ((!is_new && known->second != id) || taken) {
    file_.corrupt("model.vocab", "and added_tokens disagree about token " + std::to_string(id));
  }
  vocabulary_.tokens[idx] = text;
  vocabulary_.kinds[idx] = kind;
}

void Reader::read_tokens() {
  constexpr std::string_view kVocabulary = "model.vocab";
  const json* vocabulary = file_.find(kVocabulary);
  if (vocabulary == nullptr || !vocabulary->is_object() || vocabulary->empty()) {
    file_.corrupt(kVocabulary, "is missing or no object");
  }
  int64_t size = sources_.model_vocabulary.value_or(0);
  for (const auto& [text, id] : vocabulary->items()) {
    size = std::max(size, id_of(file_, kVocabulary, id) + 1);
  }
  if (!added_.empty()) size = std::max(size, added_.rbegin()->first + 1);
  // Embeddings are padded and ids have gaps, both by little: more is a damaged file.
  const auto entries = static_cast<int64_t>(vocabulary->size() + added_.size());
  if (size > 2 * entries + 65536) {
    file_.corrupt(kVocabulary, "has " + std::to_string(entries) + " tokens for ids below " +
                                   std::to_string(size));
  }
  for (int64_t id = 0; id < size; ++id) {
    vocabulary_.tokens.push_back("[PAD" + std::to_string(id) + "]");
  }
  vocabulary_.kinds.assign(static_cast<size_t>(size), TokenKind::unused);
  for (const auto& [text, id] : vocabulary->items()) {
    place(id.get<int64_t>(), text, TokenKind::normal);
  }
  if (pipeline_.model == "llama") mark_bytes();
  for (const auto& [id, token] : added_) {
    if (token.in_normalized_text && pipeline_.has_normalizer) {
      unsupported(file_, "added_tokens: " + token.text + " with normalized");
    }
    place(id, token.text, token.special ? TokenKind::control : TokenKind::user_defined);
  }
}

void Reader::mark_bytes() {
  constexpr char kDigits[] = "0123456789ABCDEF";
  for (int byte = 0; byte < 256; ++byte) {
    const std::string text = {'<', '0', 'x', kDigits[byte / 16], kDigits[byte % 16], '>'};
    const auto id = find(text);
    if (!id) unsupported(file_, "the model's byte_fallback without the token " + text);
    vocabulary_.kinds[static_cast<size_t>(*id)] = TokenKind::byte;
  }
}

std::optional<int32_t> Reader::find(const std::string& text) const {
  const auto found = ids_.find(text);
  return found == ids_.end() ? std::nullopt : std::optional(found->second);
}

// tokenizer_config.json names tokens by their text, or by an object that holds it.
std::optional<int32_t> Reader::named_token(std::string_view key) const {
  if (!sources_.settings) return std::nullopt;
  const json* value = sources_.settings->find(key);
  if (value == nullptr) return std::nullopt;
  std::string path(key);
  if (value->is_object()) path += ".content";
  const auto text = sources_.settings->find_text(path);
  if (!text) sources_.settings->corrupt(path, "is missing");
  const auto id = find(*text);
  if (!id) {
    sources_.settings->corrupt(key, "is " + *text + ", a token that " + file_.name() + " lacks");
  }
  return id;
}

void Reader::check_ids(const std::vector<int32_t>& ids) const {
  for (const int32_t id : ids) {
    if (static_cast<size_t>(id) < vocabulary_.tokens.size()) continue;
    file_.corrupt("model.vocab", "has no token " + std::to_string(id) +
                                     ", which config.json or generation_config.json names");
  }
}

void Reader::read_special_tokens() {
  check_ids(sources_.bos);
  check_ids(sources_.eos);
  vocabulary_.bos = named_token("bos_token");
  vocabulary_.eos = named_token("eos_token");
  vocabulary_.padding = named_token("pad_token");
  vocabulary_.unknown = named_token("unk_token");
  if (!vocabulary_.unknown) {
    if (const auto text = file_.find_text("model.unk_token")) vocabulary_.unknown = find(*text);
  }
  if (!vocabulary_.bos && !sources_.bos.empty()) vocabulary_.bos = sources_.bos.front();
  if (!vocabulary_.eos && !sources_.eos.empty()) vocabulary_.eos = sources_.eos.front();
  std::vector<int32_t>& ends = vocabulary_.end_of_turn;
  ends = sources_.eos;
  std::sort(ends.begin(), ends.end());
  ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
  if (pipeline_.model == "llama" && vocabulary_.unknown) {
    vocabulary_.kinds[static_cast<size_t>(*vocabulary_.unknown)] = TokenKind::unknown;
  }
}

void Reader::read_surroundings() {
  const Surroundings around = read_post_processor(file_);
  const auto adds = [&](const std::optional<std::string>& text, const std::optional<int32_t>& id) {
    if (!text) return false;
    if (!id || find(*text) != id) {
      unsupported(file_, "the post_processor with " + *text + ", neither BOS nor EOS,");
    }
    return true;
  };
  vocabulary_.add_bos = adds(around.before, vocabulary_.bos);
  vocabulary_.add_eos = adds(around.after, vocabulary_.eos);
  if (!sources_.settings) return;
  // These classes of the reference implementation make the post-processor anew from two flags.
  const std::string name = sources_.settings->find_text("tokenizer_class").value_or("");
  if (name.starts_with("LlamaTokenizer") || name.starts_with("GemmaTokenizer")) {
    vocabulary_.add_bos =
        sources_.settings->find_flag("add_bos_token").value_or(vocabulary_.add_bos);
    vocabulary_.add_eos =
        sources_.settings->find_flag("add_eos_token").value_or(vocabulary_.add_eos);
  }
}

// "left right", or ["left", "right"].
std::vector<Merge> Reader::merges() const {
  constexpr std::string_view kMerges = "model.merges";
  const json* list = file_.find(kMerges);
  if (list == nullptr || !list->is_array()) file_.corrupt(kMerges, "is missing or no list");
  std::vector<Merge> merges;
  for (const json& entry : *list) {
    if (entry.is_string()) {
      const auto& text = entry.get_ref<const std::string&>();
      const size_t space = text.find(' ');
      if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) {
        file_.corrupt(kMerges, "holds \"" + text + "\", which is not a pair");
      }
      merges.emplace_back(text.substr(0, space), text.substr(space + 1));
    } else if (entry.is_array() && entry.size() == 2 && entry[0].is_string() &&
               entry[1].is_string()) {
      merges.emplace_back(entry[0].get<std::string>(), entry[1].get<std::string>());
    } else {
      file_.corrupt(kMerges, "holds an entry that is not a pair");
    }
    const auto& [left, right] = merges.back();
    if (left.empty() || right.empty() || !find(left) || !find(right) || !find(left + right)) {
      file_.corrupt(kMerges, "joins \"" + left + "\" and \"" + right + "\", which are no tokens");
    }
  }
  return merges;
}

void Reader::read_merges() {
  const std::vector<Merge> pairs = merges();
  if (pipeline_.model == "llama") {
    auto scores = scores_of(pairs, vocabulary_.tokens, vocabulary_.kinds);
    if (!scores) unsupported(file_, "the model with merges that no scores can stand for");
    vocabulary_.scores = std::move(*scores);
    return;
  }
  for (const auto& [left, right] : pairs) {
    if (left.find(' ') != std::string::npos || right.find(' ') != std::string::npos) {
      unsupported(file_, "the model with a merge that holds a space");
    }
    vocabulary_.merges.push_back(left + " " + right);
  }
}

}  // namespace

Vocabulary read_vocabulary(const TokenizerSources& sources) {
  return Reader(sources).read();
}

}  // namespace chorus::modelfile
