// Template source from the fuzzer over fixed variables: no crash, no leak, no running away, and
// marks that lie in order inside the text.
#include <cassert>
#include <string_view>

#include "router/text/chat_template.h"

using chorus::text::ByteRange;
using chorus::text::ChatTemplate;
using chorus::text::Json;

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

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 4096) return 0;
  const auto parsed =
      ChatTemplate::parse(std::string_view(reinterpret_cast<const char*>(data), size));
  if (!parsed) return 0;
  const auto prompt = parsed->render(variables(), 1'700'000'000);
  if (!prompt) return 0;
  int64_t at = 0;
  for (const ByteRange& range : prompt->from_outside) {
    assert(range.begin >= at && range.begin < range.end);
    at = range.end;
  }
  assert(at <= static_cast<int64_t>(prompt->text.size()));
  return 0;
}
