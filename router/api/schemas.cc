#include "router/api/schemas.h"

#include <vector>

#include "router/api/chat_request.h"
#include "router/api/completion_request.h"
#include "router/api/generate_request.h"
#include "router/api/inspect.h"

namespace chorus::api::schemas {
namespace {

template <class Request>
void collect(std::vector<const Property*>& rows, std::span<const Field<Request>> fields) {
  for (const Field<Request>& field : fields) rows.push_back(&field.property);
}

template <class... Tables>
Json request_schema(const Tables&... tables) {
  std::vector<const Property*> rows;
  (collect(rows, tables), ...);
  return schema_of(rows);
}

Json object_of(const Json& properties) {
  Json required = Json::array();
  for (const auto& [name, unused] : properties.items()) required.push_back(name);
  return {{"type", "object"}, {"properties", properties}, {"required", std::move(required)}};
}
Json optional_part(Json schema) {
  return {{"anyOf", Json::array({std::move(schema), {{"type", "null"}}})}};
}
Json list_of(Json schema) {
  return {{"type", "array"}, {"items", std::move(schema)}};
}
Json type(std::string_view name) {
  return {{"type", name}};
}
Json text() {
  return type("string");
}
Json integer() {
  return type("integer");
}
Json number() {
  return type("number");
}
Json fixed(std::string_view value) {
  return {{"type", "string"}, {"const", value}};
}

Json usage() {
  return object_of({{"prompt_tokens", integer()},
                    {"completion_tokens", integer()},
                    {"total_tokens", integer()}});
}
Json finish_reason() {
  return {{"type", "string"}, {"enum", {"stop", "length"}}};
}
Json answer_of(std::string_view object, Json choice) {
  return object_of({{"id", text()},
                    {"object", fixed(object)},
                    {"created", integer()},
                    {"model", text()},
                    {"system_fingerprint", text()},
                    {"choices", list_of(std::move(choice))},
                    {"usage", usage()}});
}

Json native_token() {
  return object_of(
      {{"id", integer()}, {"text", text()}, {"logprob", number()}, {"special", type("boolean")}});
}
Json prefill_token() {
  return object_of({{"id", integer()}, {"text", text()}, {"logprob", optional_part(number())}});
}

}  // namespace

Json chat_request() {
  Json schema = request_schema(chat_fields(), generation_fields());
  // What the tables cannot say: a message has content, or is the assistant's and calls tools.
  Json& message = schema["properties"]["messages"]["items"];
  const Json content = {{"properties", {{"content", {{"type", {"string", "array"}}}}}},
                        {"required", {"content"}}};
  const Json calls = {
      {"properties",
       {{"role", fixed("assistant")}, {"tool_calls", {{"type", "array"}, {"minItems", 1}}}}},
      {"required", {"tool_calls"}}};
  message["anyOf"] = Json::array({content, calls});
  return schema;
}
Json completion_request() {
  return request_schema(completion_fields(), generation_fields());
}
Json generate_request() {
  Json schema = request_schema(generate_fields());
  schema["properties"]["parameters"] = optional_part(request_schema(generate_parameter_fields()));
  return schema;
}
Json tokenize_request() {
  Json messages = request_schema(chat_fields(), generation_fields());
  return {{"anyOf", Json::array({request_schema(tokenize_fields()), std::move(messages)})}};
}
Json detokenize_request() {
  return request_schema(detokenize_fields());
}
Json vertex_request() {
  Json instance = {{"anyOf", Json::array({generate_request(), chat_request()})}};
  return {{"type", "object"},
          {"properties",
           {{"instances", {{"type", "array"}, {"items", std::move(instance)}, {"minItems", 1}}}}},
          {"required", {"instances"}}};
}

Json chat_completion() {
  Json message = object_of({{"role", fixed("assistant")},
                            {"content", optional_part(text())},
                            {"refusal", type("null")}});
  Json alternative = {{"token", text()}, {"logprob", number()}, {"bytes", list_of(integer())}};
  Json token = alternative;
  token["top_logprobs"] = list_of(object_of(alternative));
  Json logprobs = object_of({{"content", list_of(object_of(token))}, {"refusal", type("null")}});
  return answer_of("chat.completion", object_of({{"index", integer()},
                                                 {"message", std::move(message)},
                                                 {"logprobs", optional_part(std::move(logprobs))},
                                                 {"finish_reason", finish_reason()}}));
}

Json completion() {
  Json top = {{"type", "object"}, {"additionalProperties", number()}};
  Json logprobs = object_of({{"tokens", list_of(text())},
                             {"token_logprobs", list_of(optional_part(number()))},
                             {"top_logprobs", optional_part(list_of(optional_part(top)))},
                             {"text_offset", list_of(integer())}});
  return answer_of("text_completion", object_of({{"index", integer()},
                                                 {"text", text()},
                                                 {"logprobs", optional_part(std::move(logprobs))},
                                                 {"finish_reason", finish_reason()}}));
}

Json generate_response() {
  Json reason = {{"type", "string"}, {"enum", {"length", "eos_token", "stop_sequence"}}};
  Json details = object_of({{"finish_reason", std::move(reason)},
                            {"generated_tokens", integer()},
                            {"seed", optional_part(integer())},
                            {"prefill", list_of(prefill_token())},
                            {"tokens", list_of(native_token())}});
  details["properties"]["top_tokens"] = list_of(list_of(native_token()));
  details["properties"]["best_of_sequences"] = list_of(any_object());
  return {{"type", "object"},
          {"properties", {{"generated_text", text()}, {"details", std::move(details)}}},
          {"required", {"generated_text"}}};
}
Json generate_list() {
  return list_of(generate_response());
}

Json model() {
  return {{"type", "object"},
          {"properties",
           {{"id", text()},
            {"object", fixed("model")},
            {"created", integer()},
            {"owned_by", text()},
            {"max_model_len", integer()}}},
          {"required", {"id", "object", "created", "owned_by"}}};
}
Json model_list() {
  return object_of({{"object", fixed("list")}, {"data", list_of(model())}});
}

Json rendered_chat() {
  return object_of({{"prompt", text()},
                    {"count", integer()},
                    {"tokens", list_of(integer())},
                    {"message_begins", list_of(optional_part(integer()))}});
}
Json token_ids() {
  return object_of({{"count", integer()},
                    {"max_model_len", integer()},
                    {"tokens", list_of(integer())},
                    {"token_strs", optional_part(list_of(text()))}});
}
Json detokenized() {
  return object_of({{"prompt", text()}});
}
Json token_list() {
  return list_of(
      object_of({{"id", integer()}, {"text", text()}, {"start", integer()}, {"stop", integer()}}));
}
Json chat_tokens() {
  return object_of({{"tokenize_response", token_list()}, {"templated_text", text()}});
}
Json predictions() {
  return object_of({{"predictions", list_of(text())}});
}
Json health() {
  return {{"type", "object"},
          {"properties", {{"status", text()}, {"progress", number()}, {"what", text()}}},
          {"required", {"status"}}};
}
Json server_facts() {
  return object_of({{"model_id", text()},
                    {"model_sha", optional_part(text())},
                    {"max_concurrent_requests", integer()},
                    {"max_best_of", integer()},
                    {"max_stop_sequences", integer()},
                    {"max_input_tokens", optional_part(integer())},
                    {"max_total_tokens", optional_part(integer())},
                    {"router", text()},
                    {"version", text()}});
}
Json openai_error() {
  return object_of({{"error", object_of({{"message", text()},
                                         {"type", text()},
                                         {"param", optional_part(text())},
                                         {"code", optional_part(text())}})}});
}
Json native_error() {
  return object_of({{"error", text()}, {"error_type", text()}});
}
Json any_object() {
  return type("object");
}
Json anything() {
  return Json::object();
}

}  // namespace chorus::api::schemas
