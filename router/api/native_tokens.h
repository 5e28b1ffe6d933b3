// TGI's routes that show tokens.
#pragma once

#include "router/api/service.h"

namespace chorus::api {

Task<> tokenize(Service& service, Exchange& exchange);       // POST /tokenize
Task<> chat_tokenize(Service& service, Exchange& exchange);  // POST /chat_tokenize

}  // namespace chorus::api
