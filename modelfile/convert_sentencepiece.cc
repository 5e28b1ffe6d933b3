// The classes Llama and Gemma (of BPE files) and T5 (of Unigram files) have pipelines of their own
// in transformers; any other model is converted to what SentencePiece itself does. A class never
// changes the kind: transformers 5 makes merges of a Unigram file's scores where the class is
// Llama's, but the model was trained on Unigram's ids. Control pieces take part in no merge: a
// user's text never becomes one.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "modelfile/error.h"
#include "modelfile/score_merges.h"
#include "modelfile/tokenizer_convert.h"

namespace chorus::modelfile {
using nlohmann::json;
namespace {

constexpr std::string_view kSpaceMark = "\u2581";

std::string base64(std::string_view bytes) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (size_t at = 0; at < bytes.size(); at += 3) {
    uint32_t group = 0;
    for (size_t i = 0; i < 3; ++i) {
      group = group << 8 | (at + i < bytes.size() ? static_cast<unsigned char>(bytes[at + i]) : 0u);
    }
    for (size_t i = 0; i < 4; ++i) {
      const bool filler = at + i > bytes.size();
      text.push_back(filler ? '=' : kDigits[group >> (18 - 6 * i) & 63]);
    }
  }
  return text;
}

json replace_text(std::string_view from, std::string_view to) {
  return {{"type", "Replace"}, {"pattern", {{"String", from}}}, {"content", to}};
}

json replace_regex(std::string_view pattern, std::string_view to) {
  return {{"type", "Replace"}, {"pattern", {{"Regex", pattern}}}, {"content", to}};
}

json sequence(const char* members, json list) {
  return {{"type", "Sequence"}, {members, std::move(list)}};
}

json metaspace(const char* scheme, bool split) {
  return {{"type", "Metaspace"},
          {"replacement", kSpaceMark},
          {"prepend_scheme", scheme},
          {"split", split}};
}

std::string escaped(std::string_view text) {
  constexpr std::string_view kMeaning = R"(\.[]{}()*+?^$|#-&~ )";
  std::string pattern;
  for (const char c : text) {
    if (c == '\n') {
      pattern += "\\n";
    } else {
      if (kMeaning.find(c) != std::string_view::npos) pattern.push_back('\\');
      pattern.push_back(c);
    }
  }
  return pattern;
}

class Converter {
 public:
  Converter(const SentencePieceModel& model, const std::string& file_name,
            const ConversionStyle& style)
      : model_(model), style_(style) {
    const bool bpe = model.kind == SentencePieceModel::Kind::bpe;
    if (!bpe && model.kind != SentencePieceModel::Kind::unigram) {
      throw FileError(FileError::Kind::unsupported,
                      file_name +
                          ": a SentencePiece model of the kind word or character is not "
                          "read; BPE and Unigram are");
    }
    const std::string& name = style.tokenizer_class;
    const auto named = [&](std::string_view part) {
      return name.find(part) != std::string::npos ||
             (name.empty() && style.model_type.starts_with(lower(part)));
    };
    llama_ = bpe && (named("Llama") || named("Mistral"));
    gemma_ = bpe && named("Gemma");
    t5_ = !bpe && named("T5");
  }

  json convert() {
    json file = {{"version", "1.0"}, {"added_tokens", added_tokens()}, {"model", token_model()}};
    if (llama_) {
      add_llama(file);
    } else if (gemma_) {
      add_gemma(file);
    } else if (t5_) {
      add_t5(file);
    } else {
      add_plain(file);
    }
    file["post_processor"] = surroundings();
    return file;
  }

 private:
  static std::string lower(std::string_view text) {
    std::string out(text);
    std::transform(out.begin(), out.end(), out.begin(), [](char c) {
      return static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
    });
    return out;
  }

  json added_tokens() const;
  json token_model() const;
  json merges() const;
  json surroundings() const;
  std::vector<std::string> user_defined() const;
  void add_llama(json& file) const;
  void add_gemma(json& file) const;
  void add_t5(json& file) const;
  void add_plain(json& file) const;
  json decoder(bool strips) const;

  const SentencePieceModel& model_;
  const ConversionStyle& style_;
  bool llama_ = false, gemma_ = false, t5_ = false;
};

constexpr int kT5Blanks = 100;  // <extra_id_0> ..., after the model's own pieces

json Converter::added_tokens() const {
  json list = json::array();
  const auto add = [&](size_t id, std::string_view text, bool special) {
    list.push_back({{"id", id},
                    {"content", text},
                    {"special", special},
                    {"normalized", false},
                    {"lstrip", false},
                    {"rstrip", false},
                    {"single_word", false}});
  };
  for (size_t id = 0; id < model_.pieces.size(); ++id) {
    const SentencePieceModel::Piece& piece = model_.pieces[id];
    if (piece.text.empty()) continue;
    if (piece.kind == TokenKind::control || piece.kind == TokenKind::unknown) {
      add(id, piece.text, true);
    } else if (piece.kind == TokenKind::user_defined) {
      add(id, piece.text, false);
    }
  }
  for (int blank = kT5Blanks - 1; t5_ && blank >= 0; --blank) {
    add(model_.pieces.size() + static_cast<size_t>(kT5Blanks - 1 - blank),
        "<extra_id_" + std::to_string(blank) + ">", true);
  }
  return list;
}

json Converter::merges() const {
  std::vector<RankedPiece> pieces;
  for (size_t id = 0; id < model_.pieces.size(); ++id) {
    const SentencePieceModel::Piece& piece = model_.pieces[id];
    const bool joins = piece.kind == TokenKind::normal ||
                       ((llama_ || gemma_) && piece.kind == TokenKind::user_defined);
    if (!joins || piece.text.empty()) continue;
    pieces.push_back({static_cast<int32_t>(id), piece.text, piece.score});
  }
  const MergeOrder order =
      llama_ || gemma_ ? MergeOrder::lowest_id : MergeOrder::best_score_then_id;
  json list = json::array();
  for (const BpeMerge& merge : implied_merges(pieces, order)) {
    list.push_back({model_.pieces[static_cast<size_t>(merge.left)].text,
                    model_.pieces[static_cast<size_t>(merge.right)].text});
  }
  return list;
}

json Converter::token_model() const {
  const auto unknown = static_cast<size_t>(model_.unknown);
  if (model_.kind == SentencePieceModel::Kind::unigram) {
    json vocab = json::array();
    for (const auto& piece : model_.pieces) vocab.push_back({piece.text, piece.score});
    for (int blank = kT5Blanks - 1; t5_ && blank >= 0; --blank) {
      vocab.push_back({"<extra_id_" + std::to_string(blank) + ">", 0.0});
    }
    return {{"type", "Unigram"},
            {"unk_id", unknown},
            {"vocab", std::move(vocab)},
            {"byte_fallback", !t5_ && model_.byte_fallback}};
  }
  json vocab = json::object();
  for (size_t id = 0; id < model_.pieces.size(); ++id) {
    vocab.emplace(model_.pieces[id].text, id);
  }
  return {{"type", "BPE"},
          {"vocab", std::move(vocab)},
          {"merges", merges()},
          {"unk_token", model_.pieces[unknown].text},
          {"fuse_unk", true},
          {"byte_fallback", llama_ || gemma_ || model_.byte_fallback},
          {"ignore_merges", !llama_ && !gemma_ && !user_defined().empty()}};
}

// The longest first.
std::vector<std::string> Converter::user_defined() const {
  std::vector<std::string> texts;
  for (const auto& piece : model_.pieces) {
    if (piece.kind == TokenKind::user_defined && !piece.text.empty()) texts.push_back(piece.text);
  }
  std::stable_sort(texts.begin(), texts.end(), [](const std::string& a, const std::string& b) {
    const auto characters = [](const std::string& text) {
      return std::count_if(text.begin(), text.end(),
                           [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
    };
    return characters(a) > characters(b);
  });
  return texts;
}

json Converter::decoder(bool strips) const {
  json steps = json::array({replace_text(kSpaceMark, " ")});  // {x} alone is x to clang
  const bool bytes = llama_ || gemma_ || model_.byte_fallback;
  if (bytes) steps.push_back({{"type", "ByteFallback"}});
  if (bytes || strips) steps.push_back({{"type", "Fuse"}});
  if (strips) steps.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1u}, {"stop", 0u}});
  return sequence("decoders", std::move(steps));
}

void Converter::add_llama(json& file) const {
  file["pre_tokenizer"] = metaspace(style_.legacy ? "always" : "first", false);
  file["decoder"] = decoder(true);
}

void Converter::add_gemma(json& file) const {
  file["normalizer"] = replace_text(" ", kSpaceMark);
  file["pre_tokenizer"] = {{"type", "Split"},
                           {"pattern", {{"String", " "}}},
                           {"behavior", "MergedWithPrevious"},
                           {"invert", false}};
  file["decoder"] = decoder(false);
}

void Converter::add_t5(json& file) const {
  if (!model_.charsmap.empty()) {
    file["normalizer"] = {{"type", "Precompiled"},
                          {"precompiled_charsmap", base64(model_.charsmap)}};
  }
  file["pre_tokenizer"] = sequence(
      "pretokenizers", json::array({{{"type", "WhitespaceSplit"}}, metaspace("always", true)}));
  file["decoder"] = metaspace("always", true);
}

void Converter::add_plain(json& file) const {
  json normalizers = json::array();
  if (!model_.charsmap.empty()) {
    normalizers.push_back(
        {{"type", "Precompiled"}, {"precompiled_charsmap", base64(model_.charsmap)}});
  }
  if (model_.remove_extra_whitespaces) {  // spaces alone, not other white space
    normalizers.push_back(replace_regex(R"(\A +| +\z)", ""));
    normalizers.push_back(replace_regex(" {2,}", " "));
  }
  if (model_.escape_whitespaces) normalizers.push_back(replace_text(" ", kSpaceMark));
  json cutters = json::array();
  if (model_.add_dummy_prefix) {
    // Metaspace puts no mark in front of a text that begins with one, SentencePiece does.
    normalizers.push_back(replace_regex("\\A" + std::string(kSpaceMark),
                                        std::string(kSpaceMark) + std::string(kSpaceMark)));
    cutters.push_back(metaspace("always", false));
  }
  if (const auto words = user_defined(); !words.empty()) {
    std::string pattern;
    for (const std::string& word : words) pattern += (pattern.empty() ? "" : "|") + escaped(word);
    cutters.push_back({{"type", "Split"},
                       {"pattern", {{"Regex", pattern}}},
                       {"behavior", "Isolated"},
                       {"invert", false}});
  }
  if (!normalizers.empty()) file["normalizer"] = sequence("normalizers", std::move(normalizers));
  if (!cutters.empty()) file["pre_tokenizer"] = sequence("pretokenizers", std::move(cutters));
  file["decoder"] = decoder(model_.add_dummy_prefix);
}

json Converter::surroundings() const {
  const bool bpe = model_.kind == SentencePieceModel::Kind::bpe;
  json single = json::array();
  json tokens = json::object();
  const auto add = [&](const std::optional<int32_t>& id) {
    if (!id) return;
    const std::string& text = model_.pieces[static_cast<size_t>(*id)].text;
    single.push_back({{"SpecialToken", {{"id", text}, {"type_id", 0u}}}});
    tokens[text] = {{"id", text}, {"ids", {static_cast<uint32_t>(*id)}}, {"tokens", {text}}};
  };
  if (style_.add_bos.value_or(bpe)) add(model_.bos);
  single.push_back({{"Sequence", {{"id", "A"}, {"type_id", 0u}}}});
  if (style_.add_eos.value_or(t5_)) add(model_.eos);
  return {{"type", "TemplateProcessing"},
          {"single", std::move(single)},
          {"special_tokens", std::move(tokens)}};
}

}  // namespace

json convert_sentencepiece(const SentencePieceModel& model, const std::string& file_name,
                           const ConversionStyle& style) {
  return Converter(model, file_name, style).convert();
}

}  // namespace chorus::modelfile
