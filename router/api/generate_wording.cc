#include "router/api/generate_wording.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "router/api/json_text.h"

namespace chorus::api {
namespace {

int64_t milliseconds(Clock::duration duration) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(duration).count();
}

text::Detokenizer token_texts(const text::Tokenizer& tokenizer) {
  return text::Detokenizer(tokenizer, {.skip_special_tokens = false});
}

const Piece& likeliest(std::span<const Piece> candidates) {
  return *std::max_element(
      candidates.begin(), candidates.end(),
      [](const Piece& a, const Piece& b) { return a.end->mean_logprob() < b.end->mean_logprob(); });
}

std::string_view error_type(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::overloaded:
      return "overloaded";
    case ErrorKind::template_refused:
      return "template_error";
    case ErrorKind::unavailable:
    case ErrorKind::internal:
      return "generation";
    default:
      return "validation";
  }
}

// TGI answers 422 where OpenAI's routes answer 400.
int generate_status(ErrorKind kind) {
  if (kind == ErrorKind::invalid_request || kind == ErrorKind::context_length) return 422;
  return status_of(kind);
}

void append_id_and_text(std::string& out, int32_t id, std::string_view text) {
  out += fmt::format("{{\"id\":{},\"text\":", id);
  append_json_string(out, text);
  out += ",\"logprob\":";
}

}  // namespace

std::string compute_type_of(std::string_view backend, int ranks) {
  const std::string_view device = backend.substr(0, backend.find(','));
  if (device.starts_with("cpu")) return "cpu";
  std::string type = fmt::format("{}-{}", ranks, device);
  for (char& c : type) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    if (c <= ' ' || c > '~') c = '-';  // it stands in a header
  }
  return type;
}

std::string_view generate_finish_reason(const End& end) {
  if (end.outcome == Outcome::length) return "length";
  return end.cause == StopCause::end_token ? "eos_token" : "stop_sequence";
}

Response generate_error_response(const Error& error) {
  std::string body = "{\"error\":";
  append_json_string(body, error.message);
  body += ",\"error_type\":";
  append_json_string(body, error_type(error.kind));
  body += '}';
  return {.status = generate_status(error.kind), .body = std::move(body)};
}

Response generate_error_event(const Error& error) {
  return {.status = 200,
          .content_type = "text/event-stream",
          .body = "data: " + generate_error_response(error).body + "\n\n"};
}

GenerateWording::GenerateWording(GenerateFormatting format)
    : format_(std::move(format)), texts_(token_texts(*format_.tokenizer)) {}

std::string GenerateWording::token_json(const shards::SampledToken& token,
                                        text::Detokenizer& texts) const {
  std::string out;
  append_id_and_text(out, token.id, texts.push(token.id).text);
  append_json_number(out, token.logprob);
  out += format_.tokenizer->is_control(token.id) ? ",\"special\":true}" : ",\"special\":false}";
  return out;
}

std::string GenerateWording::top_tokens_json(const shards::SampledToken& token) const {
  std::string out = "[";
  const size_t count = std::min(format_.top_n_tokens, token.top.size());
  for (size_t i = 0; i < count; ++i) {
    if (i > 0) out += ',';
    text::Detokenizer alone = token_texts(*format_.tokenizer);
    out += token_json({.id = token.top[i].id, .logprob = token.top[i].logprob, .top = {}}, alone);
  }
  return out + "]";
}

std::string GenerateWording::prefill_json(const Piece& piece) const {
  std::string out = "[";
  if (format_.prompt_details) {
    text::Detokenizer texts = token_texts(*format_.tokenizer);
    append_id_and_text(out, format_.prompt.front(), texts.push(format_.prompt.front()).text);
    out += "null}";
    for (const shards::SampledToken& token : piece.prompt) {
      out += ',';
      append_id_and_text(out, token.id, texts.push(token.id).text);
      append_json_number(out, token.logprob);
      out += '}';
    }
  }
  return out + "]";
}

std::string GenerateWording::sequence_json(const Piece& piece) const {
  std::string out = fmt::format("\"finish_reason\":\"{}\",\"generated_tokens\":{},\"seed\":{}",
                                generate_finish_reason(*piece.end), piece.end->completion_tokens,
                                format_.seed ? fmt::format("{}", *format_.seed) : "null");
  out += ",\"prefill\":" + prefill_json(piece) + ",\"tokens\":[";
  text::Detokenizer texts = token_texts(*format_.tokenizer);
  for (size_t i = 0; i < piece.tokens.size(); ++i) {
    if (i > 0) out += ',';
    out += token_json(piece.tokens[i], texts);
  }
  out += ']';
  if (format_.top_n_tokens == 0) return out;
  out += ",\"top_tokens\":[";
  for (size_t i = 0; i < piece.tokens.size(); ++i) {
    if (i > 0) out += ',';
    out += top_tokens_json(piece.tokens[i]);
  }
  return out + "]";
}

Response GenerateWording::whole(std::span<const Piece> candidates, const Timing& timing) {
  const Piece& best = likeliest(candidates);
  const std::string text = format_.prefix + best.text;
  std::string out = "{\"generated_text\":";
  append_json_string(out, text);
  if (format_.details) {
    out += ",\"details\":{" + sequence_json(best);
    if (candidates.size() > 1) {
      out += ",\"best_of_sequences\":[";
      bool first = true;
      for (const Piece& piece : candidates) {
        if (&piece == &best) continue;
        if (!std::exchange(first, false)) out += ',';
        out += "{\"generated_text\":";
        append_json_string(out, format_.prefix + piece.text);
        out += "," + sequence_json(piece) + "}";
      }
      out += ']';
    }
    out += '}';
  }
  out += '}';
  Response response{.body = format_.in_list ? "[" + out + "]" : std::move(out)};
  const Clock::time_point now = Clock::now();
  const End& end = *best.end;
  const int64_t inference = milliseconds(end.last_token - timing.admitted);
  const auto add = [&](std::string name, std::string value) {
    response.headers.push_back({std::move(name), std::move(value)});
  };
  add("x-compute-type", format_.compute_type);
  add("x-compute-time",
      fmt::format("{}", std::chrono::duration<double>(now - timing.arrived).count()));
  add("x-compute-characters", fmt::format("{}", format_.input_characters));
  add("x-prompt-tokens", fmt::format("{}", format_.prompt.size()));
  add("x-generated-tokens", fmt::format("{}", end.completion_tokens));
  add("x-total-time", fmt::format("{}", milliseconds(now - timing.arrived)));
  add("x-validation-time", fmt::format("{}", milliseconds(timing.admitted - timing.arrived)));
  add("x-queue-time", fmt::format("{}", milliseconds(timing.seated - timing.admitted)));
  add("x-inference-time", fmt::format("{}", inference));
  add("x-time-per-token",
      fmt::format("{}", inference / std::max<int64_t>(1, end.completion_tokens)));
  return response;
}

std::vector<HeaderField> GenerateWording::stream_headers() const {
  return {{"x-compute-type", format_.compute_type},
          {"x-compute-characters", fmt::format("{}", format_.input_characters)}};
}

void GenerateWording::append_event(std::string& out, const shards::SampledToken* token,
                                   const Piece* last) {
  out += kEventHead;
  out += fmt::format("{{\"index\":{},\"token\":", ++index_);
  out += token != nullptr ? token_json(*token, texts_) : "null";
  if (token != nullptr && format_.top_n_tokens > 0) {
    out += ",\"top_tokens\":" + top_tokens_json(*token);
  }
  out += ",\"generated_text\":";
  if (last == nullptr) {
    out += "null,\"details\":null}\n\n";
    return;
  }
  append_json_string(out, format_.prefix + text_);
  out += ",\"details\":";
  if (format_.details) {
    out += fmt::format(
        "{{\"finish_reason\":\"{}\",\"generated_tokens\":{},\"seed\":{},\"input_length\":{}}}",
        generate_finish_reason(*last->end), last->end->completion_tokens,
        format_.seed ? fmt::format("{}", *format_.seed) : "null", format_.prompt.size());
  } else {
    out += "null";
  }
  out += "}\n\n";
}

void GenerateWording::append_piece(std::string& out, const Piece& piece) {
  text_ += piece.text;
  const size_t tokens = piece.tokens.size();
  for (size_t i = 0; i < tokens; ++i) {
    const bool last = piece.end && i + 1 == tokens;
    append_event(out, &piece.tokens[i], last ? &piece : nullptr);
  }
  if (piece.end && tokens == 0) append_event(out, nullptr, &piece);
}

void GenerateWording::append_close(std::string&) {}

}  // namespace chorus::api
