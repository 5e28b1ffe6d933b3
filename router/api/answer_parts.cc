#include "router/api/answer_parts.h"

#include <fmt/format.h>

#include "router/api/json_text.h"

namespace chorus::api {

std::string answer_head(const AnswerFacts& facts, std::string_view object) {
  std::string out = "{\"id\":";
  append_json_string(out, facts.id);
  out += ",\"object\":";
  append_json_string(out, object);
  out += fmt::format(",\"created\":{},\"model\":", facts.created);
  append_json_string(out, facts.model);
  out += ",\"system_fingerprint\":";
  append_json_string(out, facts.fingerprint);
  out += ',';
  return out;
}

void append_usage(std::string& out, const AnswerFacts& facts, int64_t completion_tokens) {
  out +=
      fmt::format("{{\"prompt_tokens\":{},\"completion_tokens\":{},\"total_tokens\":{}}}",
                  facts.prompt_tokens, completion_tokens, facts.prompt_tokens + completion_tokens);
}

void append_ids(std::string& out, std::span<const int32_t> ids) {
  out += '[';
  for (size_t i = 0; i < ids.size(); ++i) {
    if (i > 0) out += ',';
    out += fmt::format_int(ids[i]).c_str();
  }
  out += ']';
}

void append_ids(std::string& out, std::span<const shards::SampledToken> tokens) {
  out += '[';
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (i > 0) out += ',';
    out += fmt::format_int(tokens[i].id).c_str();
  }
  out += ']';
}

std::string_view shown_bytes(const text::Tokenizer& tokenizer, int32_t id) {
  return tokenizer.is_control(id) ? tokenizer.text(id) : tokenizer.bytes(id);
}

std::string_view finish_reason(const End& end) {
  return end.outcome == Outcome::length ? "length" : "stop";
}

}  // namespace chorus::api
