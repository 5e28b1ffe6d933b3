// A model's chat template: messages in, prompt text out, as transformers renders it
// (ImmutableSandboxedEnvironment with trim_blocks, lstrip_blocks and loop controls).
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <tl/expected.hpp>

#include "router/text/prompt.h"

namespace chorus::text {

// Keeps the order of keys: tools are printed into prompts as the client sent them.
using Json = nlohmann::ordered_json;

struct TemplateError {
  std::string message;     // for raise_exception: its text
  int line = 0;            // in the template, from 1; 0 where unknown
  int message_index = -1;  // the message that was being rendered, where known
};

class ChatTemplate {
 public:
  // Parses once; immutable afterwards, any thread may render.
  static tl::expected<ChatTemplate, TemplateError> parse(std::string_view source);
  ~ChatTemplate();
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;

  // `variables`: an object holding messages, tools, documents, add_generation_prompt, bos_token,
  // eos_token and whatever the request adds. Every string that comes out of `messages`, `tools` or
  // `documents` is marked in Prompt::from_outside. `now`: for strftime_now, seconds since 1970 UTC.
  // Limited in steps, depth and output, so that no template can run away.
  tl::expected<Prompt, TemplateError> render(const Json& variables, int64_t now) const;

 private:
  struct Program;
  explicit ChatTemplate(std::unique_ptr<Program> program);
  std::unique_ptr<Program> program_;
};

}  // namespace chorus::text
