// What a template can read, found out once by rendering short conversations and looking for what
// was in them: models' templates differ in this, and a part of a request that a template passes
// over in silence would be lost.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "router/text/chat_template.h"

namespace chorus::text {

struct ContentShapes {
  bool text = true;    // "content": "text"
  bool parts = false;  // "content": [{"type": "text", "text": "text"}]
};

struct TemplateTraits {
  static constexpr std::array<std::string_view, 4> kRoles = {"system", "user", "assistant", "tool"};
  std::array<ContentShapes, 4> content = {};  // by the role's place in kRoles
  bool developer = false;                     // the template has a place for this role
  bool tools = false;
  bool tool_calls = false;
  bool tool_results = false;
  bool argument_text = false;  // wants a call's arguments as JSON text, not as an object
  // What a message of calls alone has to have for content.
  enum class NoContent : uint8_t { absent, null, empty };
  NoContent no_content = NoContent::absent;

  const ContentShapes& content_of(std::string_view role) const;  // of others: the user's
};

// `fixed`: the variables that every rendering gets (bos_token, ...).
TemplateTraits find_traits(const ChatTemplate& chat_template, std::span<const Variable> fixed);

}  // namespace chorus::text
