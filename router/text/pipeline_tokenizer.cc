// End ids: a file's eos is often the base model's, so every control token whose text is known to
// end a turn or a text ends generation as well.
#include "router/text/pipeline_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <limits>
#include <unordered_set>
#include <utility>
#include <variant>

#include "modelfile/error.h"
#include "modelfile/turn_ends.h"
#include "router/text/unicode/unicode.h"

namespace chorus::text {
namespace {

using modelfile::AddedToken;
using modelfile::FileError;
using modelfile::TokenizerSpec;

// Metaspace's "first" asks where a piece was in the original, which steps before it may have moved.
bool asks_for_origin(const TokenizerSpec& spec) {
  namespace pre = modelfile::pre_tokenizer;
  for (size_t i = 0; i < spec.pre_tokenizer.size(); ++i) {
    const auto* metaspace = std::get_if<pre::Metaspace>(&spec.pre_tokenizer[i]);
    if (metaspace == nullptr || metaspace->prepend != pre::PrependScheme::first) continue;
    if (i > 0 || !spec.normalizer.empty()) return true;
  }
  return false;
}

// Of `ranges`, in bytes of an original, the bytes of a text with these origins.
std::vector<ByteRange> ranges_by_origin(const std::vector<Origin>& origin,
                                        const std::vector<ByteRange>& ranges) {
  std::vector<ByteRange> found;
  size_t range = 0;
  for (size_t at = 0; at < origin.size(); ++at) {
    while (range < ranges.size() && ranges[range].end <= int64_t{origin[at].begin}) ++range;
    if (range == ranges.size()) break;
    if (ranges[range].begin >= int64_t{origin[at].end}) continue;
    auto begin = static_cast<int64_t>(at);
    if (!found.empty() && found.back().end == begin) {
      ++found.back().end;
    } else {
      found.push_back({begin, begin + 1});
    }
  }
  return found;
}

bool is_trimmed(char32_t code) {
  return code == 0x120 || (unicode::class_of(code) & unicode::kSpace) != 0;  // U+0120: a space
}

}  // namespace

// One encoding at work: appends ids, and what they came from where that is asked for.
class PipelineTokenizer::Run {
 public:
  Run(const PipelineTokenizer& tokenizer, const Prompt& prompt, std::vector<int32_t>& ids,
      std::vector<ByteRange>* offsets)
      : self_(tokenizer), prompt_(prompt), ids_(ids), offsets_(offsets) {
    assert(prompt.text.size() < std::numeric_limits<uint32_t>::max());
  }

  void text() {
    std::string_view text = prompt_.text;
    std::vector<AddedTokens::Match> matches;
    self_.raw_added_.find_all(text, prompt_.from_outside, matches);
    size_t done = 0;
    for (const AddedTokens::Match& match : matches) {
      if (match.begin > done) between(text.substr(done, match.begin - done), done);
      put_added(match.id, text.substr(match.begin, match.end - match.begin), match.begin,
                match.end);
      done = match.end;
    }
    if (done < text.size()) between(text.substr(done), done);
  }

  void surroundings(const std::vector<int32_t>& ids) {
    ids_.insert(ids_.end(), ids.begin(), ids.end());
    if (offsets_ != nullptr) offsets_->insert(offsets_->end(), ids.size(), ByteRange{});
  }

 private:
  // Text between raw matches, which begins at `base` of the prompt.
  void between(std::string_view text, size_t base) {
    const Normalizer& normalizer = self_.normalizer_;
    bool guards = self_.normalized_added_.has_control() && !prompt_.from_outside.empty();
    bool tracked = offsets_ != nullptr || self_.needs_origin_ || guards;
    if (normalizer.leaves_alone(text)) {
      if (!tracked) return normalized(text, {}, base == 0);
      return normalized(text, align(text, base, true).origin, base == 0);
    }
    AlignedText aligned = align(text, base, tracked);
    normalizer.apply(aligned);
    normalized(aligned.text, aligned.origin, base == 0);
  }

  void normalized(std::string_view text, const std::vector<Origin>& origin, bool at_start) {
    std::vector<AddedTokens::Match> matches;
    if (!self_.normalized_added_.empty()) {
      self_.normalized_added_.find_all(text, ranges_by_origin(origin, prompt_.from_outside),
                                       matches);
    }
    size_t done = 0;
    for (const AddedTokens::Match& match : matches) {
      if (match.begin > done) plain(text, origin, done, match.begin, at_start);
      size_t begin = 0;
      size_t end = 0;
      if (!origin.empty()) {
        begin = origin[match.begin].begin;
        end = origin[match.end - 1].end;
      }
      put_added(match.id, text.substr(match.begin, match.end - match.begin), begin, end);
      done = match.end;
    }
    if (done < text.size()) plain(text, origin, done, text.size(), at_start);
  }

  // A part of a normalised text without added tokens.
  void plain(std::string_view text, const std::vector<Origin>& origin, size_t begin, size_t end,
             bool at_start) {
    std::string_view part = text.substr(begin, end - begin);
    if (self_.pre_tokenizer_.lone_scanner() != nullptr && offsets_ == nullptr) return scan(part);
    thread_local Pieces pieces;
    pieces.origin.clear();
    if (!origin.empty()) {
      auto from = origin.begin();
      pieces.origin.assign(from + static_cast<std::ptrdiff_t>(begin),
                           from + static_cast<std::ptrdiff_t>(end));
    }
    pieces.at_start = at_start && begin == 0;
    self_.pre_tokenizer_.apply(part, pieces);
    for (Piece piece : pieces.pieces) {
      if (offsets_ == nullptr) {
        self_.model_->encode(pieces.of(piece), ids_);
      } else {
        put_spans(pieces, piece);
      }
    }
  }

  // The common case: one scanner over the text, and nothing to write down.
  void scan(std::string_view text) {
    Scanner scanner = self_.pre_tokenizer_.lone_scanner();
    if (!self_.pre_tokenizer_.digits_apart()) return scan_part(scanner, text);
    size_t begin = 0;
    for (size_t at = 0; at < text.size();) {
      unicode::Character character = unicode::decode(text.substr(at));
      auto bytes = static_cast<size_t>(character.bytes);
      if (is_number(character.code)) {
        scan_part(scanner, text.substr(begin, at - begin));
        scan_part(scanner, text.substr(at, bytes));
        begin = at + bytes;
      }
      at += bytes;
    }
    scan_part(scanner, text.substr(begin));
  }

  static bool is_number(char32_t code) {
    if (code < 0x80) return code >= '0' && code <= '9';
    return unicode::has_trait(code, unicode::kDigitsNumber);
  }

  void scan_part(Scanner scanner, std::string_view text) {
    size_t begin = 0;
    for (size_t at = 0; at < text.size();) {
      size_t end = scanner(text, at);
      if (end == at) {
        at += static_cast<size_t>(unicode::decode(text.substr(at)).bytes);
        continue;
      }
      if (begin < at) self_.model_->encode(text.substr(begin, at - begin), ids_);
      self_.model_->encode(text.substr(at, end - at), ids_);
      begin = at = end;
    }
    if (begin < text.size()) self_.model_->encode(text.substr(begin), ids_);
  }

  void put_spans(const Pieces& pieces, Piece piece) {
    spans_.clear();
    self_.model_->encode_spans(pieces.of(piece), spans_);
    for (const TokenSpan& span : spans_) {
      size_t begin = piece.begin + span.begin;
      size_t end = std::min<size_t>(piece.begin + span.end, pieces.origin.size());
      if (begin >= end) {
        put(span.id, {}, 0, 0);
      } else {
        put(span.id, look_of(pieces, span, begin, end), pieces.origin[begin].begin,
            pieces.origin[end - 1].end);
      }
    }
  }

  // An unknown token looks like the text it stands for where the model is a Unigram.
  std::string_view look_of(const Pieces& pieces, const TokenSpan& span, size_t begin,
                           size_t end) const {
    const auto* unigram = std::get_if<modelfile::UnigramModel>(&self_.spec_.model);
    if (unigram != nullptr && unigram->unknown == span.id) {
      return pieces.text.substr(begin, end - begin);
    }
    return self_.texts_[static_cast<size_t>(span.id)];
  }

  void put_added(int32_t id, std::string_view matched, size_t begin, size_t end) {
    put(id, matched, begin, end);
  }

  // `text`: what the token looks like, for trimming.
  void put(int32_t id, std::string_view text, size_t begin, size_t end) {
    ids_.push_back(id);
    if (offsets_ == nullptr) return;
    if (self_.spec_.trim_offsets) trim(text, begin, end);
    offsets_->push_back({static_cast<int64_t>(begin), static_cast<int64_t>(end)});
    ++put_;
  }

  // White space at a token's ends does not count, character for character of the original.
  void trim(std::string_view text, size_t& begin, size_t& end) const {
    size_t leading = 0;
    size_t trailing = 0;
    size_t at = 0;
    for (bool inside = false; at < text.size();) {
      unicode::Character character = unicode::decode(text.substr(at));
      bool trimmed = is_trimmed(character.code);
      if (!inside && trimmed) ++leading;
      trailing = trimmed ? trailing + 1 : 0;
      inside = inside || !trimmed;
      at += static_cast<size_t>(character.bytes);
    }
    bool first = put_ == 0 || begin == 0;
    if (leading == 1 && first && self_.spec_.trim_offsets->prefix_space) leading = 0;
    std::string_view original = prompt_.text;
    for (; leading > 0 && begin < end; --leading) {
      begin += static_cast<size_t>(unicode::decode(original.substr(begin)).bytes);
    }
    begin = std::min(begin, end);
    for (; trailing > 0 && end > begin; --trailing) {
      do {
        --end;
      } while (end > begin && (static_cast<unsigned char>(original[end]) & 0xC0) == 0x80);
    }
  }

  const PipelineTokenizer& self_;
  const Prompt& prompt_;
  std::vector<int32_t>& ids_;
  std::vector<ByteRange>* offsets_;
  std::vector<TokenSpan> spans_;
  size_t put_ = 0;
};

class PipelineTokenizer::Decoder final : public TokenDecoder {
 public:
  Decoder(const PipelineTokenizer& tokenizer, bool skip_special_tokens)
      : self_(tokenizer), skip_(skip_special_tokens), steps_(tokenizer.decoders_.start()) {}

  std::string push(int32_t id) override {
    if (id < 0 || id >= self_.size()) return {};
    auto index = static_cast<size_t>(id);
    if (skip_ && self_.control_[index]) return {};
    const std::string& seen =
        self_.decoder_texts_.empty() ? self_.texts_[index] : self_.decoder_texts_[index];
    if (seen.empty()) return {};
    return through(0, {seen}, false);
  }
  std::string finish() override { return through(0, {}, true); }

 private:
  // The tokens through the steps from `first` on; each is told when no more will come.
  std::string through(size_t first, std::vector<std::string> tokens, bool last) {
    for (size_t i = first; i < steps_.size(); ++i) {
      std::vector<std::string> made;
      for (std::string& token : tokens) steps_[i]->push(std::move(token), made);
      if (last) steps_[i]->finish(made);
      tokens = std::move(made);
    }
    std::string text;
    for (const std::string& token : tokens) text += token;
    return text;
  }

  const PipelineTokenizer& self_;
  bool skip_;
  std::vector<std::unique_ptr<DecodeStep>> steps_;
};

PipelineTokenizer::PipelineTokenizer(TokenizerSpec spec)
    : spec_(std::move(spec)),
      normalizer_(spec_.normalizer, spec_.source),
      pre_tokenizer_(spec_.pre_tokenizer, takes_bytes(spec_), spec_.source),
      model_(make_token_model(spec_)),
      decoders_(spec_),
      needs_origin_(asks_for_origin(spec_)),
      raw_added_(added_tokens(false)),
      normalized_added_(added_tokens(true)) {
  check_ids();
  read_texts();
  read_bytes();
  find_end_ids();
  if (auto* bpe = std::get_if<modelfile::BpeModel>(&spec_.model)) {
    std::vector<modelfile::BpeMerge>().swap(bpe->merges);
  }
}

AddedTokens PipelineTokenizer::added_tokens(bool normalized) const {
  std::vector<AddedTokens::Token> tokens;
  for (const AddedToken& added : spec_.added) {
    if (added.normalized != normalized) continue;
    AlignedText content{added.content, {}};
    if (normalized) normalizer_.apply(content);
    if (content.text.empty()) continue;
    tokens.push_back({content.text, added.id, added.special, added.left_strip, added.right_strip,
                      added.single_word});
  }
  return AddedTokens(std::move(tokens));
}

void PipelineTokenizer::check_ids() const {
  auto fail = [&](const std::string& why) {
    throw FileError(FileError::Kind::corrupt, spec_.source + ": the vocabulary " + why);
  };
  constexpr size_t kTokensMax = 1u << 30;
  if (spec_.tokens.size() > kTokensMax || spec_.embedding_rows > int64_t{kTokensMax}) {
    fail("has too many tokens");
  }
  auto count = std::max(static_cast<int64_t>(spec_.tokens.size()), spec_.embedding_rows);
  for (const AddedToken& added : spec_.added) {
    if (added.id < 0 || added.id > 2 * count + 65536) {
      fail(fmt::format("has the added token {} with the id {}", added.content, added.id));
    }
    count = std::max(count, int64_t{added.id} + 1);
  }
  if (count == 0) fail("is empty");
  auto check = [&](int32_t id, const char* what) {
    if (id >= 0 && id < count) return;
    fail(fmt::format("has {} tokens, so its {} token cannot be {}", count, what, id));
  };
  auto check_all = [&](const auto& ids, const char* what) {
    for (int32_t id : ids) check(id, what);
  };
  if (spec_.bos) check(*spec_.bos, "bos");
  if (spec_.eos) check(*spec_.eos, "eos");
  std::visit(
      [&](const auto& model) {
        if (!model.unknown) return;
        if (static_cast<size_t>(*model.unknown) >= spec_.tokens.size()) {
          check(*model.unknown, "unknown");
        }
      },
      spec_.model);
  check_all(spec_.before, "first");
  check_all(spec_.after, "last");
  check_all(spec_.end_of_turn, "end-of-turn");
}

void PipelineTokenizer::read_texts() {
  auto count = std::max(spec_.tokens.size(), static_cast<size_t>(spec_.embedding_rows));
  for (const AddedToken& added : spec_.added) {
    count = std::max(count, static_cast<size_t>(added.id) + 1);
  }
  texts_ = spec_.tokens;
  texts_.resize(count);
  control_.resize(count);
  std::unordered_set<std::string_view> special;
  for (const AddedToken& added : spec_.added) {
    texts_[static_cast<size_t>(added.id)] = added.content;
    if (added.special) special.insert(added.content);
  }
  // By text: a vocabulary may have the same one twice.
  for (size_t id = 0; id < count && !special.empty(); ++id) {
    control_[id] = !texts_[id].empty() && special.contains(texts_[id]);
  }
}

void PipelineTokenizer::read_bytes() {
  // A token that was found in normalised text is decoded from there too.
  for (const AddedToken& added : spec_.added) {
    AlignedText content{added.content, {}};
    if (added.normalized) normalizer_.apply(content);
    if (content.text == added.content) continue;
    if (decoder_texts_.empty()) decoder_texts_ = texts_;
    decoder_texts_[static_cast<size_t>(added.id)] = content.text;
  }
  bytes_.resize(texts_.size());
  for (size_t id = 0; id < texts_.size(); ++id) {
    const std::string& seen = decoder_texts_.empty() ? texts_[id] : decoder_texts_[id];
    if (seen.empty()) continue;
    if (control_[id]) {
      std::string shown = decoders_.bytes_of(seen);
      if (shown != texts_[id]) control_bytes_[static_cast<int32_t>(id)] = std::move(shown);
      continue;
    }
    if (decoders_.by_token()) {
      bytes_[id] = decoders_.bytes_of(seen);
      continue;
    }
    // In the midst of a text: what it adds to a text of one other token.
    Decoder alone(*this, true);
    Decoder both(*this, true);
    std::string before = alone.push(static_cast<int32_t>(id));
    before += alone.finish();
    std::string all = both.push(static_cast<int32_t>(id));
    all += both.push(static_cast<int32_t>(id));
    all += both.finish();
    bytes_[id] = all.substr(std::min(before.size(), all.size()));
  }
}

std::string_view PipelineTokenizer::control_bytes(int32_t id) const {
  const auto found = control_bytes_.find(id);
  return found == control_bytes_.end() ? text(id) : std::string_view(found->second);
}

void PipelineTokenizer::find_end_ids() {
  end_ids_ = spec_.end_of_turn;
  if (spec_.eos) end_ids_.push_back(*spec_.eos);
  const std::vector<int32_t> known = modelfile::turn_ends(spec_.added);
  end_ids_.insert(end_ids_.end(), known.begin(), known.end());
  std::sort(end_ids_.begin(), end_ids_.end());
  end_ids_.erase(std::unique(end_ids_.begin(), end_ids_.end()), end_ids_.end());
}

std::vector<int32_t> PipelineTokenizer::encode(const Prompt& prompt, bool add_special) const {
  std::vector<int32_t> ids;
  ids.reserve(prompt.text.size() / 3 + 2);
  Run run(*this, prompt, ids, nullptr);
  if (add_special) run.surroundings(spec_.before);
  run.text();
  if (add_special) run.surroundings(spec_.after);
  return ids;
}

Encoding PipelineTokenizer::encode_with_offsets(const Prompt& prompt, bool add_special) const {
  Encoding encoding;
  Run run(*this, prompt, encoding.ids, &encoding.offsets);
  if (add_special) run.surroundings(spec_.before);
  run.text();
  if (add_special) run.surroundings(spec_.after);
  return encoding;
}

std::unique_ptr<TokenDecoder> PipelineTokenizer::make_decoder(bool skip_special_tokens) const {
  if (decodes_by_token()) return Tokenizer::make_decoder(skip_special_tokens);
  return std::make_unique<Decoder>(*this, skip_special_tokens);
}

}  // namespace chorus::text
