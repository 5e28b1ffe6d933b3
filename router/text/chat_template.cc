// The edge between JSON and the template engine (router/text/jinja): values in, marked text out,
// exceptions of the engine to errors.
#include "router/text/chat_template.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <unordered_map>

#include "router/text/jinja/evaluator.h"
#include "router/text/jinja/lexer.h"
#include "router/text/jinja/parser.h"

namespace chorus::text {
namespace {

using jinja::Value;

// What a client sends, unlike bos_token and the like, which come with the model.
bool is_outside(std::string_view variable) {
  return variable == "messages" || variable == "tools" || variable == "documents";
}

bool is_known_role(std::string_view role) {
  constexpr std::array<std::string_view, 6> kRoles = {"system",    "developer", "user",
                                                      "assistant", "tool",      "function"};
  return std::find(kRoles.begin(), kRoles.end(), role) != kRoles.end();
}

Value to_value(const Json& json, jinja::Origin origin, int depth) {
  if (depth > jinja::kDepthMax) jinja::fail("a variable is nested too deeply");
  switch (json.type()) {
    case Json::value_t::boolean:
      return Value::boolean(json.get<bool>());
    case Json::value_t::number_unsigned:
      return Value::wide(json.get<uint64_t>());
    case Json::value_t::number_integer:
      return Value::integer(json.get<int64_t>());
    case Json::value_t::number_float:
      return Value::real(json.get<double>());
    case Json::value_t::string:
      return Value::string(jinja::marked(json.get_ref<const std::string&>(), origin));
    case Json::value_t::array: {
      std::vector<Value> items;
      items.reserve(json.size());
      for (const Json& item : json) items.push_back(to_value(item, origin, depth + 1));
      return Value::list(std::move(items));
    }
    case Json::value_t::object: {
      auto dict = std::make_shared<jinja::Dict>();
      for (const auto& [key, item] : json.items()) {
        dict->set(Value::string(jinja::marked(key, origin)), to_value(item, origin, depth + 1));
      }
      return Value::dict(std::move(dict));
    }
    default:
      return Value::none();
  }
}

Value message_value(const Json& message, jinja::Origin origin) {
  if (!message.is_object()) return to_value(message, origin, 1);
  auto dict = std::make_shared<jinja::Dict>();
  for (const auto& [key, item] : message.items()) {
    const bool trusted =
        key == "role" && item.is_string() && is_known_role(item.get_ref<const std::string&>());
    dict->set(Value::string(jinja::marked(key, origin)),
              to_value(item, trusted ? jinja::kOwn : origin, 2));
  }
  return Value::dict(std::move(dict));
}

Value messages_value(const Json& messages) {
  if (!messages.is_array()) return to_value(messages, jinja::kOutside, 0);
  std::vector<Value> items;
  items.reserve(messages.size());
  for (size_t i = 0; i < messages.size(); ++i) {
    items.push_back(message_value(messages[i], jinja::origin_of_message(static_cast<int>(i))));
  }
  return Value::list(std::move(items));
}

Value variable_value(const Variable& variable) {
  if (variable.outside && variable.name == "messages") return messages_value(*variable.value);
  return to_value(*variable.value, variable.outside ? jinja::kOutside : jinja::kOwn, 0);
}

RenderedChat finished(jinja::MarkedText text, size_t messages) {
  RenderedChat chat;
  chat.message_begins.assign(messages, -1);
  std::vector<ByteRange>& ranges = chat.prompt.from_outside;
  for (const jinja::Mark& mark : text.outside) {
    if (mark.origin > 0) {
      int64_t& begin = chat.message_begins[static_cast<size_t>(mark.origin - 1)];
      if (begin < 0) begin = mark.begin;
    }
    if (!ranges.empty() && ranges.back().end == mark.begin) {
      ranges.back().end = mark.end;
    } else {
      ranges.push_back({mark.begin, mark.end});
    }
  }
  chat.prompt.text = std::move(text.bytes);
  return chat;
}

}  // namespace

struct ChatTemplate::Program {
  jinja::Program tree;
  std::string source;
};

ChatTemplate::ChatTemplate(std::unique_ptr<Program> program) : program_(std::move(program)) {}
ChatTemplate::~ChatTemplate() = default;
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;

tl::expected<ChatTemplate, TemplateError> ChatTemplate::parse(std::string_view source) {
  try {
    return ChatTemplate(
        std::make_unique<Program>(Program{jinja::parse(source), std::string(source)}));
  } catch (const jinja::SyntaxError& error) {
    return tl::unexpected(TemplateError{.message = error.what(), .line = error.line});
  }
}

const std::string& ChatTemplate::source() const {
  return program_->source;
}

tl::expected<RenderedChat, TemplateError> ChatTemplate::render(std::span<const Variable> variables,
                                                               int64_t now) const {
  TemplateError error;
  try {
    std::unordered_map<const jinja::Object*, int> message_of;
    std::vector<Value> values;
    values.reserve(variables.size());
    for (const Variable& variable : variables) {
      values.push_back(variable_value(variable));
      if (variable.name != "messages" || !values.back().is(jinja::Kind::list)) continue;
      message_of.clear();
      for (const Value& message : values.back().items()) {
        message_of.emplace(message.object(), static_cast<int>(message_of.size()));
      }
    }
    const size_t messages = message_of.size();
    jinja::Engine engine(program_->tree, std::move(message_of));
    for (const auto& [name, value] : jinja::make_globals(now)) engine.define(name, value);
    for (size_t i = 0; i < values.size(); ++i) engine.define(variables[i].name, values[i]);
    try {
      return finished(engine.render(), messages);
    } catch (const jinja::Failure&) {
      error.line = engine.line();
      error.message_index = engine.message_index();
      throw;
    }
  } catch (const jinja::Failure& failure) {
    error.message = failure.what();
  }
  return tl::unexpected(error);
}

tl::expected<Prompt, TemplateError> ChatTemplate::render(const Json& variables, int64_t now) const {
  std::vector<Variable> list;
  for (const auto& [name, value] : variables.items()) {
    list.push_back({.name = name, .value = &value, .outside = is_outside(name)});
  }
  auto chat = render(list, now);
  if (!chat) return tl::unexpected(std::move(chat.error()));
  return std::move(chat->prompt);
}

}  // namespace chorus::text
