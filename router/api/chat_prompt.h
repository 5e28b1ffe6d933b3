// A chat request's messages as token ids: the template renders them, the tokenizer encodes them.
// Several routes need it: completions, and those that show what a request becomes.
#pragma once

#include <cstdint>
#include <string>
#include <tl/expected.hpp>
#include <vector>

#include "router/api/chat_request.h"
#include "router/api/service.h"
#include "router/api/task.h"
#include "router/text/chat_format.h"

namespace chorus::api {

struct ChatPrompt {
  text::RenderedChat rendered;
  std::vector<int32_t> ids;
};
using ChatPromptResult = tl::expected<ChatPrompt, Error>;

// Takes `messages`, `tools`, `documents` and the template's variables out of the request. Long
// prompts are made on the pool, off the connection's thread.
Task<ChatPromptResult> make_chat_prompt(Service& service, ChatRequest& request, size_t body_bytes);

}  // namespace chorus::api
