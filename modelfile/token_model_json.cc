#include "modelfile/token_model_json.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "modelfile/error.h"
#include "modelfile/tokenizer_components.h"

namespace chorus::modelfile {
using nlohmann::json;
namespace {

constexpr std::string_view kVocabulary = "model.vocab";
constexpr std::string_view kMerges = "model.merges";

void place(const JsonFile& file, JsonTokenModel& model, int32_t id, const std::string& text) {
  std::string& place = model.tokens[static_cast<size_t>(id)];
  if (!place.empty()) {
    file.corrupt(kVocabulary, "has two tokens with the id " + std::to_string(id) + ": \"" + place +
                                  "\" and \"" + text + "\"");
  }
  place = text;
}

// {"text": id, ...}
void read_vocabulary_object(const JsonFile& file, JsonTokenModel& model) {
  const json* vocabulary = file.find(kVocabulary);
  if (vocabulary == nullptr || !vocabulary->is_object()) {
    file.corrupt(kVocabulary, "is missing or no object");
  }
  int64_t size = 0;
  for (const auto& [text, id] : vocabulary->items()) {
    size = std::max<int64_t>(size, int64_t{token_id_of(file, kVocabulary, id)} + 1);
  }
  // Ids have gaps, but small ones: more is a damaged file, and would be a lot of memory.
  model.entries = static_cast<int64_t>(vocabulary->size());
  if (size > 2 * model.entries + 65536) {
    file.corrupt(kVocabulary, "has " + std::to_string(model.entries) + " tokens for ids below " +
                                  std::to_string(size));
  }
  model.tokens.resize(static_cast<size_t>(size));
  model.ids.reserve(vocabulary->size());
  for (const auto& [text, id] : vocabulary->items()) {
    place(file, model, id.get<int32_t>(), text);
    model.ids.emplace(text, id.get<int32_t>());
  }
}

// [["text", score], ...]
UnigramModel read_unigram(const JsonFile& file, JsonTokenModel& model) {
  const json* vocabulary = file.find(kVocabulary);
  if (vocabulary == nullptr || !vocabulary->is_array() || vocabulary->size() > INT32_MAX) {
    file.corrupt(kVocabulary, "is missing or no list");
  }
  UnigramModel unigram;
  unigram.byte_fallback = file.find_flag("model.byte_fallback").value_or(false);
  model.entries = static_cast<int64_t>(vocabulary->size());
  for (const json& entry : *vocabulary) {
    if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_number() ||
        !std::isfinite(entry[1].get<double>())) {
      file.corrupt(kVocabulary, "holds an entry that is no pair of text and score");
    }
    // Of equal texts the last one counts.
    model.ids[entry[0].get<std::string>()] = static_cast<int32_t>(model.tokens.size());
    model.tokens.push_back(entry[0].get<std::string>());
    unigram.scores.push_back(entry[1].get<double>());
  }
  if (const auto unknown = file.find_integer("model.unk_id")) {
    if (*unknown < 0 || *unknown >= model.entries) {
      file.corrupt("model.unk_id", "is not the id of a token");
    }
    unigram.unknown = static_cast<int32_t>(*unknown);
  }
  return unigram;
}

// "left right", or ["left", "right"].
std::pair<std::string, std::string> merge_pair(const JsonFile& file, const json& entry) {
  if (entry.is_string()) {
    const auto& text = entry.get_ref<const std::string&>();
    const size_t space = text.find(' ');
    if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) {
      file.corrupt(kMerges, "holds \"" + text + "\", which is not a pair");
    }
    return {text.substr(0, space), text.substr(space + 1)};
  }
  if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_string()) {
    file.corrupt(kMerges, "holds an entry that is not a pair");
  }
  return {entry[0].get<std::string>(), entry[1].get<std::string>()};
}

void read_merges(const JsonFile& file, const JsonTokenModel& model, BpeModel& bpe) {
  const json* list = file.find(kMerges);
  if (list == nullptr || !list->is_array() || list->size() > INT32_MAX) {
    file.corrupt(kMerges, "is missing or no list");
  }
  bpe.merges.reserve(list->size());
  for (const json& entry : *list) {
    if (entry.is_string() && entry.get_ref<const std::string&>().starts_with("#version")) continue;
    const auto [left, right] = merge_pair(file, entry);
    const auto left_id = model.find(left);
    const auto right_id = model.find(right);
    std::optional<int32_t> joined;
    const size_t prefix = bpe.continuing_subword_prefix.size();
    if (right.size() >= prefix) joined = model.find(left + right.substr(prefix));
    if (!left_id || !right_id || !joined) {
      file.corrupt(kMerges, "joins \"" + left + "\" and \"" + right + "\", which are no tokens");
    }
    bpe.merges.push_back({*left_id, *right_id, *joined, static_cast<uint32_t>(bpe.merges.size())});
  }
}

BpeModel read_bpe(const JsonFile& file, JsonTokenModel& model) {
  read_vocabulary_object(file, model);
  BpeModel bpe;
  bpe.continuing_subword_prefix = file.find_text("model.continuing_subword_prefix").value_or("");
  bpe.end_of_word_suffix = file.find_text("model.end_of_word_suffix").value_or("");
  bpe.fuse_unknown = file.find_flag("model.fuse_unk").value_or(false);
  bpe.byte_fallback = file.find_flag("model.byte_fallback").value_or(false);
  bpe.ignore_merges = file.find_flag("model.ignore_merges").value_or(false);
  file.find_number("model.dropout");  // for training alone; text is always encoded without it
  read_merges(file, model, bpe);
  return bpe;
}

// GPT-2's own file and others of its age leave the type out.
std::string type_of_model(const JsonFile& file) {
  if (const auto type = file.find_text("model.type")) return *type;
  if (file.find(kMerges) != nullptr) return "BPE";
  if (file.find("model.continuing_subword_prefix") != nullptr) return "WordPiece";
  const json* vocabulary = file.find(kVocabulary);
  return vocabulary != nullptr && vocabulary->is_array() ? "Unigram" : "WordLevel";
}

}  // namespace

JsonTokenModel read_token_model(const JsonFile& file) {
  JsonTokenModel model;
  const std::string type = type_of_model(file);
  const auto unknown = [&] {
    const auto text = file.find_text("model.unk_token");
    return text ? model.find(*text) : std::nullopt;
  };
  if (type == "BPE") {
    BpeModel bpe = read_bpe(file, model);
    bpe.unknown = unknown();
    model.model = std::move(bpe);
  } else if (type == "Unigram") {
    model.model = read_unigram(file, model);
  } else if (type == "WordPiece") {
    read_vocabulary_object(file, model);
    WordPieceModel word_piece;
    word_piece.unknown = unknown();
    word_piece.continuing_subword_prefix =
        file.find_text("model.continuing_subword_prefix").value_or("##");
    word_piece.input_characters_max =
        file.find_integer("model.max_input_chars_per_word").value_or(100);
    if (word_piece.input_characters_max < 0) {
      file.corrupt("model.max_input_chars_per_word", "is negative");
    }
    model.model = std::move(word_piece);
  } else if (type == "WordLevel") {
    read_vocabulary_object(file, model);
    model.model = WordLevelModel{.unknown = unknown()};
  } else {
    throw FileError(FileError::Kind::unsupported,
                    file.name() + ": the model " + type +
                        " is not known; BPE, Unigram, WordPiece and WordLevel are");
  }
  return model;
}

}  // namespace chorus::modelfile
