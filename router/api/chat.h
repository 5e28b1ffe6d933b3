// POST /v1/chat/completions.
#pragma once

#include "router/api/service.h"

namespace chorus::api {

Task<> chat_completions(Service& service, Exchange& exchange);

}  // namespace chorus::api
