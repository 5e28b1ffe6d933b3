#include "router/text/conversation.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "router/text/jinja/codepoints.h"

namespace chorus::text {
namespace {

constexpr std::array kReasoning = {"reasoning_content", "thinking", "reasoning"};
// Ends in a space, so that it can be seen whether the template trims.
constexpr std::string_view kTag = "CHORUS_GOES_ON_HERE ";

// Nothing where the message has no such field.
const Json* field_of(const Json& message, const char* name) {
  if (!message.is_object()) return nullptr;
  const auto found = message.find(name);
  return found == message.end() || found->is_null() ? nullptr : &*found;
}

std::string text_field(const Json& message, const char* name) {
  const Json* field = field_of(message, name);
  return field != nullptr && field->is_string() ? field->get<std::string>() : std::string();
}

tl::expected<std::string, std::string> part_text(const Json& part) {
  if (part.is_string()) return part.get<std::string>();
  for (const char* key : {"text", "refusal"}) {
    const Json* text = field_of(part, key);
    if (text != nullptr && text->is_string()) return text->get<std::string>();
  }
  return tl::unexpected(
      fmt::format("a content part of type \"{}\" cannot be shown: this model "
                  "reads text alone",
                  text_field(part, "type")));
}

// The error's text, empty where all went well.
std::string adapt_content(Json& message, const ContentShapes& shapes) {
  const auto content = message.find("content");
  if (content == message.end()) return {};
  if (content->is_array()) {
    std::string joined;
    for (const Json& part : *content) {
      auto text = part_text(part);
      if (!text) return std::move(text.error());
      joined += *text;
    }
    if (!shapes.parts) *content = std::move(joined);
  } else if (content->is_string() && !shapes.text) {
    Json part = {{"type", "text"}, {"text", std::move(*content)}};
    *content = Json::array({std::move(part)});
  }
  return {};
}

// From the text on the wire to an object, which is what most templates print; text that is no JSON
// object stays. No arguments at all are an empty object.
void adapt_arguments(Json& call, bool as_text) {
  if (!call.is_object()) return;
  const auto function = call.find("function");
  Json& holder = function != call.end() && function->is_object() ? *function : call;
  const auto arguments = holder.find("arguments");
  if (arguments == holder.end()) return;
  if (as_text) {
    if (arguments->is_object()) *arguments = arguments->dump();
    return;
  }
  if (!arguments->is_string()) return;
  const auto& text = arguments->get_ref<const std::string&>();
  Json parsed = jinja::strip_left(text, nullptr) == text.size()
                    ? Json::object()
                    : Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (parsed.is_object()) *arguments = std::move(parsed);
}

void adapt_calls(Json& message, const TemplateTraits& traits) {
  const auto calls = message.find("tool_calls");
  if (calls == message.end()) return;
  if (!calls->is_array() || calls->empty()) {
    message.erase("tool_calls");
    return;
  }
  for (Json& call : *calls) adapt_arguments(call, traits.argument_text);
  if (message.contains("content")) return;
  using NoContent = TemplateTraits::NoContent;
  if (traits.no_content == NoContent::null) message["content"] = nullptr;
  if (traits.no_content == NoContent::empty) message["content"] = "";
}

std::string adapt_message(Json& message, const TemplateTraits& traits) {
  if (text_field(message, "role") == "developer" && !traits.developer) message["role"] = "system";
  adapt_calls(message, traits);
  return adapt_content(message, traits.content_of(text_field(message, "role")));
}

TemplateError refused(std::string message, const Json& messages) {
  return {.message = std::move(message),
          .line = 0,
          .message_index = static_cast<int>(messages.size()) - 1};
}

std::string_view stripped(std::string_view text) {
  const size_t begin = jinja::strip_left(text, nullptr);
  return text.substr(begin, jinja::strip_right(text, begin, nullptr) - begin);
}

// The text block that is gone on with: the last one. Null where there is none.
std::string* last_text(Json& field) {
  if (field.is_string()) return field.get_ptr<std::string*>();
  if (!field.is_array()) return nullptr;
  for (size_t i = field.size(); i-- > 0;) {
    if (!field[i].is_object()) continue;
    const auto text = field[i].find("text");
    if (text != field[i].end() && text->is_string()) return text->get_ptr<std::string*>();
  }
  return nullptr;
}

}  // namespace

void drop_null_fields(Json& messages) {
  for (Json& message : messages) {
    if (!message.is_object()) continue;
    for (auto at = message.begin(); at != message.end();) {
      at = at->is_null() ? message.erase(at) : std::next(at);
    }
  }
}

void name_reasoning(Json& messages) {
  for (Json& message : messages) {
    const Json* found = nullptr;
    for (const char* name : kReasoning) {
      if (found == nullptr) found = field_of(message, name);
    }
    if (found == nullptr) continue;
    const Json reasoning = *found;
    if (!message.contains("thinking")) {
      Json named = {{"thinking", reasoning}};
      for (auto& [key, value] : message.items()) named[key] = std::move(value);
      message = std::move(named);
    }
    message["reasoning_content"] = reasoning;
  }
}

std::optional<TemplateError> adapt(Json& messages, const TemplateTraits& traits) {
  int index = 0;
  for (Json& message : messages) {
    std::string problem = adapt_message(message, traits);
    if (!problem.empty()) {
      return TemplateError{.message = std::move(problem), .line = 0, .message_index = index};
    }
    ++index;
  }
  return std::nullopt;
}

std::optional<TemplateError> left_out(const Json& messages, const Json& tools,
                                      const RenderedChat& chat, const TemplateTraits& traits) {
  const auto shown = [&](const Json& holder) {
    const Json* function = field_of(holder, "function");
    const std::string name = function == nullptr ? "" : text_field(*function, "name");
    return chat.prompt.text.find(name) != std::string::npos;
  };
  const auto error = [](std::string_view what, int index) {
    return TemplateError{
        .message = fmt::format("the model's chat template has no place for {}", what),
        .line = 0,
        .message_index = index};
  };
  if (tools.is_array() && !tools.empty() && !traits.tools && !shown(tools[0])) {
    return error("tools", -1);
  }
  for (size_t i = 0; i < messages.size(); ++i) {
    const auto index = static_cast<int>(i);
    const Json* calls = field_of(messages[i], "tool_calls");
    if (calls != nullptr && !traits.tool_calls && !shown(calls->front())) {
      return error("tool calls", index);
    }
    const bool result = text_field(messages[i], "role") == "tool";
    if (result && !traits.tool_results && chat.message_begins[i] < 0) {
      return error("the role \"tool\"", index);
    }
  }
  return std::nullopt;
}

tl::expected<Continuation, TemplateError> Continuation::begin(Json& messages,
                                                              const std::string& field,
                                                              const std::string& source) {
  const auto fail = [&](std::string message) {
    return tl::unexpected(refused(std::move(message), messages));
  };
  if (!messages.is_array() || messages.empty()) {
    return fail("continue_final_message is set, but there is no message");
  }
  Json& last = messages.back();
  if (field_of(last, field.c_str()) == nullptr) {
    return fail(
        fmt::format("continue_final_message is set, but the last message has no \"{}\"", field));
  }
  // Reasoning stands under several names: each copy is tagged, whichever the template reads.
  const Json wanted = last[field];
  std::vector<std::string> fields = {field};
  if (std::find(kReasoning.begin(), kReasoning.end(), field) != kReasoning.end()) {
    fields.clear();
    for (const char* name : kReasoning) {
      if (last.contains(name) && last[name] == wanted) fields.emplace_back(name);
    }
  }
  const bool read = std::any_of(fields.begin(), fields.end(), [&](const std::string& name) {
    return source.find(name) != std::string::npos;
  });
  if (!read) {
    return fail(
        fmt::format("continue_final_message is set, but the model's chat template does not "
                    "read \"{}\"",
                    field));
  }
  std::string before;
  for (const std::string& name : fields) {
    std::string* text = last_text(last[name]);
    if (text == nullptr) {
      return fail("continue_final_message is set, but the last message has no text to go on with");
    }
    before = *text;
    *text += kTag;
  }
  return Continuation(std::string(stripped(before)));
}

std::optional<TemplateError> Continuation::cut(RenderedChat& chat) const {
  std::string& text = chat.prompt.text;
  const size_t tag = text.rfind(stripped(kTag));
  if (tag == std::string::npos || text.find(last_text_) == std::string::npos) {
    return TemplateError{
        .message =
            "continue_final_message is set, but the model's chat template does not show the "
            "last message as it is",
        .line = 0,
        .message_index = static_cast<int>(chat.message_begins.size()) - 1};
  }
  const bool kept = std::string_view(text).substr(tag).starts_with(kTag);
  text.resize(tag);
  if (!kept) text.resize(jinja::strip_right(text, 0, nullptr));
  const auto end = static_cast<int64_t>(text.size());
  auto& ranges = chat.prompt.from_outside;
  while (!ranges.empty() && ranges.back().begin >= end) ranges.pop_back();
  if (!ranges.empty()) ranges.back().end = std::min(ranges.back().end, end);
  for (int64_t& begin : chat.message_begins) {
    if (begin >= end) begin = -1;
  }
  return std::nullopt;
}

}  // namespace chorus::text
