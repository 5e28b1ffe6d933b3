// The tables of a chat request, and what they cannot say: which messages may have what, which tool
// a choice names. Messages go to the template as they came, since templates read more of them than
// OpenAI defines; only what is null is left out, because a template's test for `tool_calls` means
// "there are some".
#include "router/api/chat_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace chorus::api {
namespace {

using R = Rows<ChatRequest>;
using Row = R::Row;

// ---- messages ----

constexpr Shape kText{.types = kString};
constexpr Shape kAny{};
constexpr std::string_view kRoles[] = {"system", "developer", "user", "assistant", "tool"};
constexpr std::string_view kFunctionWord[] = {"function"};

constexpr Property kPartProperties[] = {
    {.name = "type", .shape = kText, .help = "text (this server reads no other)", .required = true},
    {.name = "text", .shape = kText},
    {.name = "refusal", .shape = kText},
};
constexpr Shape kPart{.types = kObject, .properties = kPartProperties};

constexpr Property kCalledFunction[] = {
    {.name = "name", .shape = {.types = kString, .bytes_min = 1}, .required = true},
    {.name = "arguments",
     .shape = {.types = kString | kObject},
     .help = "JSON as text, or an object",
     .required = true},
};
constexpr Property kCallProperties[] = {
    {.name = "id", .shape = kText},
    {.name = "type", .shape = {.types = kString, .words = kFunctionWord}},
    {.name = "function",
     .shape = {.types = kObject, .properties = kCalledFunction},
     .required = true},
};
constexpr Shape kCall{.types = kObject, .properties = kCallProperties};

constexpr Property kMessageProperties[] = {
    {.name = "role", .shape = {.types = kString, .words = kRoles}, .required = true},
    {.name = "content",
     .shape = {.types = kString | kArray, .items = &kPart},
     .help = "text, or text in parts"},
    {.name = "name", .shape = kText},
    {.name = "tool_calls", .shape = {.types = kArray, .items = &kCall}},
    {.name = "tool_call_id", .shape = kText, .help = "of the call that a tool message answers"},
    {.name = "reasoning_content", .shape = kText, .help = "what the assistant thought"},
    {.name = "reasoning", .shape = kText},
    {.name = "thinking", .shape = kText},
    {.name = "refusal", .shape = kText},
    {.name = "function_call",
     .shape = {.types = kObject},
     .help = "use tool_calls",
     .use = Use::refused,
     .neutral = "[]"},
    {.name = "audio",
     .shape = {.types = kObject},
     .help = "this server reads text only",
     .use = Use::refused,
     .neutral = "[]"},
};
constexpr Shape kMessage{.types = kObject, .properties = kMessageProperties};

Failure check_part(const Json& part, const Path& path) {
  const std::string type = part.at("type").get<std::string>();
  if (type != "text" && type != "refusal") {
    return invalid(
        Path{&path, "type"},
        fmt::format("is '{}': this server reads parts of type 'text' only", type.substr(0, 40)));
  }
  if (find(part, type) == nullptr) return invalid(Path{&path, type}, "must be a string");
  return {};
}

Failure check_message(const Json& message, const Path& path) {
  const Json* content = find(message, "content");
  const Json* calls = find(message, "tool_calls");
  const bool assistant = message.at("role") == "assistant";
  const bool called = calls != nullptr && !calls->empty();
  if (called && !assistant) {
    return invalid(Path{&path, "tool_calls"}, "stands in a message that is not the assistant's");
  }
  if (content == nullptr) {
    if (assistant && called) return {};
    return invalid(Path{&path, "content"}, "is required: a string or an array of text parts");
  }
  if (!content->is_array()) return {};
  const Path at{&path, "content"};
  for (size_t i = 0; i < content->size(); ++i) {
    const Path part{.parent = &at, .index = static_cast<int64_t>(i)};
    if (Failure failure = check_part((*content)[i], part)) return failure;
  }
  return {};
}

// Without nulls and without an empty list of calls; `content` always stands there.
Json without_nulls(const Json& message) {
  Json kept = Json::object();
  for (const auto& [key, value] : message.items()) {
    const bool no_calls = key == "tool_calls" && value.is_array() && value.empty();
    if (!value.is_null() && !no_calls) kept[key] = value;
  }
  if (!kept.contains("content")) kept["content"] = nullptr;
  return kept;
}

Failure read_messages(ChatRequest& request, const Json& value, const Path& path) {
  for (size_t i = 0; i < value.size(); ++i) {
    const Path at{.parent = &path, .index = static_cast<int64_t>(i)};
    if (Failure failure = check_message(value[i], at)) return failure;
    request.messages.push_back(without_nulls(value[i]));
  }
  return {};
}

// ---- tools ----

constexpr Property kFunctionProperties[] = {
    {.name = "name", .shape = {.types = kString, .bytes_min = 1}, .required = true},
    {.name = "description", .shape = kText},
    {.name = "parameters", .shape = {.types = kObject}, .help = "a JSON Schema"},
    {.name = "strict", .shape = {.types = kBoolean}},
};
constexpr Property kToolProperties[] = {
    {.name = "type", .shape = {.types = kString, .words = kFunctionWord}, .required = true},
    {.name = "function",
     .shape = {.types = kObject, .properties = kFunctionProperties},
     .required = true},
};
constexpr Shape kTool{.types = kObject, .properties = kToolProperties};

constexpr Property kNamedFunction[] = {
    {.name = "name", .shape = {.types = kString, .bytes_min = 1}, .required = true},
};
constexpr Property kChoiceProperties[] = {
    {.name = "type", .shape = {.types = kString, .words = kFunctionWord}},
    {.name = "function",
     .shape = {.types = kObject, .properties = kNamedFunction},
     .required = true},
};

Failure read_tools(ChatRequest& request, const Json& value, const Path&) {
  if (!value.empty()) request.tools = value;
  return {};
}

// A word, TGI's bare name of a function, or OpenAI's object around it.
Failure read_tool_choice(ChatRequest& request, const Json& value, const Path&) {
  if (value.is_object()) {
    request.tool_choice = value.at("function").at("name").get<std::string>();
    request.tool_choice_is_name = true;
    return {};
  }
  request.tool_choice = value.get<std::string>();
  request.tool_choice_is_name = request.tool_choice != "none" && request.tool_choice != "auto" &&
                                request.tool_choice != "required";
  return {};
}

Failure check_tool_choice(const ChatRequest& request) {
  if (!request.tool_choice_is_name && request.tool_choice != "required") return {};
  if (request.tools.is_null()) {
    return invalid("tool_choice", "tool_choice asks for a call, but there are no tools");
  }
  const bool known = std::any_of(request.tools.begin(), request.tools.end(), [&](const Json& tool) {
    return tool.at("function").at("name") == request.tool_choice;
  });
  if (known || !request.tool_choice_is_name) return {};
  return invalid("tool_choice", fmt::format("tool_choice names the function \"{}\", which is not "
                                            "among the tools",
                                            request.tool_choice));
}

// ---- the rest ----

constexpr std::string_view kFormatWords[] = {"text", "json_object", "json_schema", "json", "regex"};
constexpr Property kSchemaProperties[] = {
    {.name = "name", .shape = kText},
    {.name = "description", .shape = kText},
    {.name = "schema", .shape = {.types = kObject}},
    {.name = "strict", .shape = {.types = kBoolean}},
};
constexpr Property kFormatProperties[] = {
    {.name = "type", .shape = {.types = kString, .words = kFormatWords}, .required = true},
    {.name = "json_schema", .shape = {.types = kObject, .properties = kSchemaProperties}},
    {.name = "value", .shape = kAny, .help = "TGI's: a schema or a regular expression"},
};

Failure read_response_format(ChatRequest& request, const Json& value, const Path& path) {
  if (value.at("type") == "text") return {};
  if (value.at("type") == "json_schema") {
    const Json* schema = find(value, "json_schema");
    if (schema == nullptr && find(value, "value") == nullptr) {
      return invalid(Path{&path, "json_schema"}, "is required");
    }
    if (schema != nullptr && find(*schema, "name") == nullptr) {
      const Path at{&path, "json_schema"};
      return invalid(Path{&at, "name"}, "is required");
    }
  }
  request.response_format = value;
  return {};
}

Failure read_max_tokens(ChatRequest& request, const Json& value, const Path&) {
  request.max_tokens = value.get<int64_t>();
  return {};
}

Failure read_effort(ChatRequest& request, const Json& value, const Path&) {
  request.template_kwargs["reasoning_effort"] = value;
  return {};
}

Failure read_kwargs(ChatRequest& request, const Json& value, const Path& path) {
  for (const auto& [key, entry] : value.items()) {
    if (key == "messages") return invalid(Path{&path, key}, "cannot replace the messages");
    request.template_kwargs[key] = entry;
  }
  return {};
}

std::vector<Row> rows() {
  return {
      {{.name = "messages",
        .shape = {.types = kArray, .items_min = 1, .items = &kMessage},
        .help = "the conversation so far",
        .required = true},
       read_messages},
      {{.name = "max_tokens",
        .shape = {.types = kInteger, .min = 1, .max = kTokensMax},
        .help = "most tokens of the answer; without it the context is the limit"},
       read_max_tokens},
      {{.name = "max_completion_tokens",
        .shape = {.types = kInteger, .min = 1, .max = kTokensMax},
        .help = "another name of max_tokens"},
       store<&ChatRequest::max_completion_tokens>},
      R::flag("logprobs", "add the log-probabilities of the answer's tokens",
              store<&ChatRequest::logprobs>),
      {{.name = "top_logprobs",
        .shape = {.types = kInteger, .min = 0, .max = 20},
        .help = "with logprobs: the likeliest tokens at each place"},
       store<&ChatRequest::top_logprobs>},
      {{.name = "tools",
        .shape = {.types = kArray, .items_max = 1024, .items = &kTool},
        .help = "functions that the model may call (today: shown to it with tool_choice none)"},
       read_tools},
      {{.name = "tool_choice",
        .shape = {.types = kString | kObject, .bytes_min = 1, .properties = kChoiceProperties},
        .help = "none, auto, required, or one function"},
       read_tool_choice},
      R::ignored("parallel_tool_calls", "no calls are made yet"),
      {{.name = "response_format",
        .shape = {.types = kObject, .properties = kFormatProperties},
        .help = "text (constrained output is not built yet)"},
       read_response_format},
      {{.name = "documents",
        .shape = {.types = kArray, .items_max = 1024},
        .help = "for templates that show documents"},
       store<&ChatRequest::documents>},
      {{.name = "chat_template_kwargs",
        .shape = {.types = kObject},
        .help = "further variables of the template"},
       read_kwargs},
      {{.name = "reasoning_effort", .shape = kText, .help = "handed to the template"}, read_effort},
      R::flag("add_generation_prompt", "end the prompt with the head of the assistant's turn",
              store<&ChatRequest::add_generation_prompt>),
      R::flag("continue_final_message", "go on with the last message instead of answering it",
              store<&ChatRequest::continue_final_message>),
      R::flag("echo", "with continue_final_message: begin the answer with that message",
              store<&ChatRequest::echo>),
      R::flag("add_special_tokens", "add what the tokenizer puts around plain text",
              store<&ChatRequest::add_special_tokens>),
      R::refused("chat_template", kString, "templates come with the model or --chat-template-file",
                 "[]"),
      R::refused("functions", kArray, "use tools", "[[]]"),
      R::refused("function_call", 0, "use tool_choice", R"(["none", "auto"])"),
      R::refused("modalities", kArray, "this server answers in text", R"([["text"]])"),
      R::refused("audio", kObject, "this server answers in text", "[]"),
      R::refused("prediction", kObject, "predicted outputs are not built", "[]"),
      R::refused("web_search_options", kObject, "this server searches nothing", "[]"),
      R::refused("verbosity", kString, "no model here knows it", R"(["medium"])"),
      R::ignored("metadata", "not used"),
      R::ignored("store", "nothing is stored"),
      R::ignored("service_tier", "there is one"),
      R::ignored("safety_identifier", "not used"),
      R::ignored("prompt_cache_key", "not used"),
      R::ignored("tool_prompt", "TGI's; tools are shown by the template"),
  };
}

Failure check_request(ChatRequest& request, const ChatLimits& limits) {
  if (static_cast<int64_t>(request.messages.size()) > limits.messages_max) {
    return invalid("messages", fmt::format("messages holds {} messages, at most {} are taken",
                                           request.messages.size(), limits.messages_max));
  }
  if (request.max_tokens && request.max_completion_tokens &&
      *request.max_tokens != *request.max_completion_tokens) {
    return invalid("max_tokens",
                   "max_tokens and max_completion_tokens are two names of one limit: give one");
  }
  if (request.max_completion_tokens) request.max_tokens = request.max_completion_tokens;
  if (request.top_logprobs.value_or(0) > 0 && !request.logprobs) {
    return invalid("top_logprobs", "top_logprobs needs logprobs to be true");
  }
  const bool assistant_last = request.messages.back().at("role") == "assistant";
  if (request.continue_final_message && !assistant_last) {
    return invalid("continue_final_message",
                   "continue_final_message needs a last message of the assistant's");
  }
  if (Failure failure = check_tool_choice(request)) return failure;
  return check_together(request, limits.generation);
}

}  // namespace

std::span<const Field<ChatRequest>> chat_fields() {
  static const std::vector<Row> kRows = rows();
  return kRows;
}

tl::expected<ChatRequest, Error> read_chat_request(const Json& body, const ChatLimits& limits) {
  ChatRequest request;
  Failure failure = read_fields(body, request, chat_fields(), generation_fields());
  if (!failure) failure = check_request(request, limits);
  if (failure) return tl::unexpected(std::move(*failure));
  return request;
}

tl::expected<ChatRequest, Error> parse_chat_request(std::string_view body,
                                                    const ChatLimits& limits) {
  auto json = parse_body(body);
  if (!json) return tl::unexpected(std::move(json.error()));
  return read_chat_request(*json, limits);
}

Failure find_unbuilt(const ChatRequest& request) {
  if (!request.response_format.is_null()) {
    return invalid("response_format",
                   "response_format asks for constrained output, which is not built yet; leave it "
                   "out or set it to {\"type\":\"text\"}");
  }
  if (!request.tools.is_null() && request.tool_choice != "none") {
    return invalid("tools",
                   "tools are not called yet; set tool_choice to \"none\" to show them to the "
                   "model without calls");
  }
  return {};
}

}  // namespace chorus::api
