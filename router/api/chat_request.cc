// One row per field: its name, what may stand there, and what is done with it. A field that the
// API knows but Chorus does not do yet is refused by name, unless it says what would happen
// anyway; silently ignoring `tools` or `n` would give answers to another question. Fields nobody
// knows are ignored, as OpenAI's clients expect; null is the same as absent.
#include "router/api/chat_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

namespace chorus::api {
namespace {

enum class Kind : uint8_t { boolean, integer, number, string, array, object, any };
enum class Use : uint8_t {
  used,
  refused,  // not built yet: only the values in `neutral` are let in
  ignored,  // changes nothing in the answer
};

using Failure = std::optional<Error>;

struct Parse {
  ChatRequest request;
  const ChatLimits& limits;
  std::optional<int64_t> max_completion_tokens;
  std::optional<int64_t> top_logprobs;
};

struct Range {  // inclusive
  double min, max;
};

struct Field {
  std::string_view name;
  Kind kind;
  Use use = Use::used;
  std::optional<Range> range = {};
  Failure (*read)(Parse&, const Json&) = nullptr;
  std::string_view neutral = {};  // a JSON array
};

Error invalid(std::string_view param, std::string message) {
  return {.kind = ErrorKind::invalid_request,
          .message = std::move(message),
          .param = std::string(param)};
}

std::string_view type_name(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null:
      return "null";
    case Json::value_t::object:
      return "an object";
    case Json::value_t::array:
      return "an array";
    case Json::value_t::string:
      return "a string";
    case Json::value_t::boolean:
      return "a boolean";
    case Json::value_t::number_integer:
    case Json::value_t::number_unsigned:
      return "an integer";
    case Json::value_t::number_float:
      return "a number";
    case Json::value_t::binary:
    case Json::value_t::discarded:
      break;
  }
  return "nothing that JSON has";
}

std::string_view kind_name(Kind kind) {
  switch (kind) {
    case Kind::boolean:
      return "a boolean";
    case Kind::integer:
      return "an integer";
    case Kind::number:
      return "a number";
    case Kind::string:
      return "a string";
    case Kind::array:
      return "an array";
    case Kind::object:
      return "an object";
    case Kind::any:
      return "anything";
  }
  return "";
}

// JSON has one kind of number: 10.0 is an integer too.
bool is_integer(const Json& value) {
  if (value.is_number_integer()) return true;
  if (!value.is_number_float()) return false;
  const double number = value.get<double>();
  return std::trunc(number) == number && std::abs(number) <= 9007199254740992.0;
}

bool is_of(Kind kind, const Json& value) {
  switch (kind) {
    case Kind::boolean:
      return value.is_boolean();
    case Kind::integer:
      return is_integer(value);
    case Kind::number:
      return value.is_number();
    case Kind::string:
      return value.is_string();
    case Kind::array:
      return value.is_array();
    case Kind::object:
      return value.is_object();
    case Kind::any:
      return true;
  }
  return false;
}

// ---- messages ----

constexpr std::array<std::string_view, 5> kRoles = {"system", "developer", "user", "assistant",
                                                    "tool"};

tl::expected<std::string, Error> read_parts(const Json& parts, const std::string& path) {
  std::string content;
  for (size_t i = 0; i < parts.size(); ++i) {
    const Json& part = parts[i];
    const std::string at = fmt::format("{}[{}]", path, i);
    if (!part.is_object()) {
      return tl::unexpected(
          invalid(at, fmt::format("{} must be an object, it is {}", at, type_name(part))));
    }
    const auto type = part.find("type");
    if (type == part.end() || !type->is_string()) {
      return tl::unexpected(invalid(at + ".type", at + ".type must be a string"));
    }
    if (*type != "text") {
      const std::string name = type->get<std::string>().substr(0, 40);
      return tl::unexpected(
          invalid(at + ".type", fmt::format("content parts of type '{}' are not supported yet, "
                                            "only 'text'",
                                            name)));
    }
    const auto text = part.find("text");
    if (text == part.end() || !text->is_string()) {
      return tl::unexpected(invalid(at + ".text", at + ".text must be a string"));
    }
    content += text->get_ref<const std::string&>();
  }
  return content;
}

// The role as templates know it: they were written before "developer" took the place of "system".
std::string template_role(const std::string& role) {
  return role == "developer" ? "system" : role;
}

// Optional strings of a message that templates may use.
Failure copy_text(const Json& message, const char* key, const std::string& path, Json& out) {
  const auto value = message.find(key);
  if (value == message.end() || value->is_null()) return {};
  if (!value->is_string()) {
    return invalid(path + "." + key, fmt::format("{}.{} must be a string", path, key));
  }
  out[key] = *value;
  return {};
}

Failure refuse_calls(const Json& message, const std::string& path) {
  for (const char* key : {"tool_calls", "function_call", "audio"}) {
    const auto value = message.find(key);
    if (value == message.end() || value->is_null()) continue;
    if (value->is_array() && value->empty()) continue;
    return invalid(path + "." + key, fmt::format("{}.{} is not supported yet", path, key));
  }
  return {};
}

tl::expected<std::string, Error> read_content(const Json& message, const std::string& path) {
  const std::string at = path + ".content";
  const auto content = message.find("content");
  if (content == message.end() || content->is_null()) {
    return tl::unexpected(invalid(at, at + " is required: a string or an array of text parts"));
  }
  if (content->is_string()) return content->get<std::string>();
  if (content->is_array()) return read_parts(*content, at);
  return tl::unexpected(invalid(
      at, fmt::format("{} must be a string or an array, it is {}", at, type_name(*content))));
}

tl::expected<Json, Error> read_message(const Json& message, const std::string& path) {
  if (!message.is_object()) {
    return tl::unexpected(
        invalid(path, fmt::format("{} must be an object, it is {}", path, type_name(message))));
  }
  const auto role = message.find("role");
  if (role == message.end() || !role->is_string() ||
      std::find(kRoles.begin(), kRoles.end(), role->get_ref<const std::string&>()) ==
          kRoles.end()) {
    return tl::unexpected(
        invalid(path + ".role", path + ".role must be system, developer, user, assistant or tool"));
  }
  if (Failure failure = refuse_calls(message, path)) return tl::unexpected(std::move(*failure));
  auto content = read_content(message, path);
  if (!content) return tl::unexpected(std::move(content.error()));
  Json out = Json::object();
  out["role"] = template_role(role->get<std::string>());
  out["content"] = std::move(*content);
  for (const char* key : {"name", "tool_call_id"}) {
    if (Failure failure = copy_text(message, key, path, out)) {
      return tl::unexpected(std::move(*failure));
    }
  }
  return out;
}

Failure read_messages(Parse& parse, const Json& value) {
  if (value.empty()) return invalid("messages", "messages must hold at least one message");
  if (static_cast<int64_t>(value.size()) > parse.limits.messages_max) {
    return invalid("messages", fmt::format("messages holds {} messages, at most {} are taken",
                                           value.size(), parse.limits.messages_max));
  }
  for (size_t i = 0; i < value.size(); ++i) {
    auto message = read_message(value[i], fmt::format("messages[{}]", i));
    if (!message) return std::move(message.error());
    parse.request.messages.push_back(std::move(*message));
  }
  return {};
}

// ---- other fields with a shape of their own ----

Failure read_stop(Parse& parse, const Json& value) {
  const auto one = [&](const Json& stop, const std::string& path) -> Failure {
    if (!stop.is_string()) {
      return invalid(path, fmt::format("{} must be a string, it is {}", path, type_name(stop)));
    }
    if (stop.get_ref<const std::string&>().empty()) {
      return invalid(path, path + " must not be empty");
    }
    parse.request.stop.push_back(stop.get<std::string>());
    return {};
  };
  if (value.is_string()) return one(value, "stop");
  if (!value.is_array()) {
    return invalid("stop", fmt::format("stop must be a string or an array of strings, it is {}",
                                       type_name(value)));
  }
  if (static_cast<int64_t>(value.size()) > parse.limits.stop_sequences_max) {
    return invalid("stop", fmt::format("stop holds {} strings, at most {} are taken", value.size(),
                                       parse.limits.stop_sequences_max));
  }
  for (size_t i = 0; i < value.size(); ++i) {
    if (Failure failure = one(value[i], fmt::format("stop[{}]", i))) return failure;
  }
  return {};
}

Failure read_stream_options(Parse& parse, const Json& value) {
  const auto usage = value.find("include_usage");
  if (usage == value.end() || usage->is_null()) return {};
  if (!usage->is_boolean()) {
    return invalid("stream_options.include_usage",
                   "stream_options.include_usage must be a boolean");
  }
  parse.request.include_usage = usage->get<bool>();
  return {};
}

template <auto Member>
Failure read_number(Parse& parse, const Json& value) {
  parse.request.*Member = value.get<double>();
  return {};
}

template <auto Member>
Failure read_integer(Parse& parse, const Json& value) {
  parse.request.*Member = value.get<int64_t>();
  return {};
}

template <auto Member>
Failure read_flag(Parse& parse, const Json& value) {
  parse.request.*Member = value.get<bool>();
  return {};
}

Failure read_model(Parse& parse, const Json& value) {
  parse.request.model = value.get<std::string>();
  return {};
}

Failure read_top_p(Parse& parse, const Json& value) {
  if (value.get<double>() <= 0) return invalid("top_p", "top_p must be above 0 and at most 1");
  return read_number<&ChatRequest::top_p>(parse, value);
}

Failure read_top_k(Parse& parse, const Json& value) {
  parse.request.top_k = std::max<int64_t>(0, value.get<int64_t>());  // -1: off, as 0
  return {};
}

Failure read_max_completion_tokens(Parse& parse, const Json& value) {
  parse.max_completion_tokens = value.get<int64_t>();
  return {};
}

Failure read_top_logprobs(Parse& parse, const Json& value) {
  parse.top_logprobs = value.get<int64_t>();
  return {};
}

constexpr double kTokensMax = 1e9;

const std::array kFields = {
    Field{"model", Kind::string, Use::used, {}, read_model},
    Field{"messages", Kind::array, Use::used, {}, read_messages},
    Field{"temperature", Kind::number, Use::used, Range{0, 2},
          read_number<&ChatRequest::temperature>},
    Field{"top_p", Kind::number, Use::used, Range{0, 1}, read_top_p},
    Field{"top_k", Kind::integer, Use::used, Range{-1, kTokensMax}, read_top_k},
    Field{"max_tokens", Kind::integer, Use::used, Range{1, kTokensMax},
          read_integer<&ChatRequest::max_tokens>},
    Field{"max_completion_tokens", Kind::integer, Use::used, Range{1, kTokensMax},
          read_max_completion_tokens},
    Field{"stop", Kind::any, Use::used, {}, read_stop},
    Field{"seed", Kind::integer, Use::used, {}, read_integer<&ChatRequest::seed>},
    Field{"logprobs", Kind::boolean, Use::used, {}, read_flag<&ChatRequest::logprobs>},
    Field{"top_logprobs", Kind::integer, Use::used, Range{0, 20}, read_top_logprobs},
    Field{"stream", Kind::boolean, Use::used, {}, read_flag<&ChatRequest::stream>},
    Field{"stream_options", Kind::object, Use::used, {}, read_stream_options},

    Field{"n", Kind::integer, Use::refused, Range{1, 128}, nullptr, "[1]"},
    Field{"tools", Kind::array, Use::refused, {}, nullptr, "[[]]"},
    Field{"tool_choice", Kind::any, Use::refused, {}, nullptr, R"(["none", "auto"])"},
    Field{"functions", Kind::array, Use::refused, {}, nullptr, "[[]]"},
    Field{"function_call", Kind::any, Use::refused, {}, nullptr, R"(["none", "auto"])"},
    Field{"response_format", Kind::object, Use::refused, {}, nullptr, R"([{"type": "text"}])"},
    Field{"logit_bias", Kind::object, Use::refused, {}, nullptr, "[{}]"},
    Field{"presence_penalty", Kind::number, Use::refused, Range{-2, 2}, nullptr, "[0]"},
    Field{"frequency_penalty", Kind::number, Use::refused, Range{-2, 2}, nullptr, "[0]"},
    Field{"modalities", Kind::array, Use::refused, {}, nullptr, R"([["text"]])"},
    Field{"audio", Kind::object, Use::refused, {}, nullptr, "[]"},
    Field{"prediction", Kind::object, Use::refused, {}, nullptr, "[]"},
    Field{"web_search_options", Kind::object, Use::refused, {}, nullptr, "[]"},
    Field{"reasoning_effort", Kind::string, Use::refused, {}, nullptr, R"(["none"])"},
    Field{"verbosity", Kind::string, Use::refused, {}, nullptr, R"(["medium"])"},

    Field{"user", Kind::any, Use::ignored},
    Field{"metadata", Kind::any, Use::ignored},
    Field{"store", Kind::any, Use::ignored},
    Field{"service_tier", Kind::any, Use::ignored},
    Field{"safety_identifier", Kind::any, Use::ignored},
    Field{"prompt_cache_key", Kind::any, Use::ignored},
    Field{"parallel_tool_calls", Kind::any, Use::ignored},  // without tools there are no calls
};

Failure check_shape(const Field& field, const Json& value) {
  if (!is_of(field.kind, value)) {
    return invalid(field.name, fmt::format("{} must be {}, it is {}", field.name,
                                           kind_name(field.kind), type_name(value)));
  }
  if (!field.range) return {};
  const double number = value.get<double>();
  if (!(number >= field.range->min && number <= field.range->max)) {
    return invalid(field.name, fmt::format("{} must be between {} and {}", field.name,
                                           field.range->min, field.range->max));
  }
  return {};
}

Failure read_field(Parse& parse, const Field& field, const Json& value) {
  if (field.use == Use::ignored) return {};
  if (Failure failure = check_shape(field, value)) return failure;
  if (field.use == Use::used) return field.read(parse, value);
  const Json neutral = Json::parse(field.neutral);
  for (const Json& harmless : neutral) {
    if (value == harmless) return {};
  }
  std::string message = fmt::format("{} is not supported yet", field.name);
  if (!neutral.empty()) message += fmt::format("; leave it out or set it to {}", neutral[0].dump());
  return invalid(field.name, std::move(message));
}

// What fields say about each other.
Failure check_together(Parse& parse) {
  ChatRequest& request = parse.request;
  if (request.max_tokens && parse.max_completion_tokens &&
      *request.max_tokens != *parse.max_completion_tokens) {
    return invalid("max_tokens",
                   "max_tokens and max_completion_tokens are two names of one limit: give one");
  }
  if (parse.max_completion_tokens) request.max_tokens = parse.max_completion_tokens;
  if (parse.top_logprobs) {
    if (!request.logprobs && *parse.top_logprobs > 0) {
      return invalid("top_logprobs", "top_logprobs needs logprobs to be true");
    }
    request.top_logprobs = static_cast<int>(*parse.top_logprobs);
  }
  return {};
}

}  // namespace

tl::expected<ChatRequest, Error> parse_chat_request(std::string_view body,
                                                    const ChatLimits& limits) {
  auto json = parse_json(body);
  if (!json) return tl::unexpected(invalid("", std::move(json.error())));
  if (!json->is_object()) {
    return tl::unexpected(
        invalid("", fmt::format("the body must be a JSON object, it is {}", type_name(*json))));
  }
  if (auto messages = json->find("messages"); messages == json->end() || messages->is_null()) {
    return tl::unexpected(invalid("messages", "messages is required"));
  }
  Parse parse{.request = {}, .limits = limits, .max_completion_tokens = {}, .top_logprobs = {}};
  for (const Field& field : kFields) {
    const auto value = json->find(std::string(field.name));
    if (value == json->end() || value->is_null()) continue;
    if (Failure failure = read_field(parse, field, *value)) {
      return tl::unexpected(std::move(*failure));
    }
  }
  if (Failure failure = check_together(parse)) return tl::unexpected(std::move(*failure));
  return std::move(parse.request);
}

}  // namespace chorus::api
