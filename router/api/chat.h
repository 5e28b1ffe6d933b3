// POST /v1/chat/completions.
#pragma once

#include "router/api/answering.h"
#include "router/api/service.h"

namespace chorus::api {

Task<> chat_completions(Service& service, Exchange& exchange);
// The same for a body that was read already.
Task<> answer_chat(Service& service, Answering& answering, Json body);

}  // namespace chorus::api
