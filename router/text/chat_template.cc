// The edge between JSON and the template engine (router/text/jinja): values in, marked text out,
// exceptions of the engine to errors.
#include "router/text/chat_template.h"

#include <fmt/format.h>

#include <limits>
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

Value to_value(const Json& json, bool outside, int depth) {
  if (depth > jinja::kDepthMax) jinja::fail("a variable is nested too deeply");
  const auto text = [&](const std::string& bytes) {
    return Value::string(outside ? jinja::foreign(bytes) : jinja::plain(bytes));
  };
  switch (json.type()) {
    case Json::value_t::boolean:
      return Value::boolean(json.get<bool>());
    case Json::value_t::number_unsigned:
      if (json.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
        jinja::fail("integers beyond 64 bits are not supported");
      }
      return Value::integer(json.get<int64_t>());
    case Json::value_t::number_integer:
      return Value::integer(json.get<int64_t>());
    case Json::value_t::number_float:
      return Value::real(json.get<double>());
    case Json::value_t::string:
      return text(json.get_ref<const std::string&>());
    case Json::value_t::array: {
      std::vector<Value> items;
      items.reserve(json.size());
      for (const Json& item : json) items.push_back(to_value(item, outside, depth + 1));
      return Value::list(std::move(items));
    }
    case Json::value_t::object: {
      auto dict = std::make_shared<jinja::Dict>();
      for (const auto& [key, item] : json.items()) {
        dict->set(text(key), to_value(item, outside, depth + 1));
      }
      return Value::dict(std::move(dict));
    }
    default:
      return Value::none();
  }
}

}  // namespace

struct ChatTemplate::Program {
  jinja::Program tree;
};

ChatTemplate::ChatTemplate(std::unique_ptr<Program> program) : program_(std::move(program)) {}
ChatTemplate::~ChatTemplate() = default;
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;

tl::expected<ChatTemplate, TemplateError> ChatTemplate::parse(std::string_view source) {
  try {
    return ChatTemplate(std::make_unique<Program>(Program{jinja::parse(source)}));
  } catch (const jinja::SyntaxError& error) {
    return tl::unexpected(TemplateError{.message = error.what(), .line = error.line});
  }
}

tl::expected<Prompt, TemplateError> ChatTemplate::render(const Json& variables, int64_t now) const {
  TemplateError error;
  try {
    std::unordered_map<const jinja::Object*, int> message_of;
    std::vector<std::pair<std::string, Value>> values;
    for (const auto& [name, json] : variables.items()) {
      const Value value = to_value(json, is_outside(name), 0);
      if (name == "messages" && value.is(jinja::Kind::list)) {
        int index = 0;
        for (const Value& message : value.items()) message_of.emplace(message.object(), index++);
      }
      values.emplace_back(name, value);
    }
    jinja::Engine engine(program_->tree, std::move(message_of));
    for (const auto& [name, value] : jinja::make_globals(now)) engine.define(name, value);
    for (const auto& [name, value] : values) engine.define(name, value);
    try {
      jinja::MarkedText text = engine.render();
      return Prompt{.text = std::move(text.bytes), .from_outside = std::move(text.outside)};
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

}  // namespace chorus::text
