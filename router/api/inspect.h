// For people who debug prompts: what a text or a chat request becomes before it is generated from.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "router/api/answering.h"
#include "router/api/fields.h"
#include "router/api/service.h"

namespace chorus::api {

Task<> tokenize_text(Service& service, Exchange& exchange);   // POST /v1/tokenize
Task<> detokenize_ids(Service& service, Exchange& exchange);  // POST /v1/detokenize
Task<> render_chat(Service& service, Exchange& exchange);     // POST /v1/chat/render

struct TokenizeRequest {
  std::string prompt;
  bool add_special_tokens = true;
  bool return_token_strs = false;
};
struct DetokenizeRequest {
  std::vector<int32_t> tokens;
  bool skip_special_tokens = false;
};
std::span<const Field<TokenizeRequest>> tokenize_fields();
std::span<const Field<DetokenizeRequest>> detokenize_fields();

using InspectionAnswer = tl::expected<std::string, Error>;  // a body
using Inspection = Task<InspectionAnswer> (*)(Service&, size_t body_bytes, Json);
// Reads the body, lets `inspect` make the answer, writes it.
Task<> answer_inspection(Service& service, Exchange& exchange, ErrorForm form, Inspection inspect);

}  // namespace chorus::api
