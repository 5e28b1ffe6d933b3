// A token that is not valid UTF-8 by itself is written as OpenAI does: "bytes:\xe2\x80". Offsets
// count characters from where the choice's text begins, the echoed prompt included.
#include "router/api/completion_wording.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "router/api/json_text.h"

namespace chorus::api {
namespace {

int64_t count_characters(std::string_view text) {
  return std::count_if(text.begin(), text.end(),
                       [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

std::string token_name(const text::Tokenizer& tokenizer, int32_t id) {
  const std::string_view bytes = shown_bytes(tokenizer, id);
  text::Utf8Stream stream;
  std::string text = stream.push(bytes);
  text += stream.finish();
  if (text == bytes) return text;
  std::string name = "bytes:";
  for (const char c : bytes) name += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
  return name;
}

void append_item(std::string& list, std::string_view item) {
  if (!list.empty()) list += ',';
  list += item;
}

// The n choices of one prompt whose tokens were likeliest on the mean, best first.
std::vector<const Piece*> best_of(std::span<const Piece> candidates, size_t n) {
  std::vector<const Piece*> order;
  for (const Piece& piece : candidates) order.push_back(&piece);
  if (n >= order.size()) return order;
  std::stable_sort(order.begin(), order.end(), [](const Piece* a, const Piece* b) {
    return a->end->mean_logprob() > b->end->mean_logprob();
  });
  order.resize(n);
  return order;
}

}  // namespace

CompletionWording::Offsets::Offsets(const text::Tokenizer& tokenizer)
    : text(tokenizer, {.skip_special_tokens = false}) {}

CompletionWording::CompletionWording(AnswerFacts facts, CompletionFormatting format)
    : facts_(std::move(facts)),
      format_(std::move(format)),
      chunk_head_(std::string(kEventHead) + answer_head(facts_, "text_completion") +
                  "\"choices\":[") {
  const size_t choices = format_.prompts.size() * static_cast<size_t>(format_.candidates);
  started_.resize(choices);
  offsets_.reserve(choices);
  for (size_t i = 0; i < choices; ++i) offsets_.emplace_back(*facts_.tokenizer);
}

const CompletionFormatting::Prompt& CompletionWording::prompt_of(const Piece& piece) const {
  return format_.prompts[static_cast<size_t>(piece.choice / format_.candidates)];
}

int64_t CompletionWording::shown_tokens(const Piece& piece) const {
  return format_.prompt_alone ? 0 : piece.end->completion_tokens;
}

std::string CompletionWording::top_of(const shards::SampledToken& token) const {
  std::string top;
  std::vector<std::string> names;
  const auto add = [&](int32_t id, float logprob) {
    std::string name = token_name(*facts_.tokenizer, id);
    if (std::find(names.begin(), names.end(), name) != names.end()) return;
    std::string item;
    append_json_string(item, name);
    item += ':';
    append_json_number(item, logprob);
    append_item(top, item);
    names.push_back(std::move(name));
  };
  const size_t count = std::min(static_cast<size_t>(*format_.logprobs), token.top.size());
  for (size_t i = 0; i < count; ++i) add(token.top[i].id, token.top[i].logprob);
  add(token.id, token.logprob);
  return "{" + top + "}";
}

void CompletionWording::add_token(Lists& lists, const shards::SampledToken& token,
                                  Offsets& offsets) const {
  std::string item;
  append_json_string(item, token_name(*facts_.tokenizer, token.id));
  append_item(lists.tokens, item);
  item.clear();
  append_json_number(item, token.logprob);
  append_item(lists.token_logprobs, item);
  append_item(lists.top_logprobs, top_of(token));
  append_item(lists.text_offset, fmt::format_int(offsets.characters).c_str());
  offsets.characters += count_characters(offsets.text.push(token.id).text);
}

void CompletionWording::add_prompt(Lists& lists, const Piece& piece, Offsets& offsets) const {
  const std::vector<int32_t>& ids = prompt_of(piece).ids;
  std::string item;
  append_json_string(item, token_name(*facts_.tokenizer, ids.front()));
  append_item(lists.tokens, item);
  append_item(lists.token_logprobs, "null");
  append_item(lists.top_logprobs, "null");
  append_item(lists.text_offset, "0");
  const bool in_text = !facts_.tokenizer->is_control(ids.front());
  if (in_text) offsets.characters += count_characters(offsets.text.push(ids.front()).text);
  for (const shards::SampledToken& token : piece.prompt) add_token(lists, token, offsets);
}

void CompletionWording::append_logprobs(std::string& out, const Piece& piece, Offsets& offsets,
                                        bool first) const {
  if (!format_.logprobs) {
    out += "null";
    return;
  }
  Lists lists;
  if (first && format_.echo) add_prompt(lists, piece, offsets);
  if (!format_.prompt_alone) {
    for (const shards::SampledToken& token : piece.tokens) add_token(lists, token, offsets);
  }
  const bool tops = *format_.logprobs > 0;
  out +=
      fmt::format(R"({{"tokens":[{}],"token_logprobs":[{}],"top_logprobs":{},"text_offset":[{}]}})",
                  lists.tokens, lists.token_logprobs,
                  tops ? "[" + lists.top_logprobs + "]" : "null", lists.text_offset);
}

void CompletionWording::append_choice(std::string& out, int64_t index, const Piece& piece,
                                      Offsets& offsets, bool first) const {
  out += fmt::format("{{\"index\":{},\"text\":", index);
  std::string text = first && format_.echo ? prompt_of(piece).text : std::string();
  if (!format_.prompt_alone) text += piece.text;
  append_json_string(out, text);
  out += ",\"logprobs\":";
  append_logprobs(out, piece, offsets, first);
  out += ",\"finish_reason\":";
  if (!piece.end) {
    out += "null";
  } else {
    out += format_.prompt_alone ? "\"length\"" : fmt::format("\"{}\"", finish_reason(*piece.end));
  }
  if (format_.token_ids) {
    out += ",\"token_ids\":";
    append_ids(out, piece.tokens);
    if (first) {
      out += ",\"prompt_token_ids\":";
      append_ids(out, prompt_of(piece).ids);
    }
  }
  out += '}';
}

Response CompletionWording::whole(std::span<const Piece> choices, const Timing&) {
  std::string out = answer_head(facts_, "text_completion") + "\"choices\":[";
  int64_t completion_tokens = 0;
  int64_t index = 0;
  const auto candidates = static_cast<size_t>(format_.candidates);
  for (size_t first = 0; first < choices.size(); first += candidates) {
    const auto group = choices.subspan(first, candidates);
    for (const Piece& piece : group) completion_tokens += shown_tokens(piece);
    for (const Piece* piece : best_of(group, static_cast<size_t>(format_.n))) {
      if (index > 0) out += ',';
      append_choice(out, index++, *piece, offsets_[static_cast<size_t>(piece->choice)], true);
    }
  }
  out += "],\"usage\":";
  append_usage(out, facts_, completion_tokens);
  out += '}';
  return {.body = std::move(out)};
}

void CompletionWording::append_piece(std::string& out, const Piece& piece) {
  const auto choice = static_cast<size_t>(piece.choice);
  if (piece.end) completion_tokens_ += shown_tokens(piece);
  if (format_.prompt_alone && !piece.end) return;
  out += chunk_head_;
  append_choice(out, piece.choice, piece, offsets_[choice], !started_[choice]);
  started_[choice] = true;
  out += facts_.include_usage ? "],\"usage\":null}\n\n" : "]}\n\n";
}

void CompletionWording::append_close(std::string& out) {
  append_stream_end(out, facts_, chunk_head_, completion_tokens_);
}

}  // namespace chorus::api
