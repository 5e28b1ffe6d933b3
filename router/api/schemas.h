// JSON Schemas of what routes take and give. Those of requests come from the tables that requests
// are checked with; those of answers are written here.
#pragma once

#include "router/api/json_text.h"

namespace chorus::api::schemas {

Json chat_request();
Json completion_request();
Json generate_request();
Json tokenize_request();
Json detokenize_request();
Json vertex_request();

Json chat_completion();
Json completion();
Json generate_response();
Json generate_list();
Json model();
Json model_list();
Json rendered_chat();
Json token_ids();
Json detokenized();
Json token_list();
Json chat_tokens();
Json predictions();
Json health();
Json server_facts();
Json openai_error();
Json native_error();
Json any_object();
Json anything();

}  // namespace chorus::api::schemas
