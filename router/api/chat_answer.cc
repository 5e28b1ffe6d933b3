// Everything of a chunk that is the same for a whole stream is made once. A token's text in
// logprobs may be a part of a character: `bytes` holds it exactly, `token` with U+FFFD.
#include "router/api/chat_answer.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "router/api/json_text.h"

namespace chorus::api {
namespace {

constexpr std::string_view kEventHead = "data: ";

std::string head(const AnswerFacts& facts, std::string_view object) {
  std::string out = "{\"id\":";
  append_json_string(out, facts.id);
  out += ",\"object\":";
  append_json_string(out, object);
  out += fmt::format(",\"created\":{},\"model\":", facts.created);
  append_json_string(out, facts.model);
  out += ",\"system_fingerprint\":";
  append_json_string(out, facts.fingerprint);
  out += ",\"choices\":[";
  return out;
}

}  // namespace

std::string_view finish_reason(Outcome outcome) {
  return outcome == Outcome::length ? "length" : "stop";
}

ChatAnswer::ChatAnswer(AnswerFacts facts)
    : facts_(std::move(facts)),
      chunk_head_(std::string(kEventHead) + head(facts_, "chat.completion.chunk")) {}

std::string ChatAnswer::usage(int64_t completion_tokens) const {
  return fmt::format("{{\"prompt_tokens\":{},\"completion_tokens\":{},\"total_tokens\":{}}}",
                     facts_.prompt_tokens, completion_tokens,
                     facts_.prompt_tokens + completion_tokens);
}

void ChatAnswer::append_logprob(std::string& out, int32_t id, float logprob) const {
  const bool control = facts_.tokenizer->is_control(id);
  const std::string_view bytes = control ? facts_.tokenizer->text(id) : facts_.tokenizer->bytes(id);
  out += "{\"token\":";
  append_json_string(out, bytes);
  out += ",\"logprob\":";
  append_json_number(out, logprob);
  out += ",\"bytes\":[";
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (i > 0) out += ',';
    out += fmt::format_int(static_cast<unsigned>(static_cast<unsigned char>(bytes[i]))).c_str();
  }
  out += ']';
}

void ChatAnswer::append_logprobs(std::string& out,
                                 const std::vector<shards::SampledToken>& tokens) const {
  if (!facts_.logprobs) {
    out += "null";
    return;
  }
  out += "{\"content\":[";
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (i > 0) out += ',';
    append_logprob(out, tokens[i].id, tokens[i].logprob);
    out += ",\"top_logprobs\":[";
    const size_t count = std::min(facts_.top_logprobs, tokens[i].top.size());
    for (size_t k = 0; k < count; ++k) {
      if (k > 0) out += ',';
      append_logprob(out, tokens[i].top[k].id, tokens[i].top[k].logprob);
      out += '}';
    }
    out += "]}";
  }
  out += "],\"refusal\":null}";
}

std::string ChatAnswer::completion(const Piece& whole) const {
  std::string out = head(facts_, "chat.completion");
  out += "{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":";
  append_json_string(out, whole.text);
  out += ",\"refusal\":null},\"logprobs\":";
  append_logprobs(out, whole.tokens);
  out += ",\"finish_reason\":\"";
  out += finish_reason(whole.end->outcome);
  out += "\"}],\"usage\":";
  out += usage(whole.end->completion_tokens);
  out += '}';
  return out;
}

void ChatAnswer::close_chunk(std::string& out) const {
  out += facts_.include_usage ? "],\"usage\":null}\n\n" : "]}\n\n";
}

void ChatAnswer::append_first_chunk(std::string& out) const {
  out += chunk_head_;
  out +=
      "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null},"
      "\"logprobs\":null,\"finish_reason\":null}";
  close_chunk(out);
}

void ChatAnswer::append_piece(std::string& out, const Piece& piece) const {
  out += chunk_head_;
  out += "{\"index\":0,\"delta\":{\"content\":";
  append_json_string(out, piece.text);
  out += "},\"logprobs\":";
  append_logprobs(out, piece.tokens);
  out += ",\"finish_reason\":null}";
  close_chunk(out);
}

void ChatAnswer::append_end(std::string& out, const End& end) const {
  out += chunk_head_;
  out += "{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"";
  out += finish_reason(end.outcome);
  out += "\"}";
  close_chunk(out);
  if (facts_.include_usage) {
    out += chunk_head_;
    out += "],\"usage\":";
    out += usage(end.completion_tokens);
    out += "}\n\n";
  }
  out += "data: [DONE]\n\n";
}

}  // namespace chorus::api
