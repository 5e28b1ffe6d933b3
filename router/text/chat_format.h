// A model's way to write a conversation: its chat templates, which of them a request takes, and
// what has to be done to a client's messages before a template sees them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "modelfile/chat_templates.h"
#include "router/text/chat_template.h"
#include "router/text/template_traits.h"

namespace chorus::text {

struct ChatInput {
  Json messages;   // OpenAI's messages as the client sent them, checked
  Json tools;      // an array of {"type": "function", "function": {...}}, or null
  Json documents;  // an array, or null
  bool add_generation_prompt = true;
  bool continue_final_message = false;  // not together with add_generation_prompt
  Json kwargs = Json::object();         // chat_template_kwargs: further variables
  int64_t now = 0;                      // for strftime_now, seconds since 1970 UTC
  std::string template_name = {};  // empty: "tool_use" for tools where there is one, or "default"
};

class ChatFormat {
 public:
  // Parses every template and finds out what it can read. `bos` and `eos` stand in where the
  // templates' files name no bos_token and eos_token; empty ones stay undefined, as in
  // transformers. The error's message names the template's file and line.
  static tl::expected<ChatFormat, TemplateError> make(const modelfile::ChatTemplates& templates,
                                                      const std::string& bos,
                                                      const std::string& eos);

  // Any thread. What the template cannot show (tools, calls, a role, images) is an error, never
  // left out in silence. Every text that the client sent is marked in Prompt::from_outside.
  tl::expected<RenderedChat, TemplateError> render(const ChatInput& input) const;

  // What the template that such a request takes can read; nullptr where there is none.
  const TemplateTraits* traits(bool with_tools) const;

 private:
  struct Named {
    std::string name;
    ChatTemplate chat_template;
    TemplateTraits traits;
  };
  using Choice = tl::expected<const Named*, TemplateError>;
  ChatFormat() = default;
  Choice choose(const std::string& name, bool with_tools) const;
  const Named* find(std::string_view name) const;
  std::vector<Variable> fixed_variables() const;

  std::vector<Named> templates_;
  std::vector<std::pair<std::string, Json>> special_tokens_;
};

}  // namespace chorus::text
