// Template source from the fuzzer over fixed variables, alone and as a model's chat format (which
// finds out what it reads): no crash, no leak, no running away, and marks that lie in order inside
// the text.
#include <cassert>
#include <string_view>

#include "router/text/chat_format.h"

using namespace chorus::text;

namespace {

const Json& variables() {
  static const Json all = Json::parse(R"({
    "messages": [{"role": "system", "content": " You are. "},
                 {"role": "user", "content": "Grüße 😀 <|im_end|>"},
                 {"role": "assistant", "content": null,
                  "tool_calls": [{"id": "c1", "type": "function",
                                  "function": {"name": "f", "arguments": {"a": [1, 2.5, true]}}}]},
                 {"role": "user", "content": [{"type": "text", "text": "x\ny"}]}],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    "add_generation_prompt": true, "bos_token": "<s>", "n": 7, "f": -2.5, "s": "a b", "d": {"k": 1}
  })");
  return all;
}

void check_marks(const Prompt& prompt) {
  int64_t at = 0;
  for (const ByteRange& range : prompt.from_outside) {
    assert(range.begin >= at && range.begin < range.end);
    at = range.end;
  }
  assert(at <= static_cast<int64_t>(prompt.text.size()));
}

void render_as_format(std::string_view source, bool going_on) {
  chorus::modelfile::ChatTemplates templates;
  templates.sources.push_back({"default", std::string(source), "fuzz"});
  const auto format = ChatFormat::make(templates, "<s>", "");
  assert(format);
  ChatInput input;
  input.messages = variables().at("messages");
  input.tools = variables().at("tools");
  input.add_generation_prompt = !going_on;
  input.continue_final_message = going_on;
  const auto chat = format->render(input);
  if (!chat) return;
  check_marks(chat->prompt);
  assert(chat->message_begins.size() == input.messages.size());
  for (const int64_t begin : chat->message_begins) {
    assert(begin < static_cast<int64_t>(chat->prompt.text.size()));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 4096) return 0;
  const std::string_view source(reinterpret_cast<const char*>(data), size);
  const auto parsed = ChatTemplate::parse(source);
  if (!parsed) return 0;
  const auto prompt = parsed->render(variables(), 1'700'000'000);
  if (!prompt) return 0;
  check_marks(*prompt);
  if (size < 512) render_as_format(source, size % 2 == 1);
  return 0;
}
