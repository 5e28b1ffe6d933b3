#include "router/text/chat_format.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "router/text/conversation.h"

namespace chorus::text {
namespace {

const Json kNull;
const Json kTrue = true;
const Json kFalse = false;

TemplateError refused(std::string message) {
  return {.message = std::move(message)};
}

bool given(const Json& list) {
  return list.is_array() && !list.empty();
}

std::optional<TemplateError> check(const ChatInput& input) {
  if (input.continue_final_message && input.add_generation_prompt) {
    return refused(
        "continue_final_message and add_generation_prompt exclude each other: the last message is "
        "either gone on with or answered");
  }
  if (input.kwargs.contains("messages")) {
    return refused("chat_template_kwargs must not hold \"messages\"");
  }
  return std::nullopt;
}

}  // namespace

tl::expected<ChatFormat, TemplateError> ChatFormat::make(const modelfile::ChatTemplates& templates,
                                                         const std::string& bos,
                                                         const std::string& eos) {
  ChatFormat format;
  for (const auto& [name, text] : templates.special_tokens) {
    format.special_tokens_.emplace_back(name, text);
  }
  const auto stand_in = [&](const char* name, const std::string& text) {
    auto& tokens = format.special_tokens_;
    const bool known = std::any_of(tokens.begin(), tokens.end(),
                                   [&](const auto& token) { return token.first == name; });
    if (!known && !text.empty()) tokens.emplace_back(name, text);
  };
  stand_in("bos_token", bos);
  stand_in("eos_token", eos);
  const std::vector<Variable> fixed = format.fixed_variables();
  for (const modelfile::ChatTemplateSource& source : templates.sources) {
    auto parsed = ChatTemplate::parse(source.text);
    if (!parsed) {
      TemplateError error = std::move(parsed.error());
      error.message = fmt::format("{}, line {}: the chat template does not parse: {}", source.file,
                                  error.line, error.message);
      return tl::unexpected(std::move(error));
    }
    const TemplateTraits traits = find_traits(*parsed, fixed);
    format.templates_.push_back({source.name, std::move(*parsed), traits});
  }
  return format;
}

std::vector<Variable> ChatFormat::fixed_variables() const {
  std::vector<Variable> fixed;
  for (const auto& [name, text] : special_tokens_) {
    fixed.push_back({.name = name, .value = &text, .outside = false});
  }
  return fixed;
}

const ChatFormat::Named* ChatFormat::find(std::string_view name) const {
  const auto found = std::find_if(templates_.begin(), templates_.end(),
                                  [&](const Named& each) { return each.name == name; });
  return found == templates_.end() ? nullptr : &*found;
}

ChatFormat::Choice ChatFormat::choose(const std::string& name, bool with_tools) const {
  const Named* found = find(name);
  if (name.empty()) {
    if (with_tools) found = find("tool_use");
    if (found == nullptr) found = find("default");
  }
  if (found != nullptr) return found;
  std::string names;
  for (const Named& each : templates_) names += (names.empty() ? "" : ", ") + each.name;
  return tl::unexpected(
      refused(fmt::format("the model brings no chat template named \"{}\"; it brings: {}",
                          name.empty() ? "default" : name, names.empty() ? "none" : names)));
}

const TemplateTraits* ChatFormat::traits(bool with_tools) const {
  const Choice chosen = choose("", with_tools);
  return chosen ? &(*chosen)->traits : nullptr;
}

tl::expected<RenderedChat, TemplateError> ChatFormat::render(const ChatInput& input) const {
  const Choice chosen = choose(input.template_name, given(input.tools));
  if (!chosen) return tl::unexpected(chosen.error());
  const auto& [name, chat_template, traits] = **chosen;
  if (auto error = check(input)) return tl::unexpected(std::move(*error));

  Json messages = input.messages;
  drop_null_fields(messages);
  name_reasoning(messages);
  if (auto error = adapt(messages, traits)) return tl::unexpected(std::move(*error));
  std::optional<Continuation> continuation;
  if (input.continue_final_message) {
    auto begun = Continuation::begin(messages, "content", chat_template.source());
    if (!begun) return tl::unexpected(std::move(begun.error()));
    continuation.emplace(std::move(*begun));
  }

  std::vector<Variable> variables = fixed_variables();
  variables.push_back({.name = "messages", .value = &messages, .outside = true});
  variables.push_back(
      {.name = "tools", .value = given(input.tools) ? &input.tools : &kNull, .outside = true});
  variables.push_back({.name = "documents", .value = &input.documents, .outside = true});
  variables.push_back({.name = "add_generation_prompt",
                       .value = input.add_generation_prompt ? &kTrue : &kFalse,
                       .outside = false});
  if (input.kwargs.is_object()) {
    for (const auto& [key, value] : input.kwargs.items()) {
      variables.push_back({.name = key, .value = &value, .outside = true});
    }
  }
  auto chat = chat_template.render(variables, input.now);
  if (!chat) return chat;
  if (continuation) {
    if (auto error = continuation->cut(*chat)) return tl::unexpected(std::move(*error));
  }
  if (auto error = left_out(messages, input.tools, *chat, traits)) {
    return tl::unexpected(std::move(*error));
  }
  return chat;
}

}  // namespace chorus::text
