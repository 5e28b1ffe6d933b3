// Tokens of the kinds control, unknown and user-defined are matched in raw text, as a whole; all
// others by the model. So no control token is ever made by merging a user's text, which in the
// reference some can ("</" + "s>").
#include "modelfile/vocabulary_spec.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "modelfile/error.h"
#include "modelfile/pre_names.h"
#include "modelfile/score_merges.h"
#include "modelfile/turn_ends.h"

namespace chorus::modelfile {
namespace {

constexpr std::string_view kSpaceMark = "\u2581";
constexpr double kBeforeAllScores = 1e12;  // minus an id: for runs of spaces, shorter ones first

template <class Replace>
Replace replace(std::string_view from, std::string_view to) {
  Replace step;
  step.pattern.text = from;
  step.content = to;
  return step;
}

class Converter {
 public:
  Converter(const Vocabulary& vocabulary, std::string source) : vocabulary_(vocabulary) {
    spec_.source = std::move(source);
  }

  TokenizerSpec convert() {
    check_lists();
    read_tokens();
    read_special_tokens();
    const std::string& model = vocabulary_.model;
    if (model == "gpt2" && is_marked_bpe()) {
      convert_marked_bpe();
    } else if (model == "gpt2") {
      convert_byte_level();
    } else if (model == "llama") {
      convert_sentence_piece();
    } else if (model == "gemma4") {
      convert_marked_bpe();
    } else if (model == "t5") {
      convert_unigram();
    } else if (model == "bert") {
      convert_word_piece();
    } else {
      fail(FileError::Kind::unsupported, "the vocabulary's kind (tokenizer.ggml.model) is \"" +
                                             model +
                                             "\"; known are gpt2, llama, gemma4, t5 and bert");
    }
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
  TokenKind kind_of(size_t id) const;
  void add_token(size_t id, TokenKind kind);
  void read_special_tokens();
  bool strips_right(const std::string& token) const;
  bool strips_left(const std::string& token) const;

  bool is_marked_bpe() const {
    return vocabulary_.pre == "sarvam-moe" || vocabulary_.pre == "granite-embed-multi-311m";
  }
  void convert_byte_level();
  void convert_marked_bpe();
  void convert_sentence_piece();
  void convert_unigram();
  void convert_word_piece();
  void mark_spaces(bool prefix);
  void respell_spaces();
  void read_merges(BpeModel& bpe) const;
  std::vector<RankedPiece> ranked_pieces() const;

  std::optional<int32_t> find(std::string_view text) const {
    const auto found = ids_.find(text);
    return found == ids_.end() ? std::nullopt : std::optional(found->second);
  }

  const Vocabulary& vocabulary_;
  std::unordered_map<std::string_view, int32_t> ids_;  // of all tokens in use: the first of a text
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
  for (const float score : vocabulary_.scores) {
    if (std::isnan(score)) corrupt("has a score that is not a number");
  }
  check_id(vocabulary_.bos, "bos");
  check_id(vocabulary_.eos, "eos");
  check_id(vocabulary_.unknown, "unknown");
  check_id(vocabulary_.padding, "padding");
  check_id(vocabulary_.separator, "separator");
  for (const int32_t id : vocabulary_.end_of_turn) check_id(id, "end-of-turn");
}

// Converters fill a vocabulary up to the size of the embedding with "[PAD32011]" and give those
// any kind; and many files call the token that ends a turn a normal one.
TokenKind Converter::kind_of(size_t id) const {
  const std::string& text = vocabulary_.tokens[id];
  const TokenKind kind = vocabulary_.kinds[id];
  if (text == "[PAD" + std::to_string(id) + "]") return TokenKind::unused;
  const bool plain = kind == TokenKind::normal || kind == TokenKind::user_defined;
  return plain && is_turn_end(text) && text != "</s>" ? TokenKind::control : kind;
}

void Converter::add_token(size_t id, TokenKind kind) {
  AddedToken added;
  added.id = static_cast<int32_t>(id);
  added.content = vocabulary_.tokens[id];
  added.special = kind != TokenKind::user_defined;
  added.left_strip = strips_left(added.content);
  added.right_strip = strips_right(added.content);
  spec_.added.push_back(std::move(added));
}

void Converter::read_tokens() {
  const size_t count = vocabulary_.tokens.size();
  spec_.tokens.resize(count);
  ids_.reserve(count);
  for (size_t id = 0; id < count; ++id) {
    const std::string& text = vocabulary_.tokens[id];
    const TokenKind kind = kind_of(id);
    if (text.empty() || kind == TokenKind::unused) continue;
    if (kind == TokenKind::normal || kind == TokenKind::byte) {
      spec_.tokens[id] = text;
    } else {
      add_token(id, kind);
    }
    ids_.emplace(text, static_cast<int32_t>(id));
  }
  spec_.embedding_rows = static_cast<int64_t>(count);
}

// Attributes that GGUF does not carry, by the families that have them.
bool Converter::strips_right(const std::string& token) const {
  std::string name = vocabulary_.model_name;
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  const bool phi3 = vocabulary_.architecture == "phi3" || name.find("phi-3") != std::string::npos ||
                    name.find("phi3") != std::string::npos;
  if (!phi3 || vocabulary_.model != "llama") return false;
  return token != "<unk>" && token != "<s>" && token != "<|endoftext|>";
}

bool Converter::strips_left(const std::string& token) const {
  if (token == "[MASK]") return vocabulary_.pre == "modern-bert";
  if (token != "<mask>") return false;
  const std::string_view pre = vocabulary_.pre;
  return vocabulary_.model == "t5" || pre == "jina-v2-de" || pre == "jina-v2-es" ||
         pre == "jina-v2-code" || pre == "roberta-bpe";
}

void Converter::read_special_tokens() {
  spec_.bos = vocabulary_.bos;
  spec_.eos = vocabulary_.eos;
  spec_.unknown = vocabulary_.unknown;
  for (size_t id = 0; id < vocabulary_.kinds.size() && !spec_.unknown; ++id) {
    if (kind_of(id) == TokenKind::unknown) spec_.unknown = static_cast<int32_t>(id);
  }
  spec_.padding = vocabulary_.padding;
  std::vector<int32_t>& ends = spec_.end_of_turn;
  ends = turn_ends(spec_.added);
  ends.insert(ends.end(), vocabulary_.end_of_turn.begin(), vocabulary_.end_of_turn.end());
  if (vocabulary_.eos) ends.push_back(*vocabulary_.eos);
  std::sort(ends.begin(), ends.end());
  ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
  if (vocabulary_.add_bos && vocabulary_.bos) spec_.before.push_back(*vocabulary_.bos);
  if (vocabulary_.add_eos && vocabulary_.eos) spec_.after.push_back(*vocabulary_.eos);
}

void Converter::convert_byte_level() {
  const NamedPipeline* pipeline = find_pipeline(vocabulary_.pre);
  if (pipeline == nullptr) {
    const std::string which =
        vocabulary_.pre.empty() || vocabulary_.pre == "default"
            ? "is not named in the file (tokenizer.ggml.pre), and tokens would be wrong by guess; "
              "put the model's tokenizer.json beside the file, or convert it anew"
            : "(tokenizer.ggml.pre) is \"" + vocabulary_.pre + "\"";
    fail(FileError::Kind::unsupported, "the vocabulary's pre-tokenizer " + which + "; known are " +
                                           known_pipelines() +
                                           ", granite-embed-multi-311m, sarvam-moe");
  }
  if (pipeline->nfc) spec_.normalizer.emplace_back(normalizer::Unicode{normalizer::Form::nfc});
  spec_.pre_tokenizer = pipeline->pre_tokenizer();
  spec_.decoder.emplace_back(decoder::ByteLevel{});
  BpeModel bpe;
  bpe.ignore_merges = pipeline->ignore_merges;
  if (vocabulary_.merges.empty() && vocabulary_.pre == "kimi-k2") {
    bpe.merges = implied_merges(ranked_pieces(), MergeOrder::token_rank);
  } else {
    read_merges(bpe);
  }
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

// Spaces are written as U+2581; with `prefix` one stands before each text.
void Converter::mark_spaces(bool prefix) {
  const std::string mark(kSpaceMark);
  if (prefix) spec_.normalizer.emplace_back(normalizer::Prepend{mark});
  spec_.normalizer.emplace_back(replace<normalizer::Replace>(" ", mark));
  spec_.decoder.emplace_back(replace<decoder::Replace>(mark, " "));
  spec_.decoder.emplace_back(decoder::ByteFallback{});
  spec_.decoder.emplace_back(decoder::Fuse{});
  if (prefix) {
    spec_.decoder.emplace_back(decoder::Strip{.content = " ", .start = 1, .stop = 0});
  }
}

void Converter::convert_marked_bpe() {
  mark_spaces(vocabulary_.add_space_prefix.value_or(false));
  BpeModel bpe;
  bpe.byte_fallback = true;
  bpe.fuse_unknown = true;
  bpe.unknown = spec_.unknown;
  read_merges(bpe);
  spec_.model = std::move(bpe);
}

void Converter::convert_sentence_piece() {
  if (vocabulary_.scores.empty()) corrupt("has no scores");
  if (vocabulary_.architecture.starts_with("gemma")) respell_spaces();
  mark_spaces(vocabulary_.add_space_prefix.value_or(true));
  BpeModel bpe;
  bpe.byte_fallback = true;
  bpe.fuse_unknown = true;
  bpe.unknown = spec_.unknown;
  bpe.merges = implied_merges(ranked_pieces(), MergeOrder::best_score);
  spec_.model = std::move(bpe);
}

// Gemma's runs of spaces: the file has them as words of real spaces to be found in raw text, the
// model's tokenizer.json as tokens of U+2581 that merging arrives at, before all others.
void Converter::respell_spaces() {
  std::erase_if(spec_.added, [&](const AddedToken& added) {
    const std::string& text = added.content;
    if (added.special || text.find_first_not_of(' ') != std::string::npos) return false;
    std::string& token = spec_.tokens[static_cast<size_t>(added.id)];
    for (size_t i = 0; i < text.size(); ++i) token += kSpaceMark;
    return true;
  });
}

// The model's own tokens but for those of single bytes, which only stand in for characters that
// have no token.
std::vector<RankedPiece> Converter::ranked_pieces() const {
  std::vector<RankedPiece> pieces;
  pieces.reserve(spec_.tokens.size());
  std::unordered_set<std::string_view> seen;
  for (size_t id = 0; id < spec_.tokens.size(); ++id) {
    const std::string& text = spec_.tokens[id];
    if (text.empty() || vocabulary_.kinds[id] == TokenKind::byte) continue;
    if (!seen.insert(text).second) continue;
    double score = vocabulary_.scores.empty() ? 0 : vocabulary_.scores[id];
    if (text != vocabulary_.tokens[id]) score = kBeforeAllScores - static_cast<double>(id);
    pieces.push_back({static_cast<int32_t>(id), text, score});
  }
  return pieces;
}

// Tokens that the model must not match have no text there; the lowest score, which unknown
// characters go by, is to be that of a real one.
void Converter::convert_unigram() {
  if (vocabulary_.scores.empty()) corrupt("has no scores");
  UnigramModel unigram;
  unigram.unknown = spec_.unknown;
  unigram.scores.reserve(vocabulary_.scores.size());
  for (size_t id = 0; id < vocabulary_.scores.size(); ++id) {
    unigram.scores.push_back(spec_.tokens[id].empty() ? 0 : vocabulary_.scores[id]);
  }
  if (!vocabulary_.charsmap.empty()) {
    spec_.normalizer.emplace_back(normalizer::Precompiled{vocabulary_.charsmap});
  }
  const auto prepend = vocabulary_.add_space_prefix.value_or(true)
                           ? pre_tokenizer::PrependScheme::always
                           : pre_tokenizer::PrependScheme::never;
  spec_.pre_tokenizer.emplace_back(pre_tokenizer::WhitespaceSplit{});
  spec_.pre_tokenizer.emplace_back(pre_tokenizer::Metaspace{.prepend = prepend});
  spec_.decoder.emplace_back(decoder::Metaspace{.prepend = prepend});
  spec_.model = std::move(unigram);
}

// Converters write "##ing" as "ing" and "word" as U+2581 and "word".
void Converter::convert_word_piece() {
  WordPieceModel words;
  words.unknown = spec_.unknown;
  for (std::string& token : spec_.tokens) {
    if (token.empty()) continue;
    token = token.starts_with(kSpaceMark) ? token.substr(kSpaceMark.size())
                                          : words.continuing_subword_prefix + token;
  }
  normalizer::Bert bert;
  bert.lowercase = vocabulary_.lowercase.value_or(true);
  bert.strip_accents = vocabulary_.strip_accents;
  spec_.normalizer.emplace_back(bert);
  spec_.pre_tokenizer.emplace_back(pre_tokenizer::Bert{});
  spec_.decoder.emplace_back(decoder::WordPiece{.prefix = words.continuing_subword_prefix});
  spec_.model = std::move(words);
}

}  // namespace

TokenizerSpec spec_of(const Vocabulary& vocabulary, std::string source) {
  return Converter(vocabulary, std::move(source)).convert();
}

}  // namespace chorus::modelfile
