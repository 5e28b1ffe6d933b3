// Where offsets are not asked for, runs of ASCII take short cuts; the long way, which says for each
// character what it replaces, gives the same text.
#include "router/text/pipeline/normalizer.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "router/text/pipeline/charsmap.h"
#include "router/text/pipeline/pattern.h"

namespace chorus::text {
namespace {

using unicode::Changed;
using unicode::Form;
namespace spec = modelfile::normalizer;

bool is_ascii(char byte) {
  return static_cast<unsigned char>(byte) < 0x80;
}

bool is_space(char32_t code) {
  return (unicode::class_of(code) & unicode::kSpace) != 0;
}

// Calls `run` for each run of other than ASCII characters, which appends what becomes of it to a
// list, or answers false: it stays. With `with_base` a run begins with the ASCII character before
// it, if any. What ASCII is between the runs stays.
template <class Run>
void rewrite_runs(AlignedText& text, bool with_base, const Run& run) {
  std::vector<Changed> codes;
  std::string_view all = text.text;
  Rewrite writer(text);
  for (size_t at = 0; at < all.size();) {
    size_t begin = at;
    while (begin < all.size() && is_ascii(all[begin])) ++begin;
    size_t end = begin;
    while (end < all.size() && !is_ascii(all[end])) ++end;
    if (with_base && begin > at && end > begin) --begin;
    writer.keep(begin - at);
    codes.clear();
    if (end > begin && run(all.substr(begin, end - begin), codes)) {
      for (const Changed& entry : codes) writer.put(entry.code, entry.change);
    } else {
      writer.keep(end - begin);
    }
    at = end;
  }
  writer.finish();
}

std::vector<Changed> characters_of(std::string_view text) {
  std::vector<Changed> codes;
  codes.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    unicode::Character character = unicode::decode(text.substr(at));
    codes.push_back({character.code, 0});
    at += static_cast<size_t>(character.bytes);
  }
  return codes;
}

// Drops characters. One that stays counts those dropped behind it as replaced by it too.
template <class Keep>
void keep_only(AlignedText& text, const Keep& keep) {
  std::vector<Changed> codes;
  codes.reserve(text.text.size());
  size_t skipped = 0;
  for (size_t at = 0; at < text.text.size();) {
    unicode::Character character = unicode::decode(std::string_view(text.text).substr(at));
    at += static_cast<size_t>(character.bytes);
    if (keep(character.code)) {
      codes.push_back({character.code, 0});
    } else if (codes.empty()) {
      skipped = at;
    } else {
      --codes.back().change;
    }
  }
  rewrite(text, codes, skipped);
}

class UnicodeStep final : public NormalizerStep {
 public:
  explicit UnicodeStep(spec::Form form) {
    constexpr std::pair<spec::Form, Form> kForms[] = {{spec::Form::nfc, Form::nfc},
                                                      {spec::Form::nfd, Form::nfd},
                                                      {spec::Form::nfkc, Form::nfkc},
                                                      {spec::Form::nfkd, Form::nfkd}};
    for (const auto& [named, known] : kForms) {
      if (named == form) form_ = known;
    }
  }

  bool leaves_alone(std::string_view text) const override {
    return unicode::quick_check(form_, text);
  }
  void apply(AlignedText& text) const override {
    bool composes = form_ == Form::nfc || form_ == Form::nfkc;
    rewrite_runs(text, composes, [&](std::string_view run, std::vector<Changed>& codes) {
      if (unicode::quick_check(form_, run)) return false;
      unicode::to_form(form_, run, codes);
      return true;
    });
  }

 private:
  Form form_ = Form::nfc;
};

void lowercase(AlignedText& text) {
  if (!text.tracked()) {
    for (char& byte : text.text) {
      if (byte >= 'A' && byte <= 'Z') byte = static_cast<char>(byte + 32);
    }
  }
  rewrite_runs(text, false, [&](std::string_view run, std::vector<Changed>& codes) {
    for (size_t at = 0; at < run.size();) {
      unicode::Character character = unicode::decode(run.substr(at));
      unicode::lower(character.code, codes);
      at += static_cast<size_t>(character.bytes);
    }
    return true;
  });
  if (!text.tracked()) return;
  for (char& byte : text.text) {
    if (byte >= 'A' && byte <= 'Z') byte = static_cast<char>(byte + 32);
  }
}

class LowercaseStep final : public NormalizerStep {
 public:
  void apply(AlignedText& text) const override { lowercase(text); }
};

class StripStep final : public NormalizerStep {
 public:
  explicit StripStep(const spec::Strip& strip) : strip_(strip) {}
  void apply(AlignedText& text) const override {
    std::vector<Changed> codes = characters_of(text.text);
    auto first = codes.begin();
    auto last = codes.end();
    auto space = [](const Changed& entry) { return is_space(entry.code); };
    if (strip_.left) first = std::find_if_not(first, last, space);
    if (strip_.right) {
      while (last != first && space(*(last - 1))) --last;
    }
    if (first == codes.begin() && last == codes.end()) return;
    size_t skipped = 0;
    std::string_view rest = text.text;
    for (auto at = codes.begin(); at != first; ++at) {
      skipped += static_cast<size_t>(unicode::decode(rest.substr(skipped)).bytes);
    }
    rewrite(text, {first, last}, skipped);
  }

 private:
  spec::Strip strip_;
};

class StripAccentsStep final : public NormalizerStep {
 public:
  void apply(AlignedText& text) const override {
    keep_only(text, [](char32_t code) {
      return code < 0x80 || !unicode::has_trait(code, unicode::kStripAccentsMark);
    });
  }
};

class ReplaceStep final : public NormalizerStep {
 public:
  ReplaceStep(const spec::Replace& replace, const std::string& source)
      : pattern_(replace.pattern, source), content_(replace.content) {}

  bool leaves_alone(std::string_view text) const override {
    auto plain = pattern_.plain();
    return plain && text.find(*plain) == std::string_view::npos;
  }

  // What is put in a match's place has the origin of the match's last character.
  void apply(AlignedText& text) const override {
    thread_local std::vector<Pattern::Span> matches;
    pattern_.find_all(text.text, matches);
    if (matches.empty()) return;
    AlignedText made;
    made.text.reserve(text.text.size() + matches.size() * content_.size());
    auto copy = [&](size_t begin, size_t end) {
      made.text.append(text.text, begin, end - begin);
      if (!text.tracked()) return;
      auto from = text.origin.begin();
      made.origin.insert(made.origin.end(), from + static_cast<std::ptrdiff_t>(begin),
                         from + static_cast<std::ptrdiff_t>(end));
    };
    size_t done = 0;
    for (const Pattern::Span& match : matches) {
      copy(done, match.begin);
      made.text += content_;
      if (text.tracked()) {
        Origin origin = text.origin.front();
        if (match.end == 0) origin.end = origin.begin;
        if (match.end > 0) origin = text.origin[match.end - 1];
        made.origin.insert(made.origin.end(), content_.size(), origin);
      }
      done = match.end;
    }
    copy(done, text.text.size());
    text = std::move(made);
  }

 private:
  Pattern pattern_;
  std::string content_;
};

class PrependStep final : public NormalizerStep {
 public:
  explicit PrependStep(const spec::Prepend& prepend) : text_(prepend.text) {}
  void apply(AlignedText& text) const override {
    if (text.text.empty()) return;
    text.text.insert(0, text_);
    if (!text.tracked()) return;
    Origin first = text.origin.front();
    text.origin.insert(text.origin.begin(), text_.size(), first);
  }

 private:
  std::string text_;
};

// As SentencePiece's rules are applied by the reference: to whole grapheme clusters of less than
// six bytes if there is a rule for a beginning of one, else to each character.
class PrecompiledStep final : public NormalizerStep {
 public:
  PrecompiledStep(const spec::Precompiled& precompiled, const std::string& source)
      : rules_(precompiled.charsmap, source) {
    for (size_t code = 0; code < plain_.size(); ++code) {
      char byte = static_cast<char>(code);
      plain_[code] = !rules_.replacement({&byte, 1});
    }
  }

  void apply(AlignedText& text) const override {
    std::vector<Changed> codes;
    codes.reserve(text.text.size());
    std::string_view all = text.text;
    for (size_t at = 0; at < all.size();) {
      if (stands_alone(all, at)) {
        codes.push_back({static_cast<unsigned char>(all[at++]), 0});
        continue;
      }
      size_t bytes = unicode::grapheme_bytes(all.substr(at));
      take_cluster(all.substr(at, bytes), codes);
      at += bytes;
    }
    rewrite(text, codes);
  }

 private:
  // An ASCII character without a rule, and no part of a longer cluster.
  bool stands_alone(std::string_view text, size_t at) const {
    if (!is_ascii(text[at]) || !plain_[static_cast<unsigned char>(text[at])]) return false;
    if (at + 1 == text.size()) return true;
    return is_ascii(text[at + 1]) && !(text[at] == '\r' && text[at + 1] == '\n');
  }

  void take_cluster(std::string_view cluster, std::vector<Changed>& codes) const {
    if (cluster.size() < 6) {
      if (auto made = rules_.replacement(cluster)) return replace(cluster, *made, codes);
    }
    for (size_t at = 0; at < cluster.size();) {
      unicode::Character character = unicode::decode(cluster.substr(at));
      std::string_view part = cluster.substr(at, static_cast<size_t>(character.bytes));
      if (auto made = rules_.replacement(part)) {
        replace(part, *made, codes);
      } else {
        codes.push_back({character.code, 0});
      }
      at += part.size();
    }
  }

  static void replace(std::string_view old, std::string_view made, std::vector<Changed>& codes) {
    std::vector<Changed> parts = characters_of(made);
    codes.insert(codes.end(), parts.begin(), parts.end());
    auto more =
        static_cast<int64_t>(parts.size()) - static_cast<int64_t>(characters_of(old).size());
    for (int64_t i = 0; i < more; ++i) codes[codes.size() - 1 - static_cast<size_t>(i)].change = 1;
    if (more < 0 && !codes.empty()) codes.back().change += static_cast<int32_t>(more);
  }

  Charsmap rules_;
  std::array<bool, 128> plain_{};
};

bool is_chinese(char32_t code) {
  constexpr std::pair<char32_t, char32_t> kBlocks[] = {
      {0x3400, 0x4DBF},   {0x4E00, 0x9FFF},   {0xF900, 0xFAFF},   {0x20000, 0x2A6DF},
      {0x2A700, 0x2B73F}, {0x2B740, 0x2B81F}, {0x2B920, 0x2CEAF}, {0x2F800, 0x2FA1F}};
  return std::any_of(std::begin(kBlocks), std::end(kBlocks), [&](const auto& block) {
    return code >= block.first && code <= block.second;
  });
}

class BertStep final : public NormalizerStep {
 public:
  explicit BertStep(const spec::Bert& bert)
      : bert_(bert), strip_accents_(bert.strip_accents.value_or(bert.lowercase)) {
    for (size_t code = 0; code < ascii_.size(); ++code) {
      char byte = static_cast<char>(code);
      auto character = static_cast<char32_t>(code);
      if (bert.clean_text && is_space(character)) byte = ' ';
      if (bert.clean_text && unicode::has_trait(character, unicode::kBertControl)) byte = kDropped;
      if (bert.lowercase && byte >= 'A' && byte <= 'Z') byte = static_cast<char>(byte + 32);
      ascii_[code] = byte;
    }
  }

  void apply(AlignedText& text) const override {
    if (text.tracked()) {
      apply_steps(text);
    } else {
      apply_runs(text.text);
    }
  }

 private:
  static constexpr char kDropped = '\xFF';

  // ASCII by table, what stands between step by step: no step looks across such a border.
  void apply_runs(std::string& text) const {
    std::string made;
    made.reserve(text.size() + text.size() / 8);
    for (size_t at = 0; at < text.size();) {
      for (; at < text.size() && is_ascii(text[at]); ++at) {
        char byte = ascii_[static_cast<unsigned char>(text[at])];
        if (byte != kDropped) made.push_back(byte);
      }
      size_t end = at;
      while (end < text.size() && !is_ascii(text[end])) ++end;
      if (end == at) break;
      AlignedText run{text.substr(at, end - at), {}};
      apply_steps(run);
      made += run.text;
      at = end;
    }
    text = std::move(made);
  }

  void apply_steps(AlignedText& text) const {
    if (bert_.clean_text) clean(text);
    if (bert_.handle_chinese_chars) put_spaces_around_chinese(text);
    if (strip_accents_) {
      if (!unicode::quick_check(Form::nfd, text.text)) {
        std::vector<Changed> codes;
        unicode::to_form(Form::nfd, text.text, codes);
        rewrite(text, codes);
      }
      keep_only(text, [](char32_t code) {
        return code < 0x80 || !unicode::has_trait(code, unicode::kBertMark);
      });
    }
    if (bert_.lowercase) lowercase(text);
  }

  static void clean(AlignedText& text) {
    keep_only(text, [](char32_t code) { return !unicode::has_trait(code, unicode::kBertControl); });
    std::vector<Changed> codes = characters_of(text.text);
    for (Changed& entry : codes) {
      if (is_space(entry.code)) entry.code = ' ';
    }
    rewrite(text, codes);
  }

  static void put_spaces_around_chinese(AlignedText& text) {
    std::vector<Changed> codes;
    codes.reserve(text.text.size());
    for (const Changed& entry : characters_of(text.text)) {
      if (!is_chinese(entry.code)) {
        codes.push_back(entry);
        continue;
      }
      codes.push_back({' ', 0});
      codes.push_back({entry.code, 1});
      codes.push_back({' ', 1});
    }
    rewrite(text, codes);
  }

  spec::Bert bert_;
  bool strip_accents_;
  std::array<char, 128> ascii_{};
};

class NmtStep final : public NormalizerStep {
 public:
  void apply(AlignedText& text) const override {
    keep_only(text, [](char32_t code) { return !is_dropped(code); });
    std::vector<Changed> codes = characters_of(text.text);
    for (Changed& entry : codes) {
      if (is_blank(entry.code)) entry.code = ' ';
    }
    rewrite(text, codes);
  }

 private:
  static bool is_dropped(char32_t code) {
    return (code >= 1 && code <= 8) || code == 0xB || (code >= 0xE && code <= 0x1F) ||
           code == 0x7F || code == 0x8F || code == 0x9F;
  }
  static bool is_blank(char32_t code) {
    constexpr char32_t kBlank[] = {0x9,    0xA,    0xC,    0xD,    0x1680,
                                   0x2028, 0x2029, 0x2581, 0xFEFF, 0xFFFD};
    return (code >= 0x200B && code <= 0x200F) ||
           std::find(std::begin(kBlank), std::end(kBlank), code) != std::end(kBlank);
  }
};

class ByteLevelStep final : public NormalizerStep {
 public:
  void apply(AlignedText& text) const override {
    AlignedText made;
    made.text.reserve(2 * text.text.size());
    for (size_t at = 0; at < text.text.size(); ++at) {
      size_t before = made.text.size();
      unicode::append_utf8(made.text, printable_byte(static_cast<unsigned char>(text.text[at])));
      if (text.tracked()) {
        made.origin.insert(made.origin.end(), made.text.size() - before, text.origin[at]);
      }
    }
    text = std::move(made);
  }
};

struct Maker {
  const std::string& source;

  std::unique_ptr<NormalizerStep> operator()(const spec::Unicode& step) const {
    return std::make_unique<UnicodeStep>(step.form);
  }
  std::unique_ptr<NormalizerStep> operator()(const spec::Lowercase&) const {
    return std::make_unique<LowercaseStep>();
  }
  std::unique_ptr<NormalizerStep> operator()(const spec::Strip& step) const {
    return std::make_unique<StripStep>(step);
  }
  std::unique_ptr<NormalizerStep> operator()(const spec::StripAccents&) const {
    return std::make_unique<StripAccentsStep>();
  }
  std::unique_ptr<NormalizerStep> operator()(const spec::Replace& step) const {
    return std::make_unique<ReplaceStep>(step, source);
  }
  std::unique_ptr<NormalizerStep> operator()(const spec::Prepend& step) const {
    return std::make_unique<PrependStep>(step);
  }
  std::unique_ptr<NormalizerStep> operator()(const spec::Precompiled& step) const {
    return std::make_unique<PrecompiledStep>(step, source);
  }
  std::unique_ptr<NormalizerStep> operator()(const spec::Bert& step) const {
    return std::make_unique<BertStep>(step);
  }
  std::unique_ptr<NormalizerStep> operator()(const spec::Nmt&) const {
    return std::make_unique<NmtStep>();
  }
  std::unique_ptr<NormalizerStep> operator()(const spec::ByteLevel&) const {
    return std::make_unique<ByteLevelStep>();
  }
};

constexpr bool is_printable(int byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte != 0xAD);
}

}  // namespace

Normalizer::Normalizer(const std::vector<spec::Step>& steps, const std::string& source) {
  for (const spec::Step& step : steps) steps_.push_back(std::visit(Maker{source}, step));
}

bool Normalizer::leaves_alone(std::string_view text) const {
  return std::all_of(steps_.begin(), steps_.end(),
                     [&](const auto& step) { return step->leaves_alone(text); });
}

void Normalizer::apply(AlignedText& text) const {
  for (const auto& step : steps_) step->apply(text);
}

// Printable bytes of Latin-1 are themselves, the other 68 are U+0100 and up, in order.
char32_t printable_byte(unsigned char byte) {
  static const auto kPrintable = [] {
    std::array<char32_t, 256> printable{};
    char32_t shifted = 0x100;
    for (int code = 0; code < 256; ++code) {
      printable[static_cast<size_t>(code)] =
          is_printable(code) ? static_cast<char32_t>(code) : shifted++;
    }
    return printable;
  }();
  return kPrintable[byte];
}

int byte_of_printable(char32_t code) {
  static const auto kBytes = [] {
    std::array<int, 0x144> bytes{};
    bytes.fill(-1);
    for (int byte = 0; byte < 256; ++byte) {
      bytes[printable_byte(static_cast<unsigned char>(byte))] = byte;
    }
    return bytes;
  }();
  return code < kBytes.size() ? kBytes[code] : -1;
}

}  // namespace chorus::text
