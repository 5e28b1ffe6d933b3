// TGI's own generation routes.
#pragma once

#include "router/api/service.h"

namespace chorus::api {

Task<> generate(Service& service, Exchange& exchange);         // POST /generate
Task<> generate_stream(Service& service, Exchange& exchange);  // POST /generate_stream
Task<> generate_compat(Service& service, Exchange& exchange);  // POST /: the body says which
// POST /invocations (SageMaker): a chat, a completion, or TGI's body, told by their fields.
Task<> invocations(Service& service, Exchange& exchange);
// POST /vertex and $AIP_PREDICT_ROUTE: {"instances": [...]} -> {"predictions": [...]}.
Task<> vertex(Service& service, Exchange& exchange);

}  // namespace chorus::api
