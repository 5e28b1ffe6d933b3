// GET /openapi.json: the API as an OpenAPI 3.1 document, made of the routes table and the tables
// that requests are checked with. GET /docs: the same as a page.
#pragma once

#include <string>

#include "router/api/service.h"

namespace chorus::api {

std::string make_openapi_document(const std::string& version);

Task<> openapi_document(Service& service, Exchange& exchange);
Task<> docs_page(Service& service, Exchange& exchange);

}  // namespace chorus::api
