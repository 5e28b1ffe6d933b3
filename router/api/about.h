// Answers about the server itself: health, models, info, metrics.
#pragma once

#include "router/api/service.h"

namespace chorus::api {

Task<> health(Service& service, Exchange& exchange);
Task<> models(Service& service, Exchange& exchange);
Task<> model(Service& service, Exchange& exchange);  // GET /v1/models/<id>
Task<> info(Service& service, Exchange& exchange);
Task<> metrics(Service& service, Exchange& exchange);

}  // namespace chorus::api
