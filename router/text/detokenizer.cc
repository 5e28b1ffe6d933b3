// Stop strings: after each byte the automaton's state is the longest suffix of the text that
// begins some stop string. So all but that suffix may be sent, and a stop string that ends at this
// byte is a suffix of the state's path: the state's own, or the one its failure link leads to.
// Stop strings are valid UTF-8, so what is held back starts at a character.
#include "router/text/detokenizer.h"

#include <algorithm>
#include <cassert>
#include <cstdint>
#include <utility>

namespace chorus::text {
namespace {

struct Range {
  unsigned char low, high;
};

// Which second bytes may follow a lead byte (Unicode Standard, table 3-7).
Range second_byte(unsigned char lead) {
  switch (lead) {
    case 0xE0:
      return {0xA0, 0xBF};
    case 0xED:
      return {0x80, 0x9F};
    case 0xF0:
      return {0x90, 0xBF};
    case 0xF4:
      return {0x80, 0x8F};
    default:
      return {0x80, 0xBF};
  }
}

int length_by_lead(unsigned char lead) {
  if (lead < 0x80) return 1;
  if (lead < 0xC2 || lead > 0xF4) return 0;  // never starts a character
  return lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

struct Subpart {
  size_t bytes;
  enum class Kind { character, incomplete, broken } kind;
};

// The character at the start of `bytes`, or the maximal subpart of one.
Subpart next_subpart(std::string_view bytes) {
  auto byte = [&](size_t index) { return static_cast<unsigned char>(bytes[index]); };
  size_t length = length_by_lead(byte(0));
  if (length == 0) return {1, Subpart::Kind::broken};
  for (size_t i = 1; i < length; ++i) {
    if (i == bytes.size()) return {i, Subpart::Kind::incomplete};
    Range range = i == 1 ? second_byte(byte(0)) : Range{0x80, 0xBF};
    if (byte(i) < range.low || byte(i) > range.high) return {i, Subpart::Kind::broken};
  }
  return {length, Subpart::Kind::character};
}

}  // namespace

void Utf8Stream::continue_from(std::string_view bytes) {
  push(bytes);
  from_before_ = pending_.size();
}

// Nothing where the bytes came before the stream: whoever sent those has replaced them.
std::string_view Utf8Stream::replacement(size_t broken_bytes) {
  constexpr std::string_view kThree = "\uFFFD\uFFFD\uFFFD";
  assert(broken_bytes <= 3);
  size_t own = broken_bytes - std::min(broken_bytes, std::exchange(from_before_, 0));
  if (broken_ == Broken::per_subpart) own = std::min<size_t>(own, 1);
  return kThree.substr(0, own * kThree.size() / 3);
}

std::string Utf8Stream::push(std::string_view bytes) {
  if (bytes.empty()) return {};
  std::string joined = std::exchange(pending_, {});
  joined += bytes;
  std::string text;
  text.reserve(joined.size());
  for (std::string_view rest = joined; !rest.empty();) {
    Subpart part = next_subpart(rest);
    if (part.kind == Subpart::Kind::incomplete) {
      pending_ = rest;
      break;
    }
    if (part.kind == Subpart::Kind::character) {
      text += rest.substr(0, part.bytes);
      from_before_ = 0;
    } else {
      text += replacement(part.bytes);
    }
    rest.remove_prefix(part.bytes);
  }
  return text;
}

std::string Utf8Stream::finish() {
  return std::string(replacement(std::exchange(pending_, {}).size()));
}

struct StopStrings::Automaton {
  struct Node {
    unsigned char byte = 0;
    int32_t child = -1, sibling = -1;  // the first of its children, the next of its parent's
    int32_t failure = 0;               // the longest proper suffix that is a node too
    size_t depth = 0;
    size_t match = 0;  // length of the longest stop string that ends here, 0 for none
  };

  explicit Automaton(const std::vector<std::string>& stops) {
    nodes.emplace_back();
    for (const std::string& stop : stops) add(stop);
    link();
  }

  int32_t find_child(int32_t node, unsigned char byte) const {
    int32_t child = nodes[node].child;
    while (child >= 0 && nodes[child].byte != byte) child = nodes[child].sibling;
    return child;
  }

  int32_t step(int32_t node, unsigned char byte) const {
    for (;;) {
      if (int32_t child = find_child(node, byte); child >= 0) return child;
      if (node == 0) return 0;
      node = nodes[node].failure;
    }
  }

  void add(std::string_view stop) {
    assert(!stop.empty());
    int32_t node = 0;
    for (char byte : stop) {
      int32_t child = find_child(node, static_cast<unsigned char>(byte));
      if (child < 0) {
        child = static_cast<int32_t>(nodes.size());
        nodes.push_back({.byte = static_cast<unsigned char>(byte),
                         .sibling = nodes[node].child,
                         .depth = nodes[node].depth + 1});
        nodes[node].child = child;
      }
      node = child;
    }
    nodes[node].match = stop.size();
  }

  // Breadth first: a failure link leads to a node of lesser depth, which is done by then.
  void link() {
    std::vector<int32_t> order{0};
    for (size_t i = 0; i < order.size(); ++i) {
      int32_t node = order[i];
      for (int32_t child = nodes[node].child; child >= 0; child = nodes[child].sibling) {
        Node& made = nodes[child];
        made.failure = node == 0 ? 0 : step(nodes[node].failure, made.byte);
        if (made.match == 0) made.match = nodes[made.failure].match;
        order.push_back(child);
      }
    }
  }

  std::vector<Node> nodes;  // 0 is the root
  bool include_stop = false;
  int32_t state = 0;
  bool matched = false;
  std::string text;  // from `sent` on: the state's path, the bytes not sent yet
  size_t sent = 0;
};

StopStrings::StopStrings(const std::vector<std::string>& stops, bool include_stop) {
  if (stops.empty()) return;
  automaton_ = std::make_unique<Automaton>(stops);
  automaton_->include_stop = include_stop;
}
StopStrings::~StopStrings() = default;
StopStrings::StopStrings(StopStrings&&) noexcept = default;
StopStrings& StopStrings::operator=(StopStrings&&) noexcept = default;

// What is held may be as long as a stop string: it stays where it is, and what was sent before it
// is erased only when that is the larger part, so that many short pushes stay linear.
StopStrings::Result StopStrings::push(std::string_view text) {
  if (!automaton_) return {std::string(text), false};
  Automaton& automaton = *automaton_;
  if (automaton.matched) return {"", true};
  std::string& all = automaton.text;
  size_t at = all.size();
  all += text;
  size_t end = 0;
  for (; at < all.size() && !automaton.matched; ++at) {
    automaton.state = automaton.step(automaton.state, static_cast<unsigned char>(all[at]));
    if (size_t match = automaton.nodes[automaton.state].match; match != 0) {
      automaton.matched = true;
      end = at + 1 - (automaton.include_stop ? 0 : match);
    }
  }
  if (!automaton.matched) end = all.size() - automaton.nodes[automaton.state].depth;
  Result result{all.substr(automaton.sent, end - automaton.sent), automaton.matched};
  automaton.sent = end;
  if (automaton.sent > all.size() / 2) {
    all.erase(0, automaton.sent);
    automaton.sent = 0;
  }
  return result;
}

std::string StopStrings::finish() {
  if (!automaton_ || automaton_->matched) return {};
  automaton_->state = 0;
  std::string rest = automaton_->text.substr(automaton_->sent);
  automaton_->text.clear();
  automaton_->sent = 0;
  return rest;
}

Detokenizer::Detokenizer(const Tokenizer& tokenizer, DetokenizerOptions options)
    : tokenizer_(&tokenizer),
      decoder_(tokenizer.decodes_by_token() ? nullptr
                                            : tokenizer.make_decoder(options.skip_special_tokens)),
      skip_special_tokens_(options.skip_special_tokens),
      strip_next_space_(tokenizer.strips_first_space() && options.prompt_tail.empty()),
      utf8_(tokenizer.has_byte_tokens() ? Utf8Stream::Broken::per_byte
                                        : Utf8Stream::Broken::per_subpart),
      stops_(options.stops, options.include_stop) {
  utf8_.continue_from(before_output(options.prompt_tail, options.skip_special_tokens));
}

// What the prompt's last tokens have made visible. A decoder that holds back some of their text
// until it sees more is to say that text once, in the prompt: a second one tells what it is.
std::string Detokenizer::before_output(const std::vector<int32_t>& prompt_tail,
                                       bool skip_special_tokens) {
  std::string before;
  for (int32_t id : prompt_tail) before += decoder_ ? decoder_->push(id) : bytes(id);
  if (decoder_ && !prompt_tail.empty()) {
    const auto alone = tokenizer_->make_decoder(skip_special_tokens);
    for (int32_t id : prompt_tail) alone->push(id);
    prompt_held_ = alone->finish();
  }
  return before;
}

// Where the prompt's held text comes out as another one, the output has changed it and owns it.
void Detokenizer::drop_prompt(std::string& decoded) {
  const size_t same = std::min(prompt_held_.size(), decoded.size());
  if (decoded.compare(0, same, prompt_held_, 0, same) != 0) {
    prompt_held_.clear();
    return;
  }
  decoded.erase(0, same);
  prompt_held_.erase(0, same);
}

std::string_view Detokenizer::bytes(int32_t id) const {
  if (id < 0 || id >= tokenizer_->size()) return {};
  if (!tokenizer_->is_control(id)) return tokenizer_->bytes(id);
  return skip_special_tokens_ ? std::string_view() : tokenizer_->control_bytes(id);
}

StopStrings::Result Detokenizer::push(int32_t id) {
  std::string decoded = decoder_ ? decoder_->push(id) : std::string(bytes(id));
  drop_prompt(decoded);
  std::string text = utf8_.push(decoded);
  if (strip_next_space_ && !text.empty()) {
    strip_next_space_ = false;
    if (text[0] == ' ') text.erase(0, 1);
  }
  text_bytes_ += static_cast<int64_t>(text.size());
  return stops_.push(text);
}

std::string Detokenizer::finish() {
  std::string decoded = decoder_ ? decoder_->finish() : std::string();
  drop_prompt(decoded);
  std::string text = utf8_.push(decoded) + utf8_.finish();
  text_bytes_ += static_cast<int64_t>(text.size());
  StopStrings::Result last = stops_.push(text);
  return last.text + stops_.finish();
}

}  // namespace chorus::text
