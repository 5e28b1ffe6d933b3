// Everything of a chunk that is the same for a whole stream is made once. A token's text in
// logprobs may be a part of a character: `bytes` holds it exactly, `token` with U+FFFD.
#include "router/api/chat_wording.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "router/api/json_text.h"

namespace chorus::api {

ChatWording::ChatWording(AnswerFacts facts, ChatFormatting format)
    : facts_(std::move(facts)),
      format_(std::move(format)),
      chunk_head_(std::string(kEventHead) + answer_head(facts_, "chat.completion.chunk") +
                  "\"choices\":[") {}

void ChatWording::append_logprob(std::string& out, int32_t id, float logprob) const {
  const std::string_view bytes = shown_bytes(*facts_.tokenizer, id);
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

void ChatWording::append_logprobs(std::string& out, const Piece& piece) const {
  if (!format_.logprobs) {
    out += "null";
    return;
  }
  out += "{\"content\":[";
  for (size_t i = 0; i < piece.tokens.size(); ++i) {
    const shards::SampledToken& token = piece.tokens[i];
    if (i > 0) out += ',';
    append_logprob(out, token.id, token.logprob);
    out += ",\"top_logprobs\":[";
    const size_t count = std::min(format_.top_logprobs, token.top.size());
    for (size_t k = 0; k < count; ++k) {
      if (k > 0) out += ',';
      append_logprob(out, token.top[k].id, token.top[k].logprob);
      out += '}';
    }
    out += "]}";
  }
  out += "],\"refusal\":null}";
}

std::string ChatWording::completion(std::span<const Piece> choices) const {
  std::string out = answer_head(facts_, "chat.completion") + "\"choices\":[";
  int64_t completion_tokens = 0;
  for (const Piece& piece : choices) {
    completion_tokens += piece.end->completion_tokens;
    if (piece.choice > 0) out += ',';
    out += fmt::format("{{\"index\":{},\"message\":{{\"role\":\"assistant\",\"content\":",
                       piece.choice);
    append_json_string(out, format_.prefix.empty() ? piece.text : format_.prefix + piece.text);
    out += ",\"refusal\":null},\"logprobs\":";
    append_logprobs(out, piece);
    out += ",\"finish_reason\":\"";
    out += finish_reason(*piece.end);
    out += '"';
    if (format_.token_ids) {
      out += ",\"token_ids\":";
      append_ids(out, piece.tokens);
    }
    out += '}';
  }
  out += "],\"usage\":";
  append_usage(out, facts_, completion_tokens);
  if (format_.token_ids) {
    out += ",\"prompt_token_ids\":";
    append_ids(out, format_.prompt);
  }
  out += '}';
  return out;
}

Response ChatWording::whole(std::span<const Piece> choices, const Timing&) {
  return {.body = completion(choices)};
}

void ChatWording::open_choice(std::string& out, int choice) const {
  out += chunk_head_;
  out += "{\"index\":";
  out += fmt::format_int(choice).c_str();
  out += ",\"delta\":{";
}

void ChatWording::close_chunk(std::string& out) const {
  out += facts_.include_usage ? "],\"usage\":null}\n\n" : "]}\n\n";
}

void ChatWording::append_start(std::string& out) {
  for (int choice = 0; choice < format_.choices; ++choice) {
    open_choice(out, choice);
    out += "\"role\":\"assistant\",\"content\":";
    append_json_string(out, format_.prefix);
    out += ",\"refusal\":null},\"logprobs\":null,\"finish_reason\":null}";
    if (format_.token_ids && choice == 0) {
      out += "],\"prompt_token_ids\":";
      append_ids(out, format_.prompt);
      out += facts_.include_usage ? ",\"usage\":null}\n\n" : "}\n\n";
    } else {
      close_chunk(out);
    }
  }
}

void ChatWording::append_piece(std::string& out, const Piece& piece) {
  if (!piece.text.empty() || !piece.tokens.empty()) {
    open_choice(out, piece.choice);
    out += "\"content\":";
    append_json_string(out, piece.text);
    out += "},\"logprobs\":";
    append_logprobs(out, piece);
    out += ",\"finish_reason\":null";
    if (format_.token_ids) {
      out += ",\"token_ids\":";
      append_ids(out, piece.tokens);
    }
    out += '}';
    close_chunk(out);
  }
  if (!piece.end) return;
  completion_tokens_ += piece.end->completion_tokens;
  open_choice(out, piece.choice);
  out += "},\"logprobs\":null,\"finish_reason\":\"";
  out += finish_reason(*piece.end);
  out += "\"}";
  close_chunk(out);
}

void ChatWording::append_close(std::string& out) {
  append_stream_end(out, facts_, chunk_head_, completion_tokens_);
}

}  // namespace chorus::api
