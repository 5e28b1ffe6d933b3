// tiktoken's files and Mistral's tekken.json rank tokens instead of listing merges: two neighbours
// join where that makes a token, the one of the lowest rank first. GPT-2's pair of files has
// merges. All become byte-level BPE in GPT-2's spelling of bytes.
#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <nlohmann/json.hpp>
#include <vector>

#include "modelfile/error.h"
#include "modelfile/pre_names.h"
#include "modelfile/score_merges.h"
#include "modelfile/tokenizer_convert.h"

namespace chorus::modelfile {
using nlohmann::json;
namespace {

[[noreturn]] void corrupt(const std::string& file_name, const std::string& why) {
  throw FileError(FileError::Kind::corrupt, file_name + ": " + why);
}

std::string spelled(std::string_view bytes) {
  static const std::array<std::string, 256> alphabet = [] {
    std::array<std::string, 256> letters;
    int shifted = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
      const bool printable = (byte > 0x20 && byte < 0x7F) || (byte > 0xA0 && byte != 0xAD);
      const int code = printable ? byte : shifted++;
      std::string& letter = letters[static_cast<size_t>(byte)];
      if (code < 0x80) {
        letter.push_back(static_cast<char>(code));
      } else {
        letter.push_back(static_cast<char>(0xC0 | code >> 6));
        letter.push_back(static_cast<char>(0x80 | (code & 0x3F)));
      }
    }
    return letters;
  }();
  std::string text;
  for (const char byte : bytes) text += alphabet[static_cast<unsigned char>(byte)];
  return text;
}

// Nothing where the text is no base64.
std::optional<std::string> from_base64(std::string_view text) {
  std::string bytes;
  uint32_t bits = 0;
  int count = 0;
  while (text.ends_with('=')) text.remove_suffix(1);
  for (const char c : text) {
    const int value = c >= 'A' && c <= 'Z'   ? c - 'A'
                      : c >= 'a' && c <= 'z' ? c - 'a' + 26
                      : c >= '0' && c <= '9' ? c - '0' + 52
                      : c == '+'             ? 62
                      : c == '/'             ? 63
                                             : -1;
    if (value < 0) return std::nullopt;
    bits = bits << 6 | static_cast<uint32_t>(value);
    count += 6;
    if (count >= 8) {
      count -= 8;
      bytes.push_back(static_cast<char>(bits >> count & 0xFF));
    }
  }
  return bytes;
}

// Ranked tokens in the alphabet's spelling; ids are ranks plus `first_id`.
json ranked_model(const std::map<int32_t, std::string>& tokens, int32_t first_id) {
  json vocab = json::object();
  std::vector<RankedPiece> pieces;
  for (const auto& [rank, text] : tokens) {
    if (!vocab.emplace(text, static_cast<uint32_t>(rank + first_id)).second) continue;
    pieces.push_back({rank, text, 0});
  }
  json merges = json::array();
  for (const BpeMerge& merge : implied_merges(pieces, MergeOrder::token_rank)) {
    merges.push_back({tokens.at(merge.left), tokens.at(merge.right)});
  }
  return {{"type", "BPE"},     {"vocab", std::move(vocab)}, {"merges", std::move(merges)},
          {"fuse_unk", false}, {"byte_fallback", false},    {"ignore_merges", true}};
}

json byte_level(bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", false},
          {"trim_offsets", true},
          {"use_regex", use_regex}};
}

json split_then_bytes(const std::string& pattern) {
  json split = {{"type", "Split"},
                {"pattern", {{"Regex", pattern}}},
                {"behavior", "Isolated"},
                {"invert", false}};
  return {{"type", "Sequence"}, {"pretokenizers", {std::move(split), byte_level(false)}}};
}

// The one pattern of a family that has one.
std::string pattern_of(std::string_view pre) {
  return std::get<pre_tokenizer::Split>(find_pipeline(pre)->pre_tokenizer().front()).pattern.text;
}

json file_of(json model, json pre_tokenizer) {
  return {{"version", "1.0"},
          {"added_tokens", json::array()},
          {"model", std::move(model)},
          {"pre_tokenizer", std::move(pre_tokenizer)},
          {"decoder", byte_level(true)}};
}

void add_special(json& file, int32_t id, const std::string& text) {
  file["model"]["vocab"][text] = static_cast<uint32_t>(id);
  file["added_tokens"].push_back({{"id", static_cast<uint32_t>(id)},
                                  {"content", text},
                                  {"special", true},
                                  {"normalized", false},
                                  {"lstrip", false},
                                  {"rstrip", false},
                                  {"single_word", false}});
}

std::string_view take_line(std::string_view& text) {
  const size_t end = std::min(text.find('\n'), text.size());
  std::string_view line = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

}  // namespace

json convert_tiktoken(std::string_view text, const std::string& file_name,
                      const ConversionStyle& style) {
  std::map<int32_t, std::string> tokens;
  for (int64_t number = 1; !text.empty(); ++number) {
    const std::string_view line = take_line(text);
    if (line.empty()) continue;
    const size_t space = line.find(' ');
    const auto bytes = from_base64(line.substr(0, space));
    int32_t rank = -1;
    if (space != std::string_view::npos) {
      std::from_chars(line.data() + space + 1, line.data() + line.size(), rank);
    }
    if (!bytes || bytes->empty() || rank < 0) {
      corrupt(file_name, "line " + std::to_string(number) + " is not a token in base64 and a rank");
    }
    tokens[rank] = spelled(*bytes);
  }
  if (tokens.empty()) corrupt(file_name, "holds no tokens");
  const bool kimi = style.model_type.starts_with("kimi") || style.model_type == "deepseek_v3" ||
                    style.tokenizer_class.find("TikToken") != std::string::npos;
  return file_of(ranked_model(tokens, 0),
                 split_then_bytes(pattern_of(kimi ? "kimi-k2" : "llama-bpe")));
}

json convert_tekken(const json& tekken, const std::string& file_name) {
  const auto config = tekken.find("config");
  const auto vocab = tekken.find("vocab");
  if (config == tekken.end() || !config->is_object() || vocab == tekken.end() ||
      !vocab->is_array() || !config->contains("pattern") || !(*config)["pattern"].is_string()) {
    corrupt(file_name, "has no vocab or no config.pattern");
  }
  // Files older than their list of special tokens have these.
  std::vector<std::string> special = {"<unk>",
                                      "<s>",
                                      "</s>",
                                      "[INST]",
                                      "[/INST]",
                                      "[AVAILABLE_TOOLS]",
                                      "[/AVAILABLE_TOOLS]",
                                      "[TOOL_RESULTS]",
                                      "[/TOOL_RESULTS]",
                                      "[TOOL_CALLS]",
                                      "[IMG]",
                                      "<pad>",
                                      "[IMG_BREAK]",
                                      "[IMG_END]",
                                      "[PREFIX]",
                                      "[MIDDLE]",
                                      "[SUFFIX]",
                                      "[SYSTEM_PROMPT]",
                                      "[/SYSTEM_PROMPT]",
                                      "[TOOL_CONTENT]"};
  if (const auto list = tekken.find("special_tokens"); list != tekken.end() && list->is_array()) {
    special.clear();
    for (const json& token : *list) {
      if (!token.is_object() || !token.contains("token_str") || !token["token_str"].is_string()) {
        corrupt(file_name, "special_tokens holds an entry without token_str");
      }
      special.push_back(token["token_str"].get<std::string>());
    }
  }
  const auto number = [&](const char* key, int64_t by_default) {
    const auto value = config->find(key);
    if (value == config->end() || value->is_null()) return by_default;
    if (!value->is_number_integer()) corrupt(file_name, std::string("config.") + key + " is wrong");
    return value->get<int64_t>();
  };
  const int64_t special_count =
      number("default_num_special_tokens", static_cast<int64_t>(special.size()));
  if (special_count < static_cast<int64_t>(special.size()) || special_count > 100'000) {
    corrupt(file_name, "config.default_num_special_tokens is wrong");
  }
  const int64_t size =
      number("default_vocab_size", static_cast<int64_t>(vocab->size()) + special_count) -
      special_count;
  std::map<int32_t, std::string> tokens;
  for (const json& entry : *vocab) {
    const auto rank = static_cast<int32_t>(tokens.size());
    if (rank >= size) break;
    const auto bytes =
        entry.is_object() && entry.contains("token_bytes") && entry["token_bytes"].is_string()
            ? from_base64(entry["token_bytes"].get_ref<const std::string&>())
            : std::nullopt;
    if (!bytes || bytes->empty()) {
      corrupt(file_name, "vocab entry " + std::to_string(rank) + " has no token_bytes in base64");
    }
    tokens[rank] = spelled(*bytes);
  }
  json file = file_of(ranked_model(tokens, static_cast<int32_t>(special_count)),
                      split_then_bytes((*config)["pattern"].get<std::string>()));
  for (int64_t id = 0; id < special_count; ++id) {
    const bool named = id < static_cast<int64_t>(special.size());
    add_special(file, static_cast<int32_t>(id),
                named ? special[static_cast<size_t>(id)] : "<SPECIAL_" + std::to_string(id) + ">");
  }
  file["post_processor"] = {
      {"type", "TemplateProcessing"},
      {"single",
       {{{"SpecialToken", {{"id", "<s>"}, {"type_id", 0u}}}},
        {{"Sequence", {{"id", "A"}, {"type_id", 0u}}}}}},
      {"special_tokens", {{"<s>", {{"id", "<s>"}, {"ids", {1u}}, {"tokens", {"<s>"}}}}}}};
  return file;
}

json convert_vocab_merges(const json& vocab, std::string_view merges, const std::string& file_name,
                          const ConversionStyle& style) {
  json list = json::array();
  for (int64_t number = 1; !merges.empty(); ++number) {
    const std::string_view line = take_line(merges);
    if (line.empty() || line.starts_with("#version")) continue;
    const size_t space = line.find(' ');
    if (space == std::string_view::npos || line.find(' ', space + 1) != std::string_view::npos) {
      corrupt(file_name, "line " + std::to_string(number) + " is not two tokens");
    }
    list.push_back({line.substr(0, space), line.substr(space + 1)});
  }
  const bool qwen = style.tokenizer_class.starts_with("Qwen") ||
                    (style.tokenizer_class.empty() && style.model_type.starts_with("qwen"));
  json file = file_of({{"type", "BPE"},
                       {"vocab", vocab},
                       {"merges", std::move(list)},
                       {"fuse_unk", false},
                       {"byte_fallback", false},
                       {"ignore_merges", false}},
                      qwen ? split_then_bytes(pattern_of("qwen2")) : byte_level(true));
  if (qwen) file["normalizer"] = {{"type", "NFC"}};
  return file;
}

}  // namespace chorus::modelfile
