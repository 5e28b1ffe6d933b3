#include "modelfile/tokenizer_pipeline.h"

#include <nlohmann/json.hpp>
#include <vector>

#include "modelfile/error.h"

namespace chorus::modelfile {
using nlohmann::json;
namespace {

// The two patterns that Llama 3's and Qwen2's families cut text with; they differ in the digits.
constexpr std::string_view kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kSpaceMark = "\xe2\x96\x81";  // U+2581, a space in SentencePiece

[[noreturn]] void unsupported(const JsonFile& file, std::string_view component,
                              std::string_view detail) {
  throw FileError(FileError::Kind::unsupported, file.name() + ": the " + std::string(component) +
                                                    " " + std::string(detail) + " is not read yet");
}

// "null", or the component's type, for messages.
std::string type_of(const json* component) {
  if (component == nullptr) return "null";
  const auto type = component->is_object() ? component->find("type") : component->end();
  if (!component->is_object() || type == component->end() || !type->is_string()) {
    return "without a type";
  }
  return type->get<std::string>();
}

bool is(const json* component, std::string_view type) {
  return component != nullptr && type_of(component) == type;
}

// Absent keys have the value that the reference implementation gives them.
bool flag(const json& component, const char* key, bool by_default) {
  const auto value = component.find(key);
  if (value == component.end() || !value->is_boolean()) return by_default;
  return value->get<bool>();
}

bool has_text(const json& component, const char* key, std::string_view text) {
  const auto value = component.find(key);
  return value != component.end() && value->is_string() &&
         value->get_ref<const std::string&>() == text;
}

// A component and those inside it where it is a sequence; an absent one is an empty list.
std::vector<const json*> parts_of(const json* component, const char* list) {
  if (component == nullptr) return {};
  if (!is(component, "Sequence")) return {component};
  std::vector<const json*> parts;
  const auto members = component->find(list);
  if (members == component->end() || !members->is_array()) return {component};
  for (const json& member : *members) parts.push_back(&member);
  return parts;
}

bool is_byte_level(const json* component, bool cuts_words) {
  return is(component, "ByteLevel") && !flag(*component, "add_prefix_space", true) &&
         flag(*component, "use_regex", true) == cuts_words;
}

bool is_split(const json* component, std::string_view pattern) {
  if (!is(component, "Split") || !has_text(*component, "behavior", "Isolated")) return false;
  const auto kind = component->find("pattern");
  return !flag(*component, "invert", false) && kind != component->end() && kind->is_object() &&
         has_text(*kind, "Regex", pattern);
}

bool is_single_digits(const json* component) {
  return is(component, "Digits") && flag(*component, "individual_digits", false);
}

bool is_replace(const json* component, std::string_view from, std::string_view to) {
  if (!is(component, "Replace") || !has_text(*component, "content", to)) return false;
  const auto kind = component->find("pattern");
  return kind != component->end() && kind->is_object() && has_text(*kind, "String", from);
}

std::string_view byte_level_pre(const JsonFile& file, const std::vector<const json*>& parts) {
  if (parts.size() == 1 && is_byte_level(parts[0], true)) return "gpt-2";
  if (parts.size() == 2 && is_single_digits(parts[0]) && is_byte_level(parts[1], true)) {
    return "smollm";
  }
  if (parts.size() == 2 && is_byte_level(parts[1], false)) {
    if (is_split(parts[0], kQwen2Pattern)) return "qwen2";
    if (is_split(parts[0], kLlama3Pattern)) return "llama-bpe";
  }
  std::string types;
  for (const json* part : parts) types += (types.empty() ? "" : " + ") + type_of(part);
  unsupported(file, "pre_tokenizer", "(" + types + ", with its settings)");
}

Pipeline byte_level_pipeline(const JsonFile& file, const std::vector<const json*>& cutters) {
  Pipeline pipeline{.model = "gpt2", .pre = std::string(byte_level_pre(file, cutters))};
  const json* normalizer = file.find("normalizer");
  pipeline.has_normalizer = normalizer != nullptr;
  const bool wants_nfc = pipeline.pre == "qwen2";  // the name implies it
  if (wants_nfc ? !is(normalizer, "NFC") : normalizer != nullptr) {
    unsupported(file, "normalizer", type_of(normalizer) + " with this pre_tokenizer");
  }
  if (!is(file.find("decoder"), "ByteLevel")) {
    unsupported(file, "decoder", type_of(file.find("decoder")));
  }
  const bool ignores_merges = file.find_flag("model.ignore_merges").value_or(false);
  if (ignores_merges != (pipeline.pre == "llama-bpe")) {
    unsupported(file, "model's ignore_merges", "with this pre_tokenizer");
  }
  if (file.find_flag("model.byte_fallback").value_or(false)) {
    unsupported(file, "model's byte_fallback", "with a ByteLevel pre_tokenizer");
  }
  return pipeline;
}

// The normalizer turns spaces into U+2581 and may put one in front of the text.
bool adds_space(const JsonFile& file) {
  const auto parts = parts_of(file.find("normalizer"), "normalizers");
  if (parts.size() == 1 && is_replace(parts[0], " ", kSpaceMark)) return false;
  if (parts.size() == 2 && is(parts[0], "Prepend") && has_text(*parts[0], "prepend", kSpaceMark) &&
      is_replace(parts[1], " ", kSpaceMark)) {
    return true;
  }
  unsupported(file, "normalizer", type_of(file.find("normalizer")) + ", with its settings,");
}

bool is_strip_of_one_space(const json* component) {
  return is(component, "Strip") && has_text(*component, "content", " ") &&
         component->value("start", json(0)) == 1 && component->value("stop", json(0)) == 0;
}

Pipeline sentence_piece_pipeline(const JsonFile& file, const std::vector<const json*>& cutters) {
  const bool adds = adds_space(file);
  // A split at spaces does nothing once the normalizer has taken them all.
  const bool splits_nothing = cutters.size() == 1 && is(cutters[0], "Split") &&
                              cutters[0]->contains("pattern") &&
                              (*cutters[0])["pattern"] == json{{"String", " "}} &&
                              has_text(*cutters[0], "behavior", "MergedWithPrevious");
  if (!cutters.empty() && !splits_nothing) {
    unsupported(file, "pre_tokenizer", type_of(cutters[0]));
  }
  if (!file.find_flag("model.byte_fallback").value_or(false)) {
    unsupported(file, "model", "without byte_fallback and without a ByteLevel pre_tokenizer");
  }
  if (file.find_flag("model.ignore_merges").value_or(false)) {
    unsupported(file, "model's ignore_merges", "with this pre_tokenizer");
  }
  const auto decoders = parts_of(file.find("decoder"), "decoders");
  const bool known = decoders.size() == (adds ? 4u : 3u) &&
                     is_replace(decoders[0], kSpaceMark, " ") && is(decoders[1], "ByteFallback") &&
                     is(decoders[2], "Fuse") && (!adds || is_strip_of_one_space(decoders[3]));
  if (!known) unsupported(file, "decoder", type_of(file.find("decoder")) + ", with its settings,");
  return {.model = "llama", .pre = "default", .add_space_prefix = adds, .has_normalizer = true};
}

void expect_plain_bpe(const JsonFile& file) {
  // GPT-2's own file, older than the field, leaves the type out.
  const std::string type = file.find_text("model.type").value_or("BPE");
  if (type != "BPE") unsupported(file, "model", type);
  for (const std::string key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!file.find_text("model." + key).value_or("").empty()) {
      unsupported(file, "model's " + key, "");
    }
  }
  if (file.find_number("model.dropout").value_or(0) != 0) {
    unsupported(file, "model's dropout", "");
  }
}

// Reads one side of a template: at most one special token.
std::optional<std::string> lone_token(const JsonFile& file, const std::vector<std::string>& ids) {
  if (ids.size() > 1) unsupported(file, "post_processor", "with more than one token at a side");
  return ids.empty() ? std::nullopt : std::optional(ids.front());
}

Surroundings read_template(const JsonFile& file, const json& processor) {
  const auto single = processor.find("single");
  if (single == processor.end() || !single->is_array()) {
    file.corrupt("post_processor", "has no list named single");
  }
  std::vector<std::string> before;
  std::vector<std::string> after;
  bool text_seen = false;
  for (const json& item : *single) {
    if (item.is_object() && item.contains("Sequence") && !text_seen) {
      text_seen = true;
    } else if (item.is_object() && item.contains("SpecialToken") &&
               item["SpecialToken"].is_object() && item["SpecialToken"].contains("id") &&
               item["SpecialToken"]["id"].is_string()) {
      (text_seen ? after : before).push_back(item["SpecialToken"]["id"].get<std::string>());
    } else {
      file.corrupt("post_processor.single", "holds something that is neither text nor token");
    }
  }
  if (!text_seen) file.corrupt("post_processor.single", "does not hold the text");
  return {lone_token(file, before), lone_token(file, after)};
}

}  // namespace

Pipeline recognise_pipeline(const JsonFile& tokenizer) {
  expect_plain_bpe(tokenizer);
  const auto cutters = parts_of(tokenizer.find("pre_tokenizer"), "pretokenizers");
  for (const json* cutter : cutters) {
    if (is(cutter, "ByteLevel")) return byte_level_pipeline(tokenizer, cutters);
  }
  return sentence_piece_pipeline(tokenizer, cutters);
}

Surroundings read_post_processor(const JsonFile& tokenizer) {
  Surroundings result;
  for (const json* part : parts_of(tokenizer.find("post_processor"), "processors")) {
    if (is(part, "ByteLevel")) continue;  // moves offsets only
    if (!is(part, "TemplateProcessing")) unsupported(tokenizer, "post_processor", type_of(part));
    if (result.before || result.after) {
      unsupported(tokenizer, "post_processor", "with two templates");
    }
    result = read_template(tokenizer, *part);
  }
  return result;
}

}  // namespace chorus::modelfile
