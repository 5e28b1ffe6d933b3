#include "router/text/pipeline/pre_tokenizer.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "router/text/pipeline/normalizer.h"
#include "router/text/pipeline/pattern.h"
#include "router/text/unicode/unicode.h"

namespace chorus::text {
namespace {

using modelfile::SplitBehavior;
namespace spec = modelfile::pre_tokenizer;

bool is_space(char32_t code) {
  return (unicode::class_of(code) & unicode::kSpace) != 0;
}
bool is_number(char32_t code) {
  return unicode::has_trait(code, unicode::kDigitsNumber);
}
bool is_punctuation(char32_t code) {
  return unicode::has_trait(code, unicode::kBertPunctuation);
}
// What Rust's regular expressions take for a word: \w with the two joiners.
bool is_word(char32_t code) {
  return unicode::is_word(code) || code == 0x200C || code == 0x200D;
}

uint32_t at(size_t position) {
  return static_cast<uint32_t>(position);
}

void put(std::vector<Piece>& out, uint32_t base, size_t begin, size_t end) {
  if (begin < end) out.push_back({base + at(begin), base + at(end)});
}

// A part of a text that a pattern matches, or one between matches.
struct Part {
  size_t begin, end;
  bool match;
};

// The pieces that a behaviour makes of a text's parts, which lie side by side.
void merge_parts(const std::vector<Part>& parts, SplitBehavior behavior, uint32_t base,
                 std::vector<Piece>& out) {
  switch (behavior) {
    case SplitBehavior::isolated:
      for (const Part& part : parts) put(out, base, part.begin, part.end);
      return;
    case SplitBehavior::removed:
      for (const Part& part : parts) {
        if (!part.match) put(out, base, part.begin, part.end);
      }
      return;
    case SplitBehavior::contiguous:
      for (size_t i = 0; i < parts.size();) {
        size_t j = i + 1;
        while (j < parts.size() && parts[j].match == parts[i].match) ++j;
        put(out, base, parts[i].begin, parts[j - 1].end);
        i = j;
      }
      return;
    case SplitBehavior::merged_with_previous:
      // A match joins what stands before it, unless that is a match too.
      for (size_t i = 0; i < parts.size(); ++i) {
        bool joins = i + 1 < parts.size() && parts[i + 1].match && !parts[i].match;
        put(out, base, parts[i].begin, parts[joins ? i + 1 : i].end);
        if (joins) ++i;
      }
      return;
    case SplitBehavior::merged_with_next:
      for (size_t i = 0; i < parts.size(); ++i) {
        bool joins = i + 1 < parts.size() && parts[i].match && !parts[i + 1].match;
        put(out, base, parts[i].begin, parts[joins ? i + 1 : i].end);
        if (joins) ++i;
      }
      return;
  }
}

// Each character that a predicate holds for is a match of its own.
template <bool (*holds)(char32_t)>
class CharacterCutter final : public Cutter {
 public:
  explicit CharacterCutter(SplitBehavior behavior) : behavior_(behavior) {}

  void cut(std::string_view text, uint32_t base, std::vector<Piece>& out) const override {
    thread_local std::vector<Part> parts;
    parts.clear();
    size_t begin = 0;
    for (size_t i = 0; i < text.size();) {
      unicode::Character character = unicode::decode(text.substr(i));
      size_t end = i + static_cast<size_t>(character.bytes);
      if (holds(character.code)) {
        if (begin < i) parts.push_back({begin, i, false});
        parts.push_back({i, end, true});
        begin = end;
      }
      i = end;
    }
    if (begin < text.size()) parts.push_back({begin, text.size(), false});
    merge_parts(parts, behavior_, base, out);
  }

 private:
  SplitBehavior behavior_;
};

class BertCutter final : public Cutter {
 public:
  void cut(std::string_view text, uint32_t base, std::vector<Piece>& out) const override {
    size_t begin = 0;
    for (size_t i = 0; i < text.size();) {
      unicode::Character character = unicode::decode(text.substr(i));
      size_t end = i + static_cast<size_t>(character.bytes);
      bool space = is_space(character.code);
      if (space || is_punctuation(character.code)) {
        put(out, base, begin, i);
        if (!space) put(out, base, i, end);
        begin = end;
      }
      i = end;
    }
    put(out, base, begin, text.size());
  }
};

// \w+|[^\w\s]+
class WhitespaceCutter final : public Cutter {
 public:
  void cut(std::string_view text, uint32_t base, std::vector<Piece>& out) const override {
    size_t begin = 0;
    Kind kind = Kind::space;
    for (size_t i = 0; i < text.size();) {
      unicode::Character character = unicode::decode(text.substr(i));
      Kind next = is_word(character.code)    ? Kind::word
                  : is_space(character.code) ? Kind::space
                                             : Kind::other;
      if (next != kind) {
        if (kind != Kind::space) put(out, base, begin, i);
        begin = i;
        kind = next;
      }
      i += static_cast<size_t>(character.bytes);
    }
    if (kind != Kind::space) put(out, base, begin, text.size());
  }

 private:
  enum class Kind { space, word, other };
};

// A run of characters of one script; some characters belong to whatever is around them.
class ScriptCutter final : public Cutter {
 public:
  void cut(std::string_view text, uint32_t base, std::vector<Piece>& out) const override {
    int last = kNone;
    size_t begin = 0;
    for (size_t i = 0; i < text.size();) {
      unicode::Character character = unicode::decode(text.substr(i));
      int script = script_of(character.code);
      if (script != kAny) {
        // What comes before the first character with a script is dropped, as the reference does.
        if (script != last) {
          if (last != kNone) put(out, base, begin, i);
          begin = i;
        }
        last = script;
      }
      i += static_cast<size_t>(character.bytes);
    }
    if (last != kNone) put(out, base, begin, text.size());
  }

 private:
  static constexpr int kNone = -1;
  static constexpr int kAny = -2;

  // Scripts as of Unicode 9; Han, Hiragana and Katakana count as one.
  static int script_of(char32_t code) {
    static const int kHan = unicode::script_named("Han");
    static const int kUnknown = unicode::script_named("Unknown");
    static const int kCommon = unicode::script_named("Common");
    static const int kDevanagari = unicode::script_named("Devanagari");
    static const int kHiragana = unicode::script_named("Hiragana");
    static const int kKatakana = unicode::script_named("Katakana");
    if (code == ' ') return kAny;
    if (code == 0x30FC) return kHan;
    if (code == 0x589 || code == 0x61C) return kCommon;  // these four have moved since
    if (code == 0x953 || code == 0x954) return kDevanagari;
    const auto& detail = unicode::detail_of(code);
    int script = detail.script;
    if ((detail.traits & unicode::kInUnicode9) == 0 || script == kUnknown) return kAny;
    return script == kHiragana || script == kKatakana ? kHan : script;
  }
};

class FixedLengthCutter final : public Cutter {
 public:
  explicit FixedLengthCutter(int64_t length) : length_(length) {}
  void cut(std::string_view text, uint32_t base, std::vector<Piece>& out) const override {
    size_t begin = 0;
    int64_t characters = 0;
    for (size_t i = 0; i < text.size();) {
      if (characters == length_) {
        put(out, base, begin, i);
        begin = i;
        characters = 0;
      }
      ++characters;
      i += static_cast<size_t>(unicode::decode(text.substr(i)).bytes);
    }
    put(out, base, begin, text.size());
  }

 private:
  int64_t length_;
};

// Matches by a scanner; what it does not match lies between.
class ScanCutter final : public Cutter {
 public:
  ScanCutter(Scanner scanner, SplitBehavior behavior, bool invert)
      : scanner_(scanner), behavior_(behavior), invert_(invert) {}

  void cut(std::string_view text, uint32_t base, std::vector<Piece>& out) const override {
    thread_local std::vector<Part> parts;
    parts.clear();
    size_t begin = 0;
    for (size_t i = 0; i < text.size();) {
      size_t end = scanner_(text, i);
      if (end == i) {
        i += static_cast<size_t>(unicode::decode(text.substr(i)).bytes);
        continue;
      }
      if (begin < i) parts.push_back({begin, i, invert_});
      parts.push_back({i, end, !invert_});
      begin = i = end;
    }
    if (begin < text.size()) parts.push_back({begin, text.size(), invert_});
    merge_parts(parts, behavior_, base, out);
  }

 private:
  Scanner scanner_;
  SplitBehavior behavior_;
  bool invert_;
};

class PatternCutter final : public Cutter {
 public:
  PatternCutter(const spec::Split& split, const std::string& source)
      : pattern_(split.pattern, source), behavior_(split.behavior), invert_(split.invert) {}

  void cut(std::string_view text, uint32_t base, std::vector<Piece>& out) const override {
    thread_local std::vector<Pattern::Span> matches;
    thread_local std::vector<Part> parts;
    pattern_.find_all(text, matches);
    parts.clear();
    size_t done = 0;
    for (const Pattern::Span& match : matches) {
      if (done != match.begin) parts.push_back({done, match.begin, invert_});
      parts.push_back({match.begin, match.end, !invert_});
      done = match.end;
    }
    if (done != text.size()) parts.push_back({done, text.size(), invert_});
    merge_parts(parts, behavior_, base, out);
  }

 private:
  Pattern pattern_;
  SplitBehavior behavior_;
  bool invert_;
};

// Writes the pieces' texts anew, side by side.
class PieceWriter {
 public:
  explicit PieceWriter(const Pieces& source) : source_(source) {
    made_.text.reserve(source.text.size() + source.text.size() / 4);
  }

  void begin_piece() { begin_ = made_.text.size(); }
  // Text with the origin of byte `from` of the source.
  void put(std::string_view text, size_t from) {
    made_.text += text;
    if (!source_.origin.empty()) {
      made_.origin.insert(made_.origin.end(), text.size(), source_.origin[from]);
    }
  }
  void put_byte_spelled(size_t from) {
    spelled_.clear();
    unicode::append_utf8(spelled_, printable_byte(static_cast<unsigned char>(source_.text[from])));
    put(spelled_, from);
  }
  void copy(size_t begin, size_t end) {
    made_.text.append(source_.text.substr(begin, end - begin));
    if (source_.origin.empty()) return;
    auto from = source_.origin.begin();
    made_.origin.insert(made_.origin.end(), from + static_cast<std::ptrdiff_t>(begin),
                        from + static_cast<std::ptrdiff_t>(end));
  }
  void end_piece() { pieces_.push_back({at(begin_), at(made_.text.size())}); }

  void finish(Pieces& target) {
    target.written = std::move(made_);
    target.text = target.written.text;
    target.origin = std::move(target.written.origin);
    target.pieces = std::move(pieces_);
  }

 private:
  const Pieces& source_;
  AlignedText made_;
  std::vector<Piece> pieces_;
  std::string spelled_;
  size_t begin_ = 0;
};

void cut_each(const Cutter& cutter, Pieces& pieces) {
  thread_local std::vector<Piece> made;
  made.clear();
  for (Piece piece : pieces.pieces) cutter.cut(pieces.of(piece), piece.begin, made);
  std::swap(pieces.pieces, made);
}

class PrefixSpace final : public PreTokenizerStep {
 public:
  void apply(Pieces& pieces) const override {
    auto lacks = [&](Piece piece) { return pieces.text[piece.begin] != ' '; };
    if (std::none_of(pieces.pieces.begin(), pieces.pieces.end(), lacks)) return;
    PieceWriter writer(pieces);
    for (Piece piece : pieces.pieces) {
      writer.begin_piece();
      if (lacks(piece)) writer.put(" ", piece.begin);
      writer.copy(piece.begin, piece.end);
      writer.end_piece();
    }
    writer.finish(pieces);
  }
};

class ByteSpelling final : public PreTokenizerStep {
 public:
  void apply(Pieces& pieces) const override {
    PieceWriter writer(pieces);
    for (Piece piece : pieces.pieces) {
      writer.begin_piece();
      for (uint32_t i = piece.begin; i < piece.end; ++i) writer.put_byte_spelled(i);
      writer.end_piece();
    }
    writer.finish(pieces);
  }
};

class MetaspaceStep final : public PreTokenizerStep {
 public:
  explicit MetaspaceStep(const spec::Metaspace& metaspace) : spec_(metaspace) {}

  void apply(Pieces& pieces) const override {
    PieceWriter writer(pieces);
    for (Piece piece : pieces.pieces) write(pieces, piece, writer);
    writer.finish(pieces);
  }

 private:
  void write(const Pieces& pieces, Piece piece, PieceWriter& writer) const {
    std::string_view text = pieces.of(piece);
    const std::string& mark = spec_.replacement;
    writer.begin_piece();
    bool prefixed = false;
    if (text[0] != ' ' && !text.starts_with(mark) && wants_prefix(pieces, piece)) {
      writer.put(mark, piece.begin);
      prefixed = true;
    }
    // A new piece begins at each mark.
    size_t copied = 0;
    for (size_t i = 0; i < text.size(); ++i) {
      bool space = text[i] == ' ';
      if (!space && (text[i] != mark[0] || !text.substr(i).starts_with(mark))) continue;
      writer.copy(piece.begin + copied, piece.begin + i);
      if (spec_.split && (i > 0 || prefixed)) {
        writer.end_piece();
        writer.begin_piece();
      }
      copied = i;
      if (space) {
        writer.put(mark, piece.begin + i);
        copied = i + 1;
      }
    }
    writer.copy(piece.begin + copied, piece.end);
    writer.end_piece();
  }

  bool wants_prefix(const Pieces& pieces, Piece piece) const {
    if (spec_.prepend == spec::PrependScheme::always) return true;
    return spec_.prepend == spec::PrependScheme::first && pieces.starts_original(piece);
  }

  spec::Metaspace spec_;
};

std::unique_ptr<Cutter> make_split(const spec::Split& split, const std::string& source) {
  Scanner scanner = split.pattern.is_regex ? find_scanner(split.pattern.text) : nullptr;
  if (scanner == nullptr) return std::make_unique<PatternCutter>(split, source);
  return std::make_unique<ScanCutter>(scanner, split.behavior, split.invert);
}

using Steps = std::vector<std::unique_ptr<PreTokenizerStep>>;

struct Maker {
  Steps& steps;
  const std::string& source;
  bool bytes_stay;

  void operator()(const spec::ByteLevel& step) const {
    if (step.add_prefix_space) steps.push_back(std::make_unique<PrefixSpace>());
    if (step.use_regex) {
      steps.push_back(std::make_unique<ScanCutter>(find_scanner(gpt2_pattern()),
                                                   SplitBehavior::isolated, false));
    }
    if (!bytes_stay) steps.push_back(std::make_unique<ByteSpelling>());
  }
  void operator()(const spec::Split& step) const { steps.push_back(make_split(step, source)); }
  void operator()(const spec::Metaspace& step) const {
    steps.push_back(std::make_unique<MetaspaceStep>(step));
  }
  void operator()(const spec::Digits& step) const {
    steps.push_back(std::make_unique<CharacterCutter<is_number>>(
        step.individual ? SplitBehavior::isolated : SplitBehavior::contiguous));
  }
  void operator()(const spec::Punctuation& step) const {
    steps.push_back(std::make_unique<CharacterCutter<is_punctuation>>(step.behavior));
  }
  void operator()(const spec::Whitespace&) const {
    steps.push_back(std::make_unique<WhitespaceCutter>());
  }
  void operator()(const spec::WhitespaceSplit&) const {
    steps.push_back(std::make_unique<CharacterCutter<is_space>>(SplitBehavior::removed));
  }
  void operator()(const spec::Bert&) const { steps.push_back(std::make_unique<BertCutter>()); }
  void operator()(const spec::UnicodeScripts&) const {
    steps.push_back(std::make_unique<ScriptCutter>());
  }
  void operator()(const spec::FixedLength& step) const {
    steps.push_back(std::make_unique<FixedLengthCutter>(step.length));
  }
  void operator()(const spec::CharDelimiterSplit& step) const {
    spec::Split split;
    split.pattern.text = step.delimiter;
    split.behavior = SplitBehavior::removed;
    steps.push_back(make_split(split, source));
  }
};

}  // namespace

void Cutter::apply(Pieces& pieces) const {
  cut_each(*this, pieces);
}

PreTokenizer::PreTokenizer(const std::vector<spec::Step>& steps, bool bytes_stay,
                           const std::string& source) {
  for (size_t i = 0; i < steps.size(); ++i) {
    std::visit(Maker{steps_, source, bytes_stay && i + 1 == steps.size()}, steps[i]);
  }
  find_lone_scanner(steps, bytes_stay);
}

// Most byte-level tokenizers are one pattern, perhaps after single digits.
void PreTokenizer::find_lone_scanner(const std::vector<spec::Step>& steps, bool bytes_stay) {
  if (!bytes_stay || steps.empty()) return;
  const auto* last = std::get_if<spec::ByteLevel>(&steps.back());
  if (last == nullptr || last->add_prefix_space || steps.size() > 2) return;
  const spec::Step* first = steps.size() == 2 ? &steps.front() : nullptr;
  if (last->use_regex) {
    const auto* digits = first != nullptr ? std::get_if<spec::Digits>(first) : nullptr;
    if (first != nullptr && (digits == nullptr || !digits->individual)) return;
    digits_apart_ = first != nullptr;
    lone_scanner_ = find_scanner(gpt2_pattern());
    return;
  }
  const auto* split = first != nullptr ? std::get_if<spec::Split>(first) : nullptr;
  if (split == nullptr || split->invert || split->behavior != SplitBehavior::isolated) return;
  if (split->pattern.is_regex) lone_scanner_ = find_scanner(split->pattern.text);
}

void PreTokenizer::apply(std::string_view text, Pieces& pieces) const {
  pieces.text = text;
  pieces.pieces.clear();
  if (!text.empty()) pieces.pieces.push_back({0, at(text.size())});
  for (const auto& step : steps_) step->apply(pieces);
}

}  // namespace chorus::text
