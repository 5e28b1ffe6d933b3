#include "router/api/answer_parts.h"

#include <fmt/format.h>

#include "router/api/answering.h"
#include "router/api/json_text.h"

namespace chorus::api {

AnswerFacts facts_of(const Service& service, std::string_view id_prefix, bool include_usage) {
  return {.id = make_answer_id(id_prefix),
          .created = seconds_now(),
          .model = service.options().model_id,
          .fingerprint = service.fingerprint(),
          .tokenizer = service.serving()->tokenizer.get(),
          .include_usage = include_usage};
}

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

void append_stream_end(std::string& out, const AnswerFacts& facts, std::string_view chunk_head,
                       int64_t completion_tokens) {
  if (facts.include_usage) {
    out += chunk_head;
    out += "],\"usage\":";
    append_usage(out, facts, completion_tokens);
    out += "}\n\n";
  }
  out += "data: [DONE]\n\n";
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
