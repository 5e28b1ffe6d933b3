// Each token with the bytes of the text that it came from.
#include "router/api/native_tokens.h"

#include <fmt/format.h>

#include <utility>

#include "router/api/chat_prompt.h"
#include "router/api/generate_request.h"
#include "router/api/generate_wording.h"
#include "router/api/inspect.h"
#include "router/api/prompt_jobs.h"

namespace chorus::api {
namespace {

using Encoding = text::Encoding;

// With offsets, which generations do without.
Task<Encoding> encode(Service& service, text::Prompt prompt, bool add_special) {
  const text::Tokenizer& tokenizer = *service.serving()->tokenizer;
  const size_t bytes = prompt.text.size();
  auto job = [&tokenizer, prompt = std::move(prompt), add_special] {
    return tokenizer.encode_with_offsets(prompt, add_special);
  };
  return run_prompt_job(service, bytes, std::move(job));
}

// TGI's list: each token with the bytes of the text that it came from.
std::string token_list(std::string_view text, const Encoding& encoding) {
  std::string out = "[";
  for (size_t i = 0; i < encoding.ids.size(); ++i) {
    const text::ByteRange& range = encoding.offsets[i];
    if (i > 0) out += ',';
    out += fmt::format("{{\"id\":{},\"text\":", encoding.ids[i]);
    append_json_string(out, text.substr(static_cast<size_t>(range.begin),
                                        static_cast<size_t>(range.end - range.begin)));
    out += fmt::format(",\"start\":{},\"stop\":{}}}", range.begin, range.end);
  }
  return out + "]";
}

Task<InspectionAnswer> inspect_generate(Service& service, size_t, Json body) {
  auto request = read_generate_request(body, false, service.options().generate);
  if (!request) co_return tl::unexpected(std::move(request.error()));
  text::Prompt prompt;
  prompt.text = request->inputs;
  const Encoding encoding = co_await encode(service, std::move(prompt), true);
  co_return token_list(request->inputs, encoding);
}

Task<InspectionAnswer> inspect_chat(Service& service, size_t body_bytes, Json body) {
  auto request = read_chat_request(body, service.options().chat);
  if (!request) co_return tl::unexpected(std::move(request.error()));
  auto prompt = co_await make_chat_prompt(service, *request, body_bytes);
  if (!prompt) co_return tl::unexpected(std::move(prompt.error()));
  const std::string text = prompt->rendered.prompt.text;
  const Encoding encoding = co_await encode(service, std::move(prompt->rendered.prompt), false);
  std::string out = "{\"tokenize_response\":" + token_list(text, encoding) + ",\"templated_text\":";
  append_json_string(out, text);
  co_return out + "}";
}

}  // namespace

Task<> tokenize(Service& service, Exchange& exchange) {
  return answer_inspection(service, exchange, generate_error_response, inspect_generate);
}

Task<> chat_tokenize(Service& service, Exchange& exchange) {
  return answer_inspection(service, exchange, generate_error_response, inspect_chat);
}

}  // namespace chorus::api
