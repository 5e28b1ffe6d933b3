// Stop strings: after each byte the automaton's state is the longest suffix of the text that
// begins some stop string. So all but that suffix may be sent, and a stop string that ends at this
// byte is a suffix of the state's path: the state's own, or the one its failure link leads to.
// Stop strings are valid UTF-8, so what is held back starts at a character.
#include "router/text/detokenizer.h"

#include <cassert>
#include <cstdint>
#include <utility>

namespace chorus::text {
namespace {

constexpr std::string_view kReplacement = "\uFFFD";

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

std::string Utf8Stream::push(std::string_view bytes) {
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
    text += part.kind == Subpart::Kind::character ? rest.substr(0, part.bytes) : kReplacement;
    rest.remove_prefix(part.bytes);
  }
  return text;
}

std::string Utf8Stream::finish() {
  return std::string(std::exchange(pending_, {}).empty() ? "" : kReplacement);
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
  int32_t state = 0;
  bool matched = false;
  std::string held;  // the state's path: the bytes not sent yet
};

StopStrings::StopStrings(const std::vector<std::string>& stops)
    : automaton_(std::make_unique<Automaton>(stops)) {}
StopStrings::~StopStrings() = default;
StopStrings::StopStrings(StopStrings&&) noexcept = default;
StopStrings& StopStrings::operator=(StopStrings&&) noexcept = default;

StopStrings::Result StopStrings::push(std::string_view text) {
  Automaton& automaton = *automaton_;
  if (automaton.matched) return {"", true};
  size_t held = automaton.held.size();
  std::string joined = std::exchange(automaton.held, {});
  joined += text;
  for (size_t at = held; at < joined.size(); ++at) {
    automaton.state = automaton.step(automaton.state, static_cast<unsigned char>(joined[at]));
    if (size_t match = automaton.nodes[automaton.state].match; match != 0) {
      automaton.matched = true;
      joined.resize(at + 1 - match);
      return {std::move(joined), true};
    }
  }
  size_t kept = joined.size() - automaton.nodes[automaton.state].depth;
  automaton.held = joined.substr(kept);
  joined.resize(kept);
  return {std::move(joined), false};
}

std::string StopStrings::finish() {
  automaton_->state = 0;
  return std::exchange(automaton_->held, {});
}

Detokenizer::Detokenizer(const std::vector<std::string>& stops, bool strip_first_space)
    : stops_(stops), strip_next_space_(strip_first_space) {}

StopStrings::Result Detokenizer::push(std::string_view token_bytes) {
  std::string text = utf8_.push(token_bytes);
  if (strip_next_space_ && !text.empty()) {
    strip_next_space_ = false;
    if (text[0] == ' ') text.erase(0, 1);
  }
  return stops_.push(text);
}

std::string Detokenizer::finish() {
  StopStrings::Result last = stops_.push(utf8_.finish());
  return last.text + stops_.finish();
}

}  // namespace chorus::text
