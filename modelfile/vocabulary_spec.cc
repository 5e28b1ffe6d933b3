#include "modelfile/vocabulary_spec.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numeric>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "modelfile/error.h"

namespace chorus::modelfile {
namespace {

constexpr std::string_view kSpaceMark = "\u2581";

// The patterns of the families, as their tokenizer.json spells them.
constexpr const char* kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen35 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kO200k =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kTekken =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// Where the pattern is null, it is GPT-2's. `digits`: each \p{N} is cut off first.
struct Family {
  const char* pattern = nullptr;
  bool digits = false;
  bool nfc = false;
  bool ignore_merges = false;
};
constexpr Family kGpt2{};
constexpr Family kGpt2Nfc{.nfc = true};
constexpr Family kDigitsGpt2{.digits = true};
constexpr Family kDigitsGpt2Nfc{.digits = true, .nfc = true};
constexpr Family kLlama3Whole{.pattern = kLlama3, .ignore_merges = true};

constexpr std::pair<std::string_view, Family> kFamilies[] = {
    {"chatglm-bpe", {.pattern = kLlama3}},
    {"codeshell", kDigitsGpt2},
    {"command-r", kDigitsGpt2Nfc},
    {"dbrx", {.pattern = kLlama3}},
    {"deepseek-r1-qwen", {.pattern = kQwen2, .nfc = true}},
    {"exaone", kDigitsGpt2},
    {"exaone4", kGpt2},
    {"falcon-h1", kLlama3Whole},
    {"falcon3", kLlama3Whole},
    {"glm4", kLlama3Whole},
    {"glm5", kLlama3Whole},
    {"gpt-2", kGpt2},
    {"gpt-4o", {.pattern = kO200k}},
    {"jais", kGpt2},
    {"kanana2", {.pattern = kO200k}},
    {"lfm2", kLlama3Whole},
    {"llama-bpe", kLlama3Whole},
    {"llama-v3", kLlama3Whole},
    {"llama3", kLlama3Whole},
    {"llama4", {.pattern = kO200k}},
    {"megrez", {.pattern = kQwen2}},
    {"mellum", kGpt2},
    {"minerva-7b", kDigitsGpt2},
    {"minimax-m2", {.pattern = kO200k}},
    {"modern-bert", kGpt2Nfc},
    {"mpt", kGpt2Nfc},
    {"olmo", kGpt2Nfc},
    {"phi-2", kGpt2},
    {"pixtral", kLlama3Whole},
    {"qwen2", {.pattern = kQwen2, .nfc = true}},
    {"qwen35", {.pattern = kQwen35, .nfc = true}},
    {"refact", kDigitsGpt2},
    {"smaug-bpe", {.pattern = kLlama3}},
    {"smollm", kDigitsGpt2},
    {"stablelm2", {.pattern = kQwen2}},
    {"starcoder", kDigitsGpt2},
    {"tekken", {.pattern = kTekken, .ignore_merges = true}},
    {"trillion", kGpt2},
};

class Converter {
 public:
  Converter(const Vocabulary& vocabulary, std::string source) : vocabulary_(vocabulary) {
    spec_.source = std::move(source);
  }

  TokenizerSpec convert() {
    check_lists();
    read_tokens();
    if (vocabulary_.model == "gpt2") {
      convert_byte_level();
    } else if (vocabulary_.model == "llama") {
      convert_sentence_piece();
    } else {
      fail(FileError::Kind::unsupported, "the vocabulary's kind (tokenizer.ggml.model) is \"" +
                                             vocabulary_.model + "\"; known are gpt2 and llama");
    }
    read_special_tokens();
    return std::move(spec_);
  }

 private:
  [[noreturn]] void fail(FileError::Kind kind, const std::string& why) const {
    throw FileError(kind, spec_.source + ": " + why);
  }
  [[noreturn]] void corrupt(const std::string& why) const {
    fail(FileError::Kind::corrupt, "the vocabulary " + why);
  }

  void check_lists() const;
  void check_id(std::optional<int32_t> id, const char* what) const;
  void read_tokens();
  void convert_byte_level();
  void read_merges(BpeModel& bpe) const;
  void convert_sentence_piece();
  void merge_by_score(BpeModel& bpe) const;
  std::vector<uint32_t> ranks_by_score() const;
  void read_special_tokens();
  std::optional<int32_t> find(std::string_view text) const {
    const auto found = ids_.find(text);
    return found == ids_.end() ? std::nullopt : std::optional(found->second);
  }

  const Vocabulary& vocabulary_;
  std::unordered_map<std::string_view, int32_t> ids_;  // the first one of a text
  TokenizerSpec spec_;
};

void Converter::check_id(std::optional<int32_t> id, const char* what) const {
  if (id && (*id < 0 || static_cast<size_t>(*id) >= vocabulary_.tokens.size())) {
    corrupt("has " + std::to_string(vocabulary_.tokens.size()) + " tokens, so its " + what +
            " token cannot be " + std::to_string(*id));
  }
}

void Converter::check_lists() const {
  const size_t count = vocabulary_.tokens.size();
  if (count == 0 || count > (1u << 30)) corrupt("has " + std::to_string(count) + " tokens");
  const auto one_each = [&](size_t entries, const char* what) {
    if (entries == count) return;
    corrupt("has " + std::to_string(count) + " tokens but " + std::to_string(entries) + " " + what);
  };
  one_each(vocabulary_.kinds.size(), "token types");
  if (!vocabulary_.scores.empty()) one_each(vocabulary_.scores.size(), "scores");
  check_id(vocabulary_.bos, "bos");
  check_id(vocabulary_.eos, "eos");
  check_id(vocabulary_.unknown, "unknown");
  check_id(vocabulary_.padding, "padding");
  for (const int32_t id : vocabulary_.end_of_turn) check_id(id, "end-of-turn");
}

// Control, unknown and user-defined tokens are matched in raw text; all others by the model, but
// for unused ones, which stand for nothing.
void Converter::read_tokens() {
  const size_t count = vocabulary_.tokens.size();
  spec_.tokens.resize(count);
  ids_.reserve(count);
  for (size_t id = 0; id < count; ++id) {
    const std::string& text = vocabulary_.tokens[id];
    const TokenKind kind = vocabulary_.kinds[id];
    if (text.empty() || kind == TokenKind::unused) continue;
    if (kind == TokenKind::normal || kind == TokenKind::byte) {
      spec_.tokens[id] = text;
    } else {
      AddedToken added;
      added.id = static_cast<int32_t>(id);
      added.content = text;
      added.special = kind != TokenKind::user_defined;
      spec_.added.push_back(std::move(added));
    }
    ids_.emplace(text, static_cast<int32_t>(id));
  }
  spec_.embedding_rows = static_cast<int64_t>(count);
}

void Converter::convert_byte_level() {
  const auto* found = std::find_if(std::begin(kFamilies), std::end(kFamilies),
                                   [&](const auto& f) { return f.first == vocabulary_.pre; });
  if (found == std::end(kFamilies)) {
    std::string known;
    for (const auto& [name, family] : kFamilies) {
      known += (known.empty() ? "" : ", ") + std::string(name);
    }
    fail(FileError::Kind::unsupported, "the vocabulary's pre-tokenizer (tokenizer.ggml.pre) is \"" +
                                           vocabulary_.pre + "\"; known are " + known);
  }
  const Family& family = found->second;
  if (family.nfc) spec_.normalizer.emplace_back(normalizer::Unicode{normalizer::Form::nfc});
  if (family.digits) spec_.pre_tokenizer.emplace_back(pre_tokenizer::Digits{.individual = true});
  if (family.pattern != nullptr) {
    spec_.pre_tokenizer.emplace_back(
        pre_tokenizer::Split{.pattern = {.is_regex = true, .text = family.pattern}});
  }
  spec_.pre_tokenizer.emplace_back(
      pre_tokenizer::ByteLevel{.add_prefix_space = false, .use_regex = family.pattern == nullptr});
  spec_.decoder.emplace_back(decoder::ByteLevel{});
  BpeModel bpe;
  bpe.ignore_merges = family.ignore_merges;
  read_merges(bpe);
  spec_.model = std::move(bpe);
}

// "left right"; a token may itself begin with a space.
void Converter::read_merges(BpeModel& bpe) const {
  bpe.merges.reserve(vocabulary_.merges.size());
  for (const std::string& merge : vocabulary_.merges) {
    const size_t space = merge.find(' ', 1);
    const auto rank = static_cast<uint32_t>(bpe.merges.size());
    const auto bad = [&](const char* why) {
      corrupt("has the merge " + std::to_string(rank) + ", \"" + merge + "\", which " + why);
    };
    if (space == std::string::npos) bad("is not two tokens with a space between");
    const auto left = find(std::string_view(merge).substr(0, space));
    const auto right = find(std::string_view(merge).substr(space + 1));
    const auto joined = find(merge.substr(0, space) + merge.substr(space + 1));
    if (!left || !right || !joined) bad("names a token that the vocabulary lacks");
    bpe.merges.push_back({*left, *right, *joined, rank});
  }
}

void Converter::convert_sentence_piece() {
  const bool prefix = vocabulary_.add_space_prefix.value_or(true);
  const std::string mark(kSpaceMark);
  if (prefix) spec_.normalizer.emplace_back(normalizer::Prepend{mark});
  TextPattern space;
  space.text = " ";
  spec_.normalizer.emplace_back(normalizer::Replace{space, mark});
  TextPattern written;
  written.text = mark;
  spec_.decoder.emplace_back(decoder::Replace{written, " "});
  spec_.decoder.emplace_back(decoder::ByteFallback{});
  spec_.decoder.emplace_back(decoder::Fuse{});
  if (prefix) {
    spec_.decoder.emplace_back(decoder::Strip{.content = " ", .start = 1, .stop = 0});
  }
  BpeModel bpe;
  bpe.byte_fallback = true;
  bpe.fuse_unknown = true;
  bpe.unknown = vocabulary_.unknown;
  merge_by_score(bpe);
  spec_.model = std::move(bpe);
}

// 0 for the highest score; equal scores have equal ranks.
std::vector<uint32_t> Converter::ranks_by_score() const {
  if (vocabulary_.scores.empty()) corrupt("has no scores");
  for (const float score : vocabulary_.scores) {
    if (std::isnan(score)) corrupt("has a score that is not a number");
  }
  std::vector<uint32_t> order(vocabulary_.scores.size());
  std::iota(order.begin(), order.end(), 0u);
  const auto score = [&](uint32_t id) { return vocabulary_.scores[id]; };
  std::sort(order.begin(), order.end(),
            [&](uint32_t a, uint32_t b) { return score(a) > score(b); });
  std::vector<uint32_t> ranks(order.size());
  uint32_t rank = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    if (i > 0 && score(order[i]) != score(order[i - 1])) ++rank;
    ranks[order[i]] = rank;
  }
  return ranks;
}

// Two neighbours join where their joined text is a token, the one of the highest score first: each
// way to cut a normal token into two is a merge of that token's rank.
void Converter::merge_by_score(BpeModel& bpe) const {
  const std::vector<uint32_t> ranks = ranks_by_score();
  const auto normal = [&](std::string_view text) -> std::optional<int32_t> {
    const auto id = find(text);
    if (!id || vocabulary_.kinds[static_cast<size_t>(*id)] != TokenKind::normal) return {};
    return id;
  };
  for (size_t id = 0; id < vocabulary_.tokens.size(); ++id) {
    const std::string_view text = vocabulary_.tokens[id];
    if (normal(text) != static_cast<int32_t>(id)) continue;
    for (size_t cut = 1; cut < text.size(); ++cut) {
      if ((static_cast<unsigned char>(text[cut]) & 0xC0) == 0x80) continue;
      const auto left = normal(text.substr(0, cut));
      if (!left) continue;
      if (const auto right = normal(text.substr(cut))) {
        bpe.merges.push_back({*left, *right, static_cast<int32_t>(id), ranks[id]});
      }
    }
  }
}

void Converter::read_special_tokens() {
  spec_.bos = vocabulary_.bos;
  spec_.eos = vocabulary_.eos;
  spec_.unknown = vocabulary_.unknown;
  spec_.padding = vocabulary_.padding;
  spec_.end_of_turn = vocabulary_.end_of_turn;
  if (vocabulary_.add_bos && vocabulary_.bos) spec_.before.push_back(*vocabulary_.bos);
  if (vocabulary_.add_eos && vocabulary_.eos) spec_.after.push_back(*vocabulary_.eos);
}

}  // namespace

TokenizerSpec spec_of(const Vocabulary& vocabulary, std::string source) {
  return Converter(vocabulary, std::move(source)).convert();
}

}  // namespace chorus::modelfile
