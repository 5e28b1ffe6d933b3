// Nothing here waits for the engine, so these routes answer while it is busy. Long texts are
// tokenised on the pool like those of generations.
#include "router/api/inspect.h"

#include <fmt/format.h>

#include <utility>

#include "router/api/answer_parts.h"
#include "router/api/answering.h"
#include "router/api/chat_prompt.h"
#include "router/api/text_prompt.h"

namespace chorus::api {

// Reads the body, lets `inspect` make the answer, writes it.
Task<> answer_inspection(Service& service, Exchange& exchange, ErrorForm form, Inspection inspect) {
  Answering answering(service, exchange, form);
  auto body = answering.read_body();
  InspectionAnswer answer =
      body ? InspectionAnswer() : InspectionAnswer(tl::unexpected(std::move(body.error())));
  if (body) answer = co_await inspect(service, answering.body_bytes(), std::move(*body));
  if (!answer) {
    co_await answering.refuse(std::move(answer.error()));
    co_return;
  }
  Response response;
  response.body = std::move(*answer);
  co_await exchange.respond(std::move(response));
}

namespace {

std::string id_list(const std::vector<int32_t>& ids) {
  std::string out;
  append_ids(out, ids);
  return out;
}

std::string ids_answer(const Service& service, const std::vector<int32_t>& ids, bool strings) {
  std::string out = fmt::format("{{\"count\":{},\"max_model_len\":{},\"tokens\":", ids.size(),
                                service.context_max()) +
                    id_list(ids) + ",\"token_strs\":";
  if (!strings) return out + "null}";
  out += '[';
  for (size_t i = 0; i < ids.size(); ++i) {
    if (i > 0) out += ',';
    append_json_string(out, shown_bytes(*service.serving()->tokenizer, ids[i]));
  }
  return out + "]}";
}

Task<InspectionAnswer> inspect_text(Service& service, size_t body_bytes, Json body) {
  if (find(body, "messages") != nullptr) {
    auto chat = read_chat_request(body, service.options().chat);
    if (!chat) co_return tl::unexpected(std::move(chat.error()));
    auto prompt = co_await make_chat_prompt(service, *chat, body_bytes);
    if (!prompt) co_return tl::unexpected(std::move(prompt.error()));
    const Json* strings = find(body, "return_token_strs");
    co_return ids_answer(service, prompt->ids, strings != nullptr && *strings == true);
  }
  TokenizeRequest request;
  if (auto failure = read_fields(body, request, tokenize_fields())) {
    co_return tl::unexpected(std::move(*failure));
  }
  std::vector<int32_t> ids =
      co_await encode_text(service, std::move(request.prompt), request.add_special_tokens);
  co_return ids_answer(service, ids, request.return_token_strs);
}

Task<InspectionAnswer> inspect_ids(Service& service, size_t, Json body) {
  DetokenizeRequest request;
  if (auto failure = read_fields(body, request, detokenize_fields())) {
    co_return tl::unexpected(std::move(*failure));
  }
  const text::Tokenizer& tokenizer = *service.serving()->tokenizer;
  for (size_t i = 0; i < request.tokens.size(); ++i) {
    if (request.tokens[i] < tokenizer.size()) continue;
    co_return tl::unexpected(
        invalid(fmt::format("tokens[{}]", i), fmt::format("tokens[{}] is {}, the vocabulary has {}",
                                                          i, request.tokens[i], tokenizer.size())));
  }
  std::string out = "{\"prompt\":";
  append_json_string(out, decode_ids(tokenizer, request.tokens, request.skip_special_tokens));
  co_return out + "}";
}

Task<InspectionAnswer> inspect_render(Service& service, size_t body_bytes, Json body) {
  auto request = read_chat_request(body, service.options().chat);
  if (!request) co_return tl::unexpected(std::move(request.error()));
  auto prompt = co_await make_chat_prompt(service, *request, body_bytes);
  if (!prompt) co_return tl::unexpected(std::move(prompt.error()));
  std::string out = "{\"prompt\":";
  append_json_string(out, prompt->rendered.prompt.text);
  out += fmt::format(",\"count\":{},\"tokens\":", prompt->ids.size()) + id_list(prompt->ids) +
         ",\"message_begins\":[";
  const auto& begins = prompt->rendered.message_begins;
  for (size_t i = 0; i < begins.size(); ++i) {
    if (i > 0) out += ',';
    out += begins[i] < 0 ? "null" : fmt::format("{}", begins[i]);
  }
  co_return out + "]}";
}

}  // namespace

std::span<const Field<TokenizeRequest>> tokenize_fields() {
  using Row = Field<TokenizeRequest>;
  static const std::vector<Row> kRows = {
      {{.name = "prompt",
        .shape = {.types = kString},
        .help = "the text (or messages, as in a chat request)",
        .required = true},
       store<&TokenizeRequest::prompt>},
      {{.name = "add_special_tokens",
        .shape = {.types = kBoolean},
        .help = "add what the tokenizer puts around plain text"},
       store<&TokenizeRequest::add_special_tokens>},
      {{.name = "return_token_strs", .shape = {.types = kBoolean}, .help = "add the tokens' texts"},
       store<&TokenizeRequest::return_token_strs>},
  };
  return kRows;
}

std::span<const Field<DetokenizeRequest>> detokenize_fields() {
  using Row = Field<DetokenizeRequest>;
  static constexpr Shape kTokenId{.types = kInteger, .min = 0, .max = 2147483647};
  static const std::vector<Row> kRows = {
      {{.name = "tokens",
        .shape = {.types = kArray, .items = &kTokenId},
        .help = "token ids",
        .required = true},
       store<&DetokenizeRequest::tokens>},
      {{.name = "skip_special_tokens",
        .shape = {.types = kBoolean},
        .help = "leave control tokens out of the text"},
       store<&DetokenizeRequest::skip_special_tokens>},
  };
  return kRows;
}

Task<> tokenize_text(Service& service, Exchange& exchange) {
  return answer_inspection(service, exchange, error_response, inspect_text);
}
Task<> detokenize_ids(Service& service, Exchange& exchange) {
  return answer_inspection(service, exchange, error_response, inspect_ids);
}
Task<> render_chat(Service& service, Exchange& exchange) {
  return answer_inspection(service, exchange, error_response, inspect_render);
}

}  // namespace chorus::api
