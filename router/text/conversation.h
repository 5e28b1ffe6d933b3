// Messages on their way from a client to a template: what transformers does to every conversation,
// and what a model's template needs beyond that (router/text/template_traits.h).
#pragma once

#include <optional>
#include <string>

#include "router/text/chat_template.h"
#include "router/text/template_traits.h"

namespace chorus::text {

// Keys whose value is null are dropped: clients send "content": null, and templates test whether
// a key is there.
void drop_null_fields(Json& messages);

// Reasoning has three names; templates find it under "reasoning_content" and "thinking", whichever
// the client took.
void name_reasoning(Json& messages);

// Content as parts or as text, roles, tool calls: as the template can read them. The error names a
// part that is no text.
std::optional<TemplateError> adapt(Json& messages, const TemplateTraits& traits);

// What a template without a place for tools, calls or results has left out of its text: it must not
// be lost in silence.
std::optional<TemplateError> left_out(const Json& messages, const Json& tools,
                                      const RenderedChat& chat, const TemplateTraits& traits);

// The last message is to be gone on with, not closed: a tag at its end, behind which the rendered
// text is cut off.
class Continuation {
 public:
  // Appends the tag to `field` of the last message. `source` is the template's.
  static tl::expected<Continuation, TemplateError> begin(Json& messages, const std::string& field,
                                                         const std::string& source);
  std::optional<TemplateError> cut(RenderedChat& chat) const;

 private:
  explicit Continuation(std::string last_text) : last_text_(std::move(last_text)) {}
  std::string last_text_;
};

}  // namespace chorus::text
