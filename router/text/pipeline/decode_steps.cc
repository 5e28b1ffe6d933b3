#include "router/text/pipeline/decode_steps.h"

#include <algorithm>
#include <array>
#include <utility>
#include <variant>

#include "router/text/pipeline/byte_tokens.h"
#include "router/text/pipeline/normalizer.h"
#include "router/text/pipeline/pattern.h"
#include "router/text/unicode/unicode.h"

namespace chorus::text {
namespace {

namespace spec = modelfile::decoder;
using Tokens = std::vector<std::string>;

std::string replace_all(std::string_view text, std::string_view from, std::string_view to) {
  if (from.empty()) return std::string(text);
  std::string made;
  for (size_t at = 0; at < text.size();) {
    size_t found = std::min(text.find(from, at), text.size());
    made += text.substr(at, found - at);
    if (found == text.size()) break;
    made += to;
    at = found + from.size();
  }
  return made;
}

using Replacement = std::pair<std::string_view, std::string_view>;

std::string replace_each(std::string text, const Replacement* begin, const Replacement* end) {
  for (const Replacement* step = begin; step != end; ++step) {
    if (text.find(step->first) != std::string::npos) {
      text = replace_all(text, step->first, step->second);
    }
  }
  return text;
}

// WordPiece's and CTC's cleanup of one token.
std::string clean_token(std::string token) {
  static constexpr std::array<Replacement, 11> kSteps = {{{" .", "."},
                                                          {" ?", "?"},
                                                          {" !", "!"},
                                                          {" ,", ","},
                                                          {" ' ", "'"},
                                                          {" n't", "n't"},
                                                          {" 'm", "'m"},
                                                          {" do not", " don't"},
                                                          {" 's", "'s"},
                                                          {" 've", "'ve"},
                                                          {" 're", "'re"}}};
  return replace_each(std::move(token), kSteps.data(), kSteps.data() + kSteps.size());
}

// clean_up_tokenization_spaces, over a whole text.
std::string clean_text(std::string text) {
  static constexpr std::array<Replacement, 10> kSteps = {{{" .", "."},
                                                          {" ?", "?"},
                                                          {" !", "!"},
                                                          {" ,", ","},
                                                          {" ' ", "'"},
                                                          {" n't", "n't"},
                                                          {" 'm", "'m"},
                                                          {" 's", "'s"},
                                                          {" 've", "'ve"},
                                                          {" 're", "'re"}}};
  return replace_each(std::move(text), kSteps.data(), kSteps.data() + kSteps.size());
}

std::string unspelled(const std::string& token) {
  std::string bytes;
  for (size_t at = 0; at < token.size();) {
    unicode::Character character = unicode::decode(std::string_view(token).substr(at));
    int byte = byte_of_printable(character.code);
    if (byte < 0) return token;
    bytes.push_back(static_cast<char>(byte));
    at += static_cast<size_t>(character.bytes);
  }
  return bytes;
}

std::string byte_or_same(std::string token) {
  int byte = byte_of_token(token);
  return byte < 0 ? token : std::string(1, static_cast<char>(byte));
}

class EachToken : public DecodeStep {
 public:
  void push(std::string token, Tokens& out) final { out.push_back(change(std::move(token))); }
  virtual std::string change(std::string token) = 0;
};

class BytesStep final : public EachToken {
  std::string change(std::string token) override { return unspelled(token); }
};

class FallbackStep final : public EachToken {
  std::string change(std::string token) override { return byte_or_same(std::move(token)); }
};

std::string replaced(const Pattern& pattern, const std::string& content, std::string token) {
  std::vector<Pattern::Span> matches;
  pattern.find_all(token, matches);
  if (matches.empty()) return token;
  std::string made;
  size_t done = 0;
  for (const Pattern::Span& match : matches) {
    made.append(token, done, match.begin - done);
    made += content;
    done = match.end;
  }
  made.append(token, done);
  return made;
}

class ReplaceStep final : public EachToken {
 public:
  ReplaceStep(const Pattern& pattern, const std::string& content)
      : pattern_(pattern), content_(content) {}
  std::string change(std::string token) override {
    return replaced(pattern_, content_, std::move(token));
  }

 private:
  const Pattern& pattern_;
  const std::string& content_;
};

class StripStep final : public EachToken {
 public:
  explicit StripStep(const spec::Strip& strip) : strip_(strip) {}
  std::string change(std::string token) override {
    std::string_view rest = token;
    for (int64_t i = 0; i < strip_.start && rest.starts_with(strip_.content); ++i) {
      rest.remove_prefix(strip_.content.size());
    }
    for (int64_t i = 0; i < strip_.stop && rest.ends_with(strip_.content); ++i) {
      rest.remove_suffix(strip_.content.size());
    }
    return std::string(rest);
  }

 private:
  spec::Strip strip_;
};

// All that comes is one token, of which only the start is to be stripped: it may go on at once.
class StripStartOfAll final : public DecodeStep {
 public:
  explicit StripStartOfAll(const spec::Strip& strip) : strip_(strip), left_(strip.start) {}
  void push(std::string token, Tokens& out) override {
    held_ += token;
    while (left_ > 0 && held_.starts_with(strip_.content)) {
      held_.erase(0, strip_.content.size());
      --left_;
    }
    if (left_ > 0 && strip_.content.starts_with(held_)) return;
    left_ = 0;
    out.push_back(std::exchange(held_, {}));
  }
  void finish(Tokens& out) override { out.push_back(std::exchange(held_, {})); }

 private:
  spec::Strip strip_;
  int64_t left_;
  std::string held_;
};

// All that comes is one token.
class JoinStep final : public DecodeStep {
 public:
  void push(std::string token, Tokens&) override { joined_ += token; }
  void finish(Tokens& out) override { out.push_back(std::exchange(joined_, {})); }

 private:
  std::string joined_;
};

class MetaspaceStep final : public EachToken {
 public:
  explicit MetaspaceStep(const spec::Metaspace& metaspace) : spec_(metaspace) {}
  std::string change(std::string token) override {
    bool drops = std::exchange(first_, false) &&
                 spec_.prepend != modelfile::pre_tokenizer::PrependScheme::never;
    return replace_all(token, spec_.replacement, drops ? "" : " ");
  }

 private:
  spec::Metaspace spec_;
  bool first_ = true;
};

class WordPieceStep final : public EachToken {
 public:
  explicit WordPieceStep(const spec::WordPiece& words) : spec_(words) {}
  std::string change(std::string token) override {
    if (!std::exchange(first_, false)) {
      if (token.starts_with(spec_.prefix)) {
        token.erase(0, spec_.prefix.size());
      } else {
        token.insert(0, " ");
      }
    }
    return spec_.cleanup ? clean_token(std::move(token)) : token;
  }

 private:
  spec::WordPiece spec_;
  bool first_ = true;
};

// A suffix is a space, but for the last token's.
class SuffixStep final : public DecodeStep {
 public:
  explicit SuffixStep(const spec::Bpe& bpe) : suffix_(bpe.suffix) {}
  void push(std::string token, Tokens& out) override {
    if (held_) out.push_back(replace_all(*held_, suffix_, " "));
    held_ = std::move(token);
  }
  void finish(Tokens& out) override {
    if (held_) out.push_back(replace_all(*held_, suffix_, ""));
    held_.reset();
  }

 private:
  std::string suffix_;
  std::optional<std::string> held_;
};

class CtcStep final : public DecodeStep {
 public:
  explicit CtcStep(const spec::Ctc& ctc) : spec_(ctc) {}
  void push(std::string token, Tokens& out) override {
    if (last_ && *last_ == token) return;
    last_ = token;
    std::string made = replace_all(token, spec_.pad, "");
    if (spec_.cleanup) {
      made = replace_all(clean_token(std::move(made)), spec_.word_delimiter, " ");
    }
    if (!made.empty()) out.push_back(std::move(made));
  }

 private:
  spec::Ctc spec_;
  std::optional<std::string> last_;
};

class SpacesStep final : public EachToken {
 public:
  std::string change(std::string token) override {
    if (!std::exchange(first_, false)) token.insert(0, " ");
    return token;
  }

 private:
  bool first_ = true;
};

// Every replacement begins with a space and is at most four bytes long, and only " ' " has another
// space in it. So a text may be cut before a space that no apostrophe stands before, and what
// follows such a cut may go on once its first four bytes are there.
class CleanUpStep final : public DecodeStep {
 public:
  void push(std::string token, Tokens& out) override {
    held_ += token;
    size_t cut = held_.size();
    while (true) {
      size_t space = cut == 0 ? std::string::npos : held_.rfind(' ', cut - 1);
      if (space == std::string::npos) {
        cut = held_.size();
        break;
      }
      cut = space;
      if (space == 0 || held_[space - 1] != '\'') break;
    }
    bool after_apostrophe = held_.find(" '", cut) == cut;
    if (held_.size() - cut >= 4 && !after_apostrophe) cut = held_.size();
    out.push_back(clean_text(held_.substr(0, cut)));
    held_.erase(0, cut);
  }
  void finish(Tokens& out) override { out.push_back(clean_text(std::exchange(held_, {}))); }

 private:
  std::string held_;
};

}  // namespace

struct Decoders::Compiled {
  spec::Step step;
  std::unique_ptr<Pattern> pattern = nullptr;  // of a Replace
};

Decoders::Decoders(const modelfile::TokenizerSpec& spec) : clean_up_(spec.clean_up_spaces) {
  for (const spec::Step& step : spec.decoder) {
    Compiled compiled{step};
    if (const auto* replace = std::get_if<spec::Replace>(&step)) {
      compiled.pattern = std::make_unique<Pattern>(replace->pattern, spec.source);
    }
    if (std::holds_alternative<spec::ByteFallback>(step)) has_byte_tokens_ = true;
    steps_.push_back(std::move(compiled));
  }
  find_shape(spec);
}

Decoders::~Decoders() = default;

// Steps that change tokens one by one, then perhaps all joined, then perhaps one space stripped.
void Decoders::find_shape(const modelfile::TokenizerSpec& spec) {
  size_t at = 0;
  auto is = [&]<class Kind>(std::type_identity<Kind>) {
    return at < steps_.size() && std::holds_alternative<Kind>(steps_[at].step);
  };
  if (steps_.empty() || spec.clean_up_spaces) return;
  while (is(std::type_identity<spec::Replace>()) || is(std::type_identity<spec::ByteFallback>())) {
    ++at;
  }
  if (is(std::type_identity<spec::ByteLevel>())) {
    by_token_ = at + 1 == steps_.size();
    return;
  }
  if (is(std::type_identity<spec::Fuse>())) {
    ++at;
    if (is(std::type_identity<spec::Strip>())) {
      const auto& strip = std::get<spec::Strip>(steps_[at].step);
      strips_first_space_ = strip.content == " " && strip.start == 1 && strip.stop == 0;
      if (strips_first_space_) ++at;
    }
  }
  by_token_ = at == steps_.size();
  if (!by_token_) strips_first_space_ = false;
}

std::string Decoders::bytes_of(const std::string& token) const {
  std::string bytes = token;
  for (const Compiled& compiled : steps_) {
    if (compiled.pattern) {
      bytes = replaced(*compiled.pattern, std::get<spec::Replace>(compiled.step).content, bytes);
    } else if (std::holds_alternative<spec::ByteFallback>(compiled.step)) {
      // A byte is no text that later steps could look at.
      if (byte_of_token(bytes) >= 0) return byte_or_same(bytes);
    } else if (std::holds_alternative<spec::ByteLevel>(compiled.step)) {
      bytes = unspelled(bytes);
    }
  }
  return bytes;
}

std::vector<std::unique_ptr<DecodeStep>> Decoders::start() const {
  std::vector<std::unique_ptr<DecodeStep>> steps;
  bool joined = false;  // what comes is to be seen as one token
  auto needs_whole = [&] {
    if (joined) steps.push_back(std::make_unique<JoinStep>());
  };
  for (const Compiled& compiled : steps_) {
    const spec::Step& step = compiled.step;
    if (std::holds_alternative<spec::Fuse>(step)) {
      joined = true;
    } else if (std::holds_alternative<spec::ByteLevel>(step)) {
      needs_whole();
      steps.push_back(std::make_unique<BytesStep>());
      joined = true;
    } else if (std::holds_alternative<spec::ByteFallback>(step)) {
      needs_whole();
      steps.push_back(std::make_unique<FallbackStep>());
    } else if (const auto* strip = std::get_if<spec::Strip>(&step)) {
      if (joined && strip->stop == 0) {
        steps.push_back(std::make_unique<StripStartOfAll>(*strip));
      } else {
        needs_whole();
        steps.push_back(std::make_unique<StripStep>(*strip));
      }
    } else {
      needs_whole();
      if (const auto* replace = std::get_if<spec::Replace>(&step)) {
        steps.push_back(std::make_unique<ReplaceStep>(*compiled.pattern, replace->content));
      } else if (const auto* metaspace = std::get_if<spec::Metaspace>(&step)) {
        steps.push_back(std::make_unique<MetaspaceStep>(*metaspace));
      } else if (const auto* words = std::get_if<spec::WordPiece>(&step)) {
        steps.push_back(std::make_unique<WordPieceStep>(*words));
      } else if (const auto* bpe = std::get_if<spec::Bpe>(&step)) {
        steps.push_back(std::make_unique<SuffixStep>(*bpe));
      } else {
        steps.push_back(std::make_unique<CtcStep>(std::get<spec::Ctc>(step)));
      }
    }
  }
  if (steps_.empty()) steps.push_back(std::make_unique<SpacesStep>());
  if (clean_up_) steps.push_back(std::make_unique<CleanUpStep>());
  return steps;
}

}  // namespace chorus::text
