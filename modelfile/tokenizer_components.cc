#include "modelfile/tokenizer_components.h"

#include <array>
#include <functional>
#include <nlohmann/json.hpp>
#include <utility>

#include "modelfile/error.h"

namespace chorus::modelfile {
using nlohmann::json;
namespace {

// Deeper or longer than any tokenizer is; a file that is must be an attack on the stack or on time.
constexpr int kDepthMax = 16;
constexpr size_t kStepsMax = 256;

// One component: an object with a type, and its place in the file for messages. A setting that is
// absent or null has the value that the reference implementation gives it.
class Component {
 public:
  Component(const JsonFile& file, const json& value, std::string place)
      : file_(file), value_(value), place_(std::move(place)) {
    if (!value_.is_object()) corrupt("is no object");
    type_ = text("type");
  }

  const std::string& type() const { return type_; }
  const std::string& place() const { return place_; }

  const json* find(const char* key) const {
    const auto member = value_.find(key);
    return member == value_.end() || member->is_null() ? nullptr : &*member;
  }
  std::optional<bool> find_flag(const char* key) const {
    const json* member = find(key);
    if (member == nullptr) return std::nullopt;
    if (!member->is_boolean()) corrupt(std::string(key) + " is neither true nor false");
    return member->get<bool>();
  }
  bool flag(const char* key, bool by_default) const { return find_flag(key).value_or(by_default); }
  std::optional<std::string> find_text(const char* key) const {
    const json* member = find(key);
    if (member == nullptr) return std::nullopt;
    if (!member->is_string()) corrupt(std::string(key) + " is not a string");
    return member->get<std::string>();
  }
  std::string text(const char* key) const {
    auto found = find_text(key);
    if (!found) corrupt(std::string("has no ") + key);
    return std::move(*found);
  }
  std::string text(const char* key, const char* by_default) const {
    return find_text(key).value_or(by_default);
  }
  std::string character(const char* key, const char* by_default) const {
    std::string found = text(key, by_default);
    size_t characters = 0;
    for (const char byte : found) characters += (static_cast<unsigned char>(byte) & 0xC0) != 0x80;
    if (characters != 1) corrupt(std::string(key) + " is not one character");
    return found;
  }
  int64_t count(const char* key, int64_t by_default) const {
    const json* member = find(key);
    if (member == nullptr) return by_default;
    if (!member->is_number_unsigned() || member->get<uint64_t>() > INT32_MAX) {
      corrupt(std::string(key) + " is no count");
    }
    return member->get<int64_t>();
  }
  template <class Value, size_t kCount>
  Value one_of(const char* key, const std::array<std::pair<const char*, Value>, kCount>& known,
               std::optional<Value> by_default = std::nullopt) const {
    const auto found = find_text(key);
    if (!found && by_default) return *by_default;
    for (const auto& [name, value] : known) {
      if (found && *found == name) return value;
    }
    unsupported(std::string(key) + " " + found.value_or("null"));
  }
  TextPattern pattern() const {
    const json* member = find("pattern");
    if (member != nullptr && member->is_object() && member->size() == 1) {
      for (const char* kind : {"Regex", "String"}) {
        const auto text = member->find(kind);
        if (text != member->end() && text->is_string()) {
          return {kind == std::string_view("Regex"), text->get<std::string>()};
        }
      }
    }
    corrupt("has no pattern that is a Regex or a String");
  }

  [[noreturn]] void corrupt(const std::string& problem) const {
    throw FileError(
        FileError::Kind::corrupt,
        file_.name() + ": " + place_ + (type_.empty() ? "" : " (" + type_ + ")") + " " + problem);
  }
  [[noreturn]] void unsupported(const std::string& what) const {
    throw FileError(FileError::Kind::unsupported,
                    file_.name() + ": " + place_ + " (" + type_ + "): " + what + " is not known");
  }

 private:
  const JsonFile& file_;
  const json& value_;
  std::string place_;
  std::string type_;
};

// Calls `take` for the component at `place`, or for the members of a Sequence in order.
void each_component(const JsonFile& file, const json* value, const std::string& place,
                    const char* members, const std::function<void(const Component&)>& take,
                    int depth = 0) {
  if (value == nullptr || value->is_null()) return;
  const Component component(file, *value, place);
  if (component.type() != "Sequence") return take(component);
  const json* list = component.find(members);
  if (list == nullptr || !list->is_array()) {
    component.corrupt(std::string("has no list ") + members);
  }
  if (depth == kDepthMax || list->size() > kStepsMax) component.corrupt("is too deep or too long");
  for (size_t i = 0; i < list->size(); ++i) {
    each_component(file, &(*list)[i], place + "." + members + "[" + std::to_string(i) + "]",
                   members, take, depth + 1);
  }
}

template <class Step>
std::vector<Step> read_steps(const JsonFile& file, const char* place, const char* members,
                             Step (*read)(const Component&)) {
  std::vector<Step> steps;
  each_component(file, file.find(place), place, members, [&](const Component& component) {
    steps.push_back(read(component));
    if (steps.size() > kStepsMax) component.corrupt("is one of too many");
  });
  return steps;
}

constexpr std::array<std::pair<const char*, SplitBehavior>, 5> kBehaviors = {
    {{"Removed", SplitBehavior::removed},
     {"Isolated", SplitBehavior::isolated},
     {"MergedWithPrevious", SplitBehavior::merged_with_previous},
     {"MergedWithNext", SplitBehavior::merged_with_next},
     {"Contiguous", SplitBehavior::contiguous}}};

using pre_tokenizer::PrependScheme;
constexpr std::array<std::pair<const char*, PrependScheme>, 3> kSchemes = {
    {{"always", PrependScheme::always},
     {"first", PrependScheme::first},
     {"never", PrependScheme::never}}};

// Older files say add_prefix_space instead of prepend_scheme.
PrependScheme prepend_scheme(const Component& component) {
  const auto scheme =
      component.one_of("prepend_scheme", kSchemes, std::optional(PrependScheme::always));
  if (component.flag("add_prefix_space", true)) return scheme;
  if (component.find("prepend_scheme") != nullptr && scheme != PrependScheme::never) {
    component.corrupt("says both add_prefix_space false and another prepend_scheme than never");
  }
  return PrependScheme::never;
}

std::optional<std::string> from_base64(std::string_view text) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  bytes.reserve(text.size() / 4 * 3);
  while (!text.empty() && text.back() == '=') text.remove_suffix(1);
  uint32_t bits = 0;
  int have = 0;
  for (const char digit : text) {
    const size_t value = kDigits.find(digit);
    if (value == std::string_view::npos) return std::nullopt;
    bits = bits << 6 | static_cast<uint32_t>(value);
    have += 6;
    if (have >= 8) bytes.push_back(static_cast<char>(bits >> (have -= 8) & 0xFF));
  }
  return bytes;
}

normalizer::Step normalizer_step(const Component& component) {
  using namespace normalizer;
  const std::string& type = component.type();
  if (type == "NFC") return Unicode{Form::nfc};
  if (type == "NFD") return Unicode{Form::nfd};
  if (type == "NFKC") return Unicode{Form::nfkc};
  if (type == "NFKD") return Unicode{Form::nfkd};
  if (type == "Lowercase") return Lowercase{};
  if (type == "Strip") {
    return Strip{component.flag("strip_left", true), component.flag("strip_right", true)};
  }
  if (type == "StripAccents") return StripAccents{};
  if (type == "Replace") return Replace{component.pattern(), component.text("content")};
  if (type == "Prepend") return Prepend{component.text("prepend")};
  if (type == "Precompiled") {
    // Files of models without a charsmap say null.
    auto charsmap = from_base64(component.text("precompiled_charsmap", ""));
    if (!charsmap) component.corrupt("precompiled_charsmap is not base64");
    return Precompiled{std::move(*charsmap)};
  }
  if (type == "BertNormalizer") {
    return Bert{component.flag("clean_text", true), component.flag("handle_chinese_chars", true),
                component.find_flag("strip_accents"), component.flag("lowercase", true)};
  }
  if (type == "Nmt") return Nmt{};
  if (type == "ByteLevel") return ByteLevel{};
  component.unsupported("this type of normalizer");
}

pre_tokenizer::Step pre_tokenizer_step(const Component& component) {
  using namespace pre_tokenizer;
  const std::string& type = component.type();
  if (type == "ByteLevel") {
    return ByteLevel{component.flag("add_prefix_space", true), component.flag("use_regex", true)};
  }
  if (type == "Split") {
    return Split{component.pattern(), component.one_of<SplitBehavior>("behavior", kBehaviors),
                 component.flag("invert", false)};
  }
  if (type == "Metaspace") {
    return Metaspace{component.character("replacement", "\u2581"), prepend_scheme(component),
                     component.flag("split", true)};
  }
  if (type == "Digits") return Digits{component.flag("individual_digits", false)};
  if (type == "Punctuation") {
    return Punctuation{
        component.one_of("behavior", kBehaviors, std::optional(SplitBehavior::isolated))};
  }
  if (type == "Whitespace") return Whitespace{};
  if (type == "WhitespaceSplit") return WhitespaceSplit{};
  if (type == "BertPreTokenizer") return Bert{};
  if (type == "UnicodeScripts") return UnicodeScripts{};
  if (type == "FixedLength") {
    const int64_t length = component.count("length", 5);
    if (length == 0) component.corrupt("length is 0");
    return FixedLength{length};
  }
  if (type == "CharDelimiterSplit") {
    return CharDelimiterSplit{component.character("delimiter", "")};
  }
  component.unsupported("this type of pre_tokenizer");
}

decoder::Step decoder_step(const Component& component) {
  using namespace decoder;
  const std::string& type = component.type();
  if (type == "ByteLevel") return ByteLevel{};
  if (type == "ByteFallback") return ByteFallback{};
  if (type == "Fuse") return Fuse{};
  if (type == "Replace") return Replace{component.pattern(), component.text("content")};
  if (type == "Strip") {
    return Strip{component.character("content", " "), component.count("start", 0),
                 component.count("stop", 0)};
  }
  if (type == "Metaspace") {
    return Metaspace{component.character("replacement", "\u2581"), prepend_scheme(component)};
  }
  if (type == "WordPiece") {
    return WordPiece{component.text("prefix", "##"), component.flag("cleanup", true)};
  }
  if (type == "BPEDecoder") return Bpe{component.text("suffix", "</w>")};
  if (type == "CTC") {
    return Ctc{component.text("pad_token", "<pad>"), component.text("word_delimiter_token", "|"),
               component.flag("cleanup", true)};
  }
  component.unsupported("this type of decoder");
}

// A template's pieces around the text: the ids of `special_tokens` by name.
class Template {
 public:
  Template(const JsonFile& file, const Component& component) : file_(file), component_(component) {
    const json* single = component.find("single");
    if (single == nullptr || !(single->is_array() || single->is_string())) {
      component.corrupt("has no list named single");
    }
    if (single->is_string()) {
      read_words(single->get_ref<const std::string&>());
    } else {
      for (const json& piece : *single) read_piece(piece);
    }
    if (!text_seen_) component.corrupt("single does not hold the text");
  }

  std::vector<int32_t> before, after;

 private:
  void read_piece(const json& piece) {
    if (piece.is_object() && piece.contains("Sequence")) return add_text();
    const json* token = nullptr;
    if (piece.is_object() && piece.contains("SpecialToken")) token = &piece["SpecialToken"];
    if (token == nullptr || !token->is_object() || !token->contains("id") ||
        !(*token)["id"].is_string()) {
      component_.corrupt("single holds something that is neither text nor token");
    }
    add_token((*token)["id"].get<std::string>());
  }

  // "[CLS] $A [SEP]:0"
  void read_words(std::string_view words) {
    while (!words.empty()) {
      const size_t end = std::min(words.find(' '), words.size());
      const std::string word(words.substr(0, words.substr(0, end).find(':')));
      words.remove_prefix(std::min(end + 1, words.size()));
      if (word.starts_with('$')) {
        add_text();
      } else {
        add_token(word);
      }
    }
  }

  void add_text() {
    if (text_seen_) component_.unsupported("a template with the text in it twice");
    text_seen_ = true;
  }

  void add_token(const std::string& name) {
    const json* tokens = component_.find("special_tokens");
    const json* ids = nullptr;
    if (tokens != nullptr && tokens->is_object() && tokens->contains(name)) {
      const json& token = (*tokens)[name];
      if (token.is_object() && token.contains("ids")) ids = &token["ids"];
    }
    if (ids == nullptr || !ids->is_array()) {
      component_.corrupt("special_tokens has no ids for " + name);
    }
    for (const json& id : *ids) {
      (text_seen_ ? after : before).push_back(token_id_of(file_, component_.place(), id));
    }
  }

  const JsonFile& file_;
  const Component& component_;
  bool text_seen_ = false;
};

// Bert's and Roberta's "cls" and "sep": a text and an id.
int32_t named_id(const JsonFile& file, const Component& component, const char* key) {
  const json* pair = component.find(key);
  if (pair == nullptr || !pair->is_array() || pair->size() != 2) {
    component.corrupt(std::string(key) + " is no pair of text and id");
  }
  return token_id_of(file, component.place(), (*pair)[1]);
}

void add_processor(const JsonFile& file, const Component& component, PostProcessor& result) {
  const std::string& type = component.type();
  std::vector<int32_t> before;
  std::vector<int32_t> after;
  if (type == "TemplateProcessing") {
    Template pieces(file, component);
    before = std::move(pieces.before);
    after = std::move(pieces.after);
  } else if (type == "BertProcessing" || type == "RobertaProcessing") {
    before = {named_id(file, component, "cls")};
    after = {named_id(file, component, "sep")};
  } else if (type != "ByteLevel") {
    component.unsupported("this type of post_processor");
  }
  if ((type == "ByteLevel" || type == "RobertaProcessing") &&
      component.flag("trim_offsets", true)) {
    result.trim_offsets = OffsetTrim{component.flag("add_prefix_space", true)};
  }
  result.before.insert(result.before.begin(), before.begin(), before.end());
  result.after.insert(result.after.end(), after.begin(), after.end());
}

}  // namespace

std::vector<normalizer::Step> read_normalizer(const JsonFile& file) {
  return read_steps<normalizer::Step>(file, "normalizer", "normalizers", normalizer_step);
}

std::vector<pre_tokenizer::Step> read_pre_tokenizer(const JsonFile& file) {
  return read_steps<pre_tokenizer::Step>(file, "pre_tokenizer", "pretokenizers",
                                         pre_tokenizer_step);
}

std::vector<decoder::Step> read_decoder(const JsonFile& file) {
  return read_steps<decoder::Step>(file, "decoder", "decoders", decoder_step);
}

PostProcessor read_post_processor(const JsonFile& file) {
  PostProcessor result;
  each_component(file, file.find("post_processor"), "post_processor", "processors",
                 [&](const Component& component) { add_processor(file, component, result); });
  return result;
}

int32_t token_id_of(const JsonFile& file, std::string_view key, const json& value) {
  if (!value.is_number_unsigned() || value.get<uint64_t>() > INT32_MAX) {
    file.corrupt(key, "holds a token id that is none");
  }
  return value.get<int32_t>();
}

}  // namespace chorus::modelfile
