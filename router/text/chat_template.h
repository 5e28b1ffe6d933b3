// A model's chat template: messages in, prompt text out, as transformers renders it
// (ImmutableSandboxedEnvironment with trim_blocks, lstrip_blocks and loop controls).
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <vector>

#include "router/text/prompt.h"

namespace chorus::text {

// Keeps the order of keys: tools are printed into prompts as the client sent them.
using Json = nlohmann::ordered_json;

struct TemplateError {
  std::string message;     // for raise_exception: its text
  int line = 0;            // in the template, from 1; 0 where unknown
  int message_index = -1;  // the message that was being rendered, where known
};

struct Variable {
  std::string name;
  const Json* value;
  bool outside;  // its texts come from a client, none of them may become a control token
};

struct RenderedChat {
  Prompt prompt;
  // For each message where in prompt.text its first own byte stands; -1 where nothing of it is
  // shown.
  std::vector<int64_t> message_begins;
};

class ChatTemplate {
 public:
  // Parses once; immutable afterwards, any thread may render.
  static tl::expected<ChatTemplate, TemplateError> parse(std::string_view source);
  ~ChatTemplate();
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;

  // Of two variables with one name the later counts. `now`: for strftime_now, seconds since 1970
  // UTC. The role of a message is one of a few words that were checked, and templates make control
  // tokens of it ("<|" + role + "|>"): it counts as the template's own. Limited in steps, depth and
  // output, so that no template can run away.
  tl::expected<RenderedChat, TemplateError> render(std::span<const Variable> variables,
                                                   int64_t now) const;

  // `variables`: an object; messages, tools and documents in it are from outside.
  tl::expected<Prompt, TemplateError> render(const Json& variables, int64_t now) const;

  const std::string& source() const;

 private:
  struct Program;
  explicit ChatTemplate(std::unique_ptr<Program> program);
  std::unique_ptr<Program> program_;
};

}  // namespace chorus::text
