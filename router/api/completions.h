// POST /v1/completions.
#pragma once

#include "router/api/answering.h"
#include "router/api/service.h"

namespace chorus::api {

Task<> completions(Service& service, Exchange& exchange);
// The same for a body that was read already.
Task<> answer_completion(Service& service, Answering& answering, Json body);

}  // namespace chorus::api
